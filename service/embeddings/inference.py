"""The model's threads: waiting queries first and together, then passages, a slice at a time."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

from service.domain.errors import UnavailableError
from service.embeddings.base import Vector
from service.embeddings.encoder import Encoder, Purpose, Sequenced

QUERIES_TOGETHER = 16  # One pass of 16 costs about eight single ones; more would make the first wait for the last.
PASSAGES_TOGETHER = 64  # Of very short ones; the others are bounded by their tokens.
# What a query may have to wait for: ten abstracts, about .2 s. Every pass of a new shape makes its kernels first: batches
# of 240 passages ran at 118 a second in slices of 1,024 tokens and at 138 in slices of 2,048 (measured).
SLICE_TOKENS = 2048
CLOSED = "The embedder is closed."


@dataclass(frozen=True, slots=True)
class _Waiting:
    sequence: Sequenced
    vector: Future[Vector] = field(default_factory=Future)


class Inference:
    """Runs an encoder in its own threads. Every sequence has its own future, so cancelling one touches no other."""

    def __init__(self, encoder: Encoder, *, threads: int) -> None:
        self._encoder = encoder
        self._queries: deque[_Waiting] = deque()
        self._passages: deque[_Waiting] = deque()
        self._lock = Lock()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="embedder")

    def submit(self, sequences: Sequence[Sequenced], *, purpose: Purpose) -> list[Future[Vector]]:
        """The sequences' vectors, as they come; passages cost least when they arrive sorted by length."""
        waiting = [_Waiting(sequence) for sequence in sequences]
        (self._queries if purpose == "query" else self._passages).extend(waiting)
        try:
            # One step for each sequence: each takes at least one while any waits, so none is forgotten, and a step
            # that finds nothing costs microseconds.
            for _ in waiting:
                self._executor.submit(self._step)
        except RuntimeError as error:  # The executor's word for shut down.
            self._drop_waiting()
            raise UnavailableError(CLOSED) from error
        return [each.vector for each in waiting]

    def close(self) -> None:
        """Waits for the passes that are running; what still waits fails with `UnavailableError`."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._drop_waiting()
        self._executor.shutdown(wait=True)

    def _step(self) -> None:
        if queries := self._take(self._queries, most=QUERIES_TOGETHER):
            self._run(queries, purpose="query")
        elif passages := self._take(self._passages, most=PASSAGES_TOGETHER):
            self._run(passages, purpose="passage")

    def _take(self, waiting: deque[_Waiting], *, most: int) -> list[_Waiting]:
        batch: list[_Waiting] = []
        longest = 0
        with self._lock:
            while waiting and len(batch) < most:
                longest = max(longest, len(waiting[0].sequence.ids))
                if batch and longest * (len(batch) + 1) > SLICE_TOKENS:
                    break
                each = waiting.popleft()
                if each.vector.set_running_or_notify_cancel():
                    batch.append(each)
        return batch

    def _run(self, batch: list[_Waiting], *, purpose: Purpose) -> None:
        try:
            vectors = self._encoder.encode([each.sequence for each in batch], purpose=purpose)
        except Exception as error:  # noqa: BLE001 - whatever the runtime raises, the callers hear one word for it
            failure = UnavailableError(f"The embedding model failed: {error}")
            failure.__cause__ = error
            for each in batch:
                each.vector.set_exception(failure)
            return
        for each, vector in zip(batch, vectors, strict=True):
            own = vector.copy()  # A cached row must not keep its whole batch alive.
            own.flags.writeable = False  # Callers share it.
            each.vector.set_result(own)

    def _drop_waiting(self) -> None:
        with self._lock:
            for waiting in (self._queries, self._passages):
                while waiting:
                    each = waiting.popleft()
                    if each.vector.set_running_or_notify_cancel():
                        each.vector.set_exception(UnavailableError(CLOSED))
