"""How much the fast runtime of the embedding model gains over torch in float32, and what micro-batching gains on it."""

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from service.cli.failures import CommandError
from service.cli.figures.corpus import corpus
from service.cli.figures.figure import Figure, data_folder, report
from service.cli.figures.vectors import MODEL, embedded, whole_passages
from service.cli.judged import Judged, neutral, read_judged
from service.cli.judged import measure as measure_ranking
from service.domain.errors import ServiceError
from service.embeddings.base import Embedder, Matrix
from service.embeddings.encoder import Encoder, Precision, Runtime
from service.embeddings.inference import QUERIES_TOGETHER
from service.embeddings.loading import open_encoder, usable_cores
from service.embeddings.sentence_transformer import SentenceTransformerEmbedder

QUERY_SHARE, PASSAGE_GAIN, NDCG_CHANGE, BATCH_GAIN = 0.36, 3.0, 0.003, 1.8
QUESTIONS, PASSAGES = 60, 64  # A round's, of the collection's own lengths.
CONCURRENCY, ASKED, LEG = 32, 512, 100

Named = Mapping[str, SentenceTransformerEmbedder]


@dataclass
class Times:
    """Of each embedder by name, one number a round."""

    query: dict[str, list[float]] = field(default_factory=dict)
    passages: dict[str, list[float]] = field(default_factory=dict)
    together: dict[str, list[float]] = field(default_factory=dict)


def embedding(
    *,
    collection: Annotated[str, typer.Option(help="A judged folder of DATA.")] = "cranfield",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, in each of which everything is timed in turn.")] = 5,
    runtime: Annotated[str, typer.Option(help="The one held against torch: auto, openvino.")] = "auto",
    precision: Annotated[str, typer.Option(help="Its numbers: auto, float32, bfloat16, int8.")] = "auto",
) -> None:
    """Print the fast embedding over torch in float32, and micro-batched over unbatched queries. Needs no service.

    Both run EMBEDDING_MODEL in this process, a pass on one core; queries one at a time, passages as the worker sends
    them. nDCG@10 is of exact cosines over the whole collection, with the questions and documents of either runtime.
    """
    report(measure(collection, rounds=rounds, runtime=runtime, precision=precision, console=Console(stderr=True)))


async def measure(name: str, *, rounds: int, runtime: str, precision: str, console: Console) -> list[Figure]:
    folder = data_folder(name)
    if folder is None:
        raise CommandError(f"DATA has no {name}, and nDCG needs judgements.")
    judged, documents = read_judged(folder), corpus(name, None, console=console)
    fast, torch = open_both(runtime, precision)
    questions = [neutral(text) for text in judged.queries.values()]
    async with AsyncExitStack() as stack:
        alone = {
            each: await stack.enter_async_context(opened(encoder, threads=1))
            for each, encoder in (("fast", fast), ("torch", torch), ("fast again", fast))
        }
        batches = {
            each: await stack.enter_async_context(opened(fast, together=together))
            for each, together in (("together", QUERIES_TOGETHER), ("one by one", 1))
        }
        passages = whole_passages(documents, alone["fast"])
        times = await time_all(alone, batches, questions, passages, rounds=rounds)
    print_noise(times, console=console)
    vectors = {}
    for each, encoder in (("fast", fast), ("torch", torch)):
        async with opened(encoder) as embedder:
            vectors[each] = await both_sides(questions, passages, embedder, console=console)
    scores = ranked_by(vectors, judged, [document["external_id"] for document in documents])
    return [*speed(times, type(fast).__name__), quality(scores, vectors, name), batching(times)]


def open_both(runtime: str, precision: str) -> tuple[Encoder, Encoder]:
    model = os.environ.get("EMBEDDING_MODEL") or MODEL
    runtimes: Mapping[str, Runtime] = {"auto": "auto", "openvino": "openvino", "torch": "torch"}
    precisions: Mapping[str, Precision] = {"auto": "auto", "float32": "float32", "bfloat16": "bfloat16", "int8": "int8"}
    if runtime not in runtimes or precision not in precisions:
        raise CommandError(f"There is no runtime {runtime!r} with the precision {precision!r}.")
    try:
        return (
            open_encoder(model, runtime=runtimes[runtime], precision=precisions[precision], threads=usable_cores()),
            open_encoder(model, runtime="torch", precision="float32"),
        )
    except ServiceError as error:
        raise CommandError(str(error)) from None


@asynccontextmanager
async def opened(
    encoder: Encoder, *, threads: int | None = None, together: int = QUERIES_TOGETHER
) -> AsyncIterator[SentenceTransformerEmbedder]:
    """Remembers no query, so that each is computed."""
    threads = threads or usable_cores()
    embedder = SentenceTransformerEmbedder(encoder, threads=threads, queries_cached=0, queries_together=together)
    try:
        yield embedder
    finally:
        await embedder.close()


async def time_all(
    alone: Named, batches: Named, questions: Sequence[str], passages: Sequence[str], *, rounds: int
) -> Times:
    """One round more than is asked for, the first of which only makes kernels."""
    times = Times()
    for number in range(rounds + 1):
        asked = cut(questions, QUESTIONS, number=number)
        sent = cut(passages, PASSAGES, number=number)
        for name in turned(list(alone), number):
            query, rate = await seconds_a_query(asked, alone[name]), await passages_a_second(sent, alone[name])
            times.query.setdefault(name, []).append(query)
            times.passages.setdefault(name, []).append(rate)
        for name in turned(list(batches), number):
            times.together.setdefault(name, []).append(await queries_a_second(questions, batches[name]))
    for table in (times.query, times.passages, times.together):
        for measured in table.values():
            del measured[0]
    return times


def cut(texts: Sequence[str], count: int, *, number: int) -> list[str]:
    """The same for everybody in a round, and others in the next."""
    return [texts[(number * count + at) % len(texts)] for at in range(count)]


def turned(names: list[str], number: int) -> list[str]:
    """There and back: whoever comes second finds another machine than whoever came first."""
    return names if number % 2 else names[::-1]


async def seconds_a_query(questions: Sequence[str], embedder: Embedder) -> float:
    seconds = []
    for question in questions:
        begun = time.perf_counter()
        await embedder.embed_query(question)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


async def passages_a_second(passages: Sequence[str], embedder: Embedder) -> float:
    begun = time.perf_counter()
    await embedder.embed_passages(passages)
    return len(passages) / (time.perf_counter() - begun)


async def queries_a_second(questions: Sequence[str], embedder: Embedder) -> float:
    """Each caller asks the next when it has its answer; a number makes every question a new one."""
    waiting = iter(f"{questions[number % len(questions)]} {number}" for number in range(ASKED))

    async def ask() -> None:
        for question in waiting:
            await embedder.embed_query(question)

    begun = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(CONCURRENCY)))
    return ASKED / (time.perf_counter() - begun)


async def both_sides(
    questions: Sequence[str], passages: Sequence[str], embedder: Embedder, *, console: Console
) -> tuple[Matrix, Matrix]:
    asked = np.stack([await embedder.embed_query(question) for question in questions])
    return asked, await embedded(passages, embedder=embedder, console=console)


def ranked_by(
    vectors: Mapping[str, tuple[Matrix, Matrix]], judged: Judged, names: Sequence[str]
) -> dict[tuple[str, str], float]:
    """nDCG@10 by whose questions and whose documents."""
    scores = {}
    for asking, (questions, _) in vectors.items():
        for kept, (_, documents) in vectors.items():
            order = np.argsort(-(questions @ documents.T), axis=1, kind="stable")[:, :LEG]
            ranked = {
                query: [names[at] for at in row] for query, row in zip(judged.queries, order.tolist(), strict=True)
            }
            scores[asking, kept] = measure_ranking(judged.qrels, ranked)[0]
    return scores


def ratio(table: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    return statistics.median(table[one]) / statistics.median(table[other])


def print_noise(times: Times, *, console: Console) -> None:
    console.print(
        f"A/A, the fast one over itself: query p50 {ratio(times.query, 'fast again', 'fast'):.3f}, "
        f"passages/s {ratio(times.passages, 'fast again', 'fast'):.3f}."
    )


def speed(times: Times, encoder: str) -> list[Figure]:
    share, gain = ratio(times.query, "fast", "torch"), ratio(times.passages, "fast", "torch")
    query, passages = (
        {name: statistics.median(rounds) for name, rounds in table.items()} for table in (times.query, times.passages)
    )
    return [
        Figure(
            what=f"query p50 of {encoder} over torch float32, one core",
            goal=f"≤ {QUERY_SHARE}",
            measured=f"{share:.2f} ({query['fast'] * 1e3:.2f} of {query['torch'] * 1e3:.2f} ms)",
            met=share <= QUERY_SHARE,
        ),
        Figure(
            what=f"passages a second of {encoder} over torch float32, one core",
            goal=f"≥ {PASSAGE_GAIN:g}",
            measured=f"{gain:.2f} ({passages['fast']:.0f} of {passages['torch']:.0f})",
            met=gain >= PASSAGE_GAIN,
        ),
    ]


def quality(scores: Mapping[tuple[str, str], float], vectors: Mapping[str, tuple[Matrix, Matrix]], name: str) -> Figure:
    base = scores["torch", "torch"]
    changes = {pair: score - base for pair, score in scores.items() if pair != ("torch", "torch")}
    cosine = min(
        float(np.sum(fast * torch, axis=1).min()) for fast, torch in zip(vectors["fast"], vectors["torch"], strict=True)
    )
    return Figure(
        what=f"nDCG@10 change, {name}, exact: all fast; fast questions on torch's documents; the other way round",
        goal=f"each within {NDCG_CHANGE}",
        measured=f"{changes['fast', 'fast']:+.4f}; {changes['fast', 'torch']:+.4f}; {changes['torch', 'fast']:+.4f} "
        f"(of {base:.4f}; least cosine {cosine:.5f})",
        met=all(abs(change) <= NDCG_CHANGE for change in changes.values()),
    )


def batching(times: Times) -> Figure:
    gain = ratio(times.together, "together", "one by one")
    rates = {name: statistics.median(rounds) for name, rounds in times.together.items()}
    return Figure(
        what=f"micro-batched over unbatched queries a second, concurrency {CONCURRENCY}, {usable_cores()} threads",
        goal=f"≥ {BATCH_GAIN}",
        measured=f"{gain:.2f} ({rates['together']:,.0f} over {rates['one by one']:,.0f})",
        met=gain >= BATCH_GAIN,
    )
