"""How queries and passages share the model's threads, with an encoder whose passes a test can hold and count."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from service.domain.errors import OverloadedError, UnavailableError
from service.embeddings.base import Matrix
from service.embeddings.encoder import Purpose, Sequenced
from service.embeddings.hashing import HashingEmbedder
from service.embeddings.sentence_transformer import SentenceTransformerEmbedder

Started = TypeVar("Started")


class HeldEncoder:
    """A real, if simple-minded, encoder: hashed vectors, one pass at a time when `gate` is closed."""

    name, dimension, max_tokens = "held", 384, 256

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.passes: list[tuple[Purpose, list[str]]] = []
        self._hashing = HashingEmbedder()

    def count_tokens(self, text: str) -> int:
        return self._hashing.count_tokens(text)

    def token_starts(self, text: str) -> Sequence[int]:
        return self._hashing.token_starts(text)

    def tokenize(self, texts: Sequence[str]) -> list[Sequenced]:
        return [Sequenced(text, range(min(self.count_tokens(text), self.max_tokens))) for text in texts]

    def encode(self, batch: Sequence[Sequenced], *, purpose: Purpose) -> Matrix:
        texts = [sequence.text for sequence in batch]
        self.passes.append((purpose, texts))
        assert self.gate.wait(60)
        if "poison" in texts:
            raise RuntimeError("bad day")
        return self._hashing._embed(texts)


def make_embedder(encoder: HeldEncoder, *, queries_cached: int = 100) -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(encoder, threads=1, queries_cached=queries_cached, queries_waiting=20)


async def until_running(encoder: HeldEncoder, passes: int) -> None:
    async with asyncio.timeout(60):
        while len(encoder.passes) < passes:  # noqa: ASYNC110 - the passes run in threads, which set no asyncio.Event
            await asyncio.sleep(0.001)


async def started(work: Coroutine[Any, Any, Started]) -> asyncio.Task[Started]:
    task = asyncio.create_task(work)
    await asyncio.sleep(0.01)
    return task


async def test_a_repeated_query_is_not_computed_again_and_white_space_does_not_matter() -> None:
    encoder = HeldEncoder()
    embedder = make_embedder(encoder)

    vectors = [await embedder.embed_query(text) for text in ("growling bear", " growling\n bear ", "growling bear")]

    assert encoder.passes == [("query", ["growling bear"])]
    assert all(vector is vectors[0] and not vector.flags.writeable for vector in vectors)


async def test_the_query_that_was_used_longest_ago_leaves_the_cache() -> None:
    encoder = HeldEncoder()
    embedder = make_embedder(encoder, queries_cached=2)

    for text in ("a", "b", "a", "c", "a", "b"):
        await embedder.embed_query(text)

    assert [texts for _, texts in encoder.passes] == [["a"], ["b"], ["c"], ["b"]]


async def test_the_same_query_asked_at_once_is_computed_once_even_when_the_first_asker_leaves() -> None:
    encoder = HeldEncoder()
    encoder.gate.clear()
    embedder = make_embedder(encoder)
    first = await started(embedder.embed_query("bear"))
    others = [await started(embedder.embed_query("bear")) for _ in range(3)]

    first.cancel()
    await asyncio.sleep(0.01)
    encoder.gate.set()
    await asyncio.gather(*others)

    assert first.cancelled()
    assert encoder.passes == [("query", ["bear"])]


async def test_waiting_queries_share_a_pass_and_go_before_waiting_passages() -> None:
    encoder = HeldEncoder()
    encoder.gate.clear()
    embedder = make_embedder(encoder)
    passages = await started(embedder.embed_passages(["word " * 250] * 17))
    await until_running(encoder, 1)

    queries = [await started(embedder.embed_query(f"query {at}")) for at in range(18)]
    encoder.gate.set()
    await asyncio.gather(passages, *queries)

    assert [(purpose, len(texts)) for purpose, texts in encoder.passes] == [
        ("passage", 8),
        ("query", 16),
        ("query", 2),
        ("passage", 8),
        ("passage", 1),
    ]


async def test_a_caller_who_leaves_takes_only_their_own_passages_along() -> None:
    encoder = HeldEncoder()
    encoder.gate.clear()
    embedder = make_embedder(encoder)
    blocker = await started(embedder.embed_passages(["word " * 250] * 4))
    await until_running(encoder, 1)
    leaving = await started(embedder.embed_passages(["left one", "left two"]))
    staying = await started(embedder.embed_passages(["kept"]))

    leaving.cancel()
    await asyncio.sleep(0.01)
    encoder.gate.set()
    await blocker

    assert (await staying)[0].tolist() == (await embedder.embed_query("kept")).tolist()
    assert encoder.passes[1] == ("passage", ["kept"])


async def test_cancelling_while_the_pass_runs_disturbs_nobody_in_it() -> None:
    encoder = HeldEncoder()
    encoder.gate.clear()
    embedder = make_embedder(encoder)
    leaving = await started(embedder.embed_passages(["left"]))
    await until_running(encoder, 1)

    leaving.cancel()
    staying = await started(embedder.embed_passages(["kept"]))
    encoder.gate.set()

    assert (await staying).shape == (1, 384)
    assert leaving.cancelled()


async def test_more_waiting_queries_than_allowed_are_refused_and_known_ones_are_not() -> None:
    encoder = HeldEncoder()
    embedder = make_embedder(encoder)
    await embedder.embed_query("known")
    encoder.gate.clear()
    waiting = [await started(embedder.embed_query(f"query {at}")) for at in range(20)]

    with pytest.raises(OverloadedError, match="waiting"):
        await embedder.embed_query("one too many")
    await embedder.embed_query("known")
    joined = await started(embedder.embed_query("query 3"))

    encoder.gate.set()
    await asyncio.gather(*waiting, joined)
    await embedder.embed_query("one too many")


async def test_a_failing_pass_is_unavailable_and_the_next_one_works() -> None:
    encoder = HeldEncoder()
    embedder = make_embedder(encoder)

    with pytest.raises(UnavailableError, match="bad day"):
        await embedder.embed_query("poison")
    with pytest.raises(UnavailableError, match="bad day"):
        await embedder.embed_passages(["fine", "poison"])

    assert (await embedder.embed_query("fine")).shape == (384,)


async def test_closing_lets_the_running_pass_end_and_fails_what_waits() -> None:
    encoder = HeldEncoder()
    encoder.gate.clear()
    embedder = make_embedder(encoder)
    running = await started(embedder.embed_query("running"))
    await until_running(encoder, 1)
    waiting = await started(embedder.embed_passages(["waiting"]))

    closing = await started(embedder.close())
    async with asyncio.timeout(60):
        while embedder.load().waiting_passages:  # noqa: ASYNC110 - dropped by the thread that closes
            await asyncio.sleep(0.001)
    encoder.gate.set()
    await closing

    assert (await running).shape == (384,)
    with pytest.raises(UnavailableError, match="closed"):
        await waiting
    with pytest.raises(UnavailableError, match="closed"):
        await embedder.embed_query("late")


async def test_each_thread_runs_a_pass_of_its_own() -> None:
    encoder = HeldEncoder()
    encoder.gate.clear()
    embedder = SentenceTransformerEmbedder(encoder, threads=3, queries_cached=0)

    work = await started(embedder.embed_passages(["word " * 250] * 24))
    await until_running(encoder, 3)
    began = time.perf_counter()
    encoder.gate.set()
    await work

    assert [len(texts) for _, texts in encoder.passes] == [8, 8, 8]
    assert time.perf_counter() - began < 5
