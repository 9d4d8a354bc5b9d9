"""The model's threads: waiting queries first and together, then passages, a slice at a time."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from threading import Lock

import numpy as np

from service.domain.errors import UnavailableError
from service.embeddings.base import Matrix
from service.embeddings.encoder import Encoder, Purpose, Sequenced

QUERIES_TOGETHER = 16  # One pass of 16 costs about eight single ones; more would make the first wait for the last.
PASSAGES_TOGETHER = 64  # Of very short ones; the others are bounded by their tokens.
# What a query may have to wait for: ten abstracts, about .2 s. Every pass of a new shape makes its kernels first: batches
# of 240 passages ran at 118 a second in slices of 1,024 tokens and at 138 in slices of 2,048 (measured).
SLICE_TOKENS = 2048
CLOSED = "The embedder is closed."


class _Asked:
    """One caller's texts, and their vectors as the passes bring them: one wake-up of the event loop a call, not a text."""

    def __init__(self, sequences: Sequence[Sequenced], *, dimension: int) -> None:
        self.sequences = sequences
        self.vectors: Matrix = np.empty((len(sequences), dimension), np.float32)
        self.missing = len(sequences)
        self.answer: Future[Matrix] = Future()
        self._ending = Lock()

    def end(self, outcome: Matrix | Exception) -> None:
        """Whoever left gets nothing; the first failure is the answer."""
        with self._ending:
            if self.answer.done() or not self.answer.set_running_or_notify_cancel():
                return
            if isinstance(outcome, Exception):
                self.answer.set_exception(outcome)
            else:
                self.answer.set_result(outcome)


_Waiting = tuple[_Asked, int]
"""A caller and which of their sequences."""


class Inference:
    """Runs an encoder in its own threads. Callers share passes, and cancelling one touches no other."""

    def __init__(self, encoder: Encoder, *, threads: int, queries_together: int = QUERIES_TOGETHER) -> None:
        self._encoder = encoder
        self._queries_together = queries_together
        self._queries: deque[_Waiting] = deque()
        self._passages: deque[_Waiting] = deque()
        self._lock = Lock()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="embedder")

    def submit(self, sequences: Sequence[Sequenced], *, purpose: Purpose) -> Future[Matrix]:
        """One row a sequence, in their order; passages cost least when they arrive sorted by length."""
        asked = _Asked(sequences, dimension=self._encoder.dimension)
        if not sequences:
            asked.end(asked.vectors)
            return asked.answer
        with self._lock:
            (self._queries if purpose == "query" else self._passages).extend(
                (asked, at) for at in range(len(sequences))
            )
        try:
            # One step for each sequence: each takes at least one while any waits, so none is forgotten, and a step
            # that finds nothing costs microseconds.
            for _ in sequences:
                self._executor.submit(self._step)
        except RuntimeError as error:  # The executor's word for shut down.
            self._drop_waiting()
            raise UnavailableError(CLOSED) from error
        return asked.answer

    def waiting(self) -> tuple[int, int]:
        """Queries and passages that no pass has taken yet."""
        return len(self._queries), len(self._passages)

    def close(self) -> None:
        """Waits for the passes that are running; what still waits fails with `UnavailableError`."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._drop_waiting()
        self._executor.shutdown(wait=True)

    def _step(self) -> None:
        if queries := self._take(self._queries, most=self._queries_together):
            self._run(queries, purpose="query")
        elif passages := self._take(self._passages, most=PASSAGES_TOGETHER):
            self._run(passages, purpose="passage")

    def _take(self, waiting: deque[_Waiting], *, most: int) -> list[_Waiting]:
        batch: list[_Waiting] = []
        longest = 0
        with self._lock:
            while waiting and len(batch) < most:
                asked, at = waiting[0]
                longest = max(longest, len(asked.sequences[at].ids))
                if batch and longest * (len(batch) + 1) > SLICE_TOKENS:
                    break
                waiting.popleft()
                if not asked.answer.done():
                    batch.append((asked, at))
        return batch

    def _run(self, batch: list[_Waiting], *, purpose: Purpose) -> None:
        try:
            vectors = self._encoder.encode([asked.sequences[at] for asked, at in batch], purpose=purpose)
        except Exception as error:  # noqa: BLE001 - whatever the runtime raises, the callers hear one word for it
            failure = UnavailableError(f"The embedding model failed: {error}")
            failure.__cause__ = error
            for asked in {asked for asked, _ in batch}:
                asked.end(failure)
            return
        row = 0
        for asked, group in groupby(batch, key=lambda each: each[0]):
            places = [at for _, at in group]
            asked.vectors[places] = vectors[row : row + len(places)]
            row += len(places)
            with self._lock:
                asked.missing -= len(places)
                complete = asked.missing == 0
            if complete:
                asked.end(asked.vectors)

    def _drop_waiting(self) -> None:
        with self._lock:
            dropped = {asked for waiting in (self._queries, self._passages) for asked, _ in waiting}
            self._queries.clear()
            self._passages.clear()
        for asked in dropped:
            asked.end(UnavailableError(CLOSED))
