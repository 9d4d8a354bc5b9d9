"""A cross-encoder of sentence-transformers: question and passage go through the model together."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from sentence_transformers import CrossEncoder
from torch import nn

from service.domain.errors import OverloadedError, UnavailableError

# The longest passages first, so that little is padding; a slice for each thread, so that a search alone has all of them.
PAIRS_TOGETHER = 16
SEARCHES_WAITING = 16  # Of 150 passages each, that is a minute of work for one core already.


class WrongModelError(Exception):
    """The model gives no single score for a pair."""


class CrossEncoderReranker:
    """One process's reranker, in `threads` threads of its own. Belongs to the event loop that first uses it."""

    def __init__(
        self, model: str, *, name: str, threads: int, offline: bool, searches_waiting: int = SEARCHES_WAITING
    ) -> None:
        """Blocks while the model loads, and raises whatever the library raises."""
        self.name = name
        # The library's default would take the model's own, and those trained on MS MARCO say raw logits.
        self._model = CrossEncoder(model, device="cpu", local_files_only=offline, activation_fn=nn.Sigmoid())
        if self._model.num_labels != 1:
            raise WrongModelError(f"it gives {self._model.num_labels} scores for a pair, a reranker gives one")
        self._searches_waiting = searches_waiting
        self._searches = 0
        self._closed = False
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="reranker")
        # The first call tells the tokenizer how to cut and pad: afterwards any number of threads may share it.
        self._read([("one", "or two")])

    async def score(self, question: str, passages: Sequence[str]) -> Sequence[float]:
        if self._closed:
            raise UnavailableError("The reranker is closed.")
        if self._searches >= self._searches_waiting:
            raise OverloadedError("Too many searches are waiting for the reranker.")
        order = sorted(range(len(passages)), key=lambda at: len(passages[at]), reverse=True)
        slices = [order[at : at + PAIRS_TOGETHER] for at in range(0, len(order), PAIRS_TOGETHER)]
        read = [self._executor.submit(self._read, [(question, passages[at]) for at in each]) for each in slices]
        scores = np.empty(len(passages))
        self._searches += 1
        try:
            for each, part in zip(slices, read, strict=True):
                found = await asyncio.wrap_future(part)
                scores[each] = found
        finally:
            self._searches -= 1
            for part in read:  # Whoever left, or failed, needs no more of them.
                part.cancel()
        return [float(score) for score in scores]

    async def close(self) -> None:
        """Waits for the slices that are running; what still waits fails with `UnavailableError`."""
        self._closed = True
        await asyncio.to_thread(self._executor.shutdown)

    def _read(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        if self._closed:
            raise UnavailableError("The reranker is closed.")
        try:
            scores = self._model.predict(pairs, batch_size=len(pairs), show_progress_bar=False)
        except Exception as error:
            raise UnavailableError(f"The reranker failed: {error}") from error
        if not np.isfinite(scores).all():
            raise UnavailableError("The reranker failed: its scores are no numbers.")
        return np.asarray(scores, np.float64)
