"""Whether the lexical leg is BM25, and what its budget costs and saves."""

import asyncio
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated

import numpy as np
import orjson
import typer
from rich.console import Console
from rich.progress import track

from service.cli.address import Address, find_address
from service.cli.client import Json, open_client
from service.cli.evaluate import percentile
from service.cli.failures import CommandError
from service.cli.figures.corpus import corpus
from service.cli.figures.figure import Figure, data_folder, report
from service.cli.figures.independent import NEAR_ENOUGH, IndependentBm25, agreement, throw_away_textbook
from service.cli.figures.known import TOP, Known, filled
from service.cli.figures.search_latency import connect
from service.cli.figures.vectors import open_own_embedder
from service.cli.judged import neutral, read_judged

AGREEMENT, SHARE_OF_P95 = 0.99, 0.5
UNBOUNDED = 100_000_000  # The contract's largest budget.
FIRST_WORDS = 3
TITLES = 200
WARM_UP = 20


@dataclass(frozen=True)
class Answers:
    """What one question was answered, each with its ids and scores, and the seconds that either took."""

    bounded: Mapping[str, float]
    unbounded: Mapping[str, float]
    bounded_seconds: float
    unbounded_seconds: float


def lexical(
    *,
    collection: Annotated[str, typer.Option(help="A folder of DATA.")] = "arxiv_30k",
    questions: Annotated[
        int, typer.Option(min=1, help="How many; of titles, each whole and its first words.")
    ] = TITLES,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is asked both ways; its fastest counts.")] = 5,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the collection for the next run.")] = False,
) -> None:
    """Print how far lexical searches agree with bm25s over the same lexemes, and bounded ones with unbounded.

    Every document is one chunk, because it is sent with a vector, which no lexical search looks at. The lexemes are made
    in a Postgres that is thrown away. A judged folder is asked its own questions; another is asked titles, and its budget
    is measured too.
    """
    report(measure(collection, count=questions, rounds=rounds, keep=keep, console=Console(stderr=True)))


async def measure(collection: str, *, count: int, rounds: int, keep: bool, console: Console) -> list[Figure]:
    documents = corpus(collection, None, console=console)
    asked = questions_of(collection, documents, count=count)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_client(find_address(os.environ)))
        embedder = await stack.enter_async_context(open_own_embedder())
        vectors = np.random.default_rng(7).standard_normal((len(documents), embedder.dimension), np.float32)
        known = Known("lexical", documents, vectors, {})
        await stack.enter_async_context(filled(client, [known], keep=keep))
        answers = await asyncio.to_thread(ask_all, known.name, asked, rounds=rounds, console=console)
    independent = await agreements(documents, asked, answers)
    figures = [exactness(collection, documents, independent)]
    return figures if judged(collection) else [*figures, bounds(collection, documents, answers)]


def judged(collection: str) -> Path | None:
    folder = data_folder(collection)
    return folder if folder is not None and (folder / "qrels").is_dir() else None


def questions_of(collection: str, documents: Sequence[Json], *, count: int) -> list[str]:
    folder = judged(collection)
    if folder is not None:
        return [neutral(text) for text in list(read_judged(folder).queries.values())[:count]]
    titles = [document["title"] for document in documents if document.get("title")]
    whole = [neutral(title) for title in titles[:: max(1, len(titles) // count)][:count]]
    return [*whole, *(" ".join(title.split()[:FIRST_WORDS]) for title in whole)]


def ask_all(name: str, questions: Sequence[str], *, rounds: int, console: Console) -> list[Answers]:
    """One at a time, bounded and unbounded in turn. What else the machine does can only add to a time, so the least counts."""
    place = find_address(os.environ)
    with closing(connect(place)) as connection:
        for question in questions[:WARM_UP]:
            ask(connection, place, name, question, rounds=1)
        return [
            ask(connection, place, name, question, rounds=rounds)
            for question in track(questions, "Asking", console=console, transient=True)
        ]


def ask(connection: HTTPConnection, place: Address, name: str, question: str, *, rounds: int) -> Answers:
    bounded: Json = {"query": question, "mode": "lexical", "limit": TOP}
    unbounded = bounded | {"params": {"budget": UNBOUNDED}}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    found: dict[bool, Json] = {}
    for turn in range(2 * rounds):
        limited = bool((turn + turn // 2) % 2)  # Back and forth: who comes second finds the pages in memory.
        begun = time.perf_counter()
        found[limited] = post(connection, place, name, bounded if limited else unbounded)
        seconds[limited].append(time.perf_counter() - begun)
    return Answers(
        scores_of(found[True]),
        scores_of(found[False]),
        min(seconds[True]),
        min(seconds[False]),
    )


def post(connection: HTTPConnection, place: Address, name: str, request: Json) -> Json:
    """Blocks, with the standard library's client, which takes least for itself."""
    headers = {"Authorization": f"Bearer {place.api_key}", "Content-Type": "application/json"}
    connection.request("POST", f"/v1/collections/{name}/search", orjson.dumps(request), headers)
    response = connection.getresponse()
    answer = response.read()
    if response.status != HTTPStatus.OK:
        raise CommandError(f"A search was answered with {response.status}: {answer.decode(errors='replace')[:200]}")
    parsed: Json = orjson.loads(answer)
    return parsed


def scores_of(answer: Json) -> dict[str, float]:
    return {hit["external_id"]: hit["score"] for hit in answer["hits"]}


async def agreements(documents: Sequence[Json], questions: Sequence[str], answers: Sequence[Answers]) -> list[float]:
    """Of each unbounded answer with bm25s."""
    passages = {doc["external_id"]: f"{doc.get('title') or ''}\n{doc['text']}" for doc in documents}
    async with throw_away_textbook(passages, language="english") as textbook:
        reference = IndependentBm25(await textbook.counted())
        return [
            agreement(
                list(answer.unbounded), reference.scores(await textbook.lexemes(question)), reference.places, top=TOP
            )
            for question, answer in zip(questions, answers, strict=True)
        ]


def exactness(collection: str, documents: Sequence[Json], shares: Sequence[float]) -> Figure:
    mean = statistics.fmean(shares)
    return Figure(
        what=f"lexical top {TOP}, unbounded, against bm25s on the same lexemes, {collection}, {len(documents):,} documents",
        goal=f"≥ {AGREEMENT}",
        measured=f"{mean:.4f} ({sum(share < 1 for share in shares)} of {len(shares)} questions differ)",
        met=mean >= AGREEMENT,
    )


def bounds(collection: str, documents: Sequence[Json], answers: Sequence[Answers]) -> Figure:
    shares = [kept(answer.bounded, answer.unbounded) for answer in answers]
    if not shares:
        raise CommandError(f"{collection} has no questions: no figure.")
    mean = statistics.fmean(shares)
    fast = percentile([answer.bounded_seconds for answer in answers], 95)
    slow = percentile([answer.unbounded_seconds for answer in answers], 95)
    return Figure(
        what=f"the lexical budget: top {TOP} against unbounded, and p95 over p95, {collection}, {len(documents):,} documents",
        goal=f"≥ {AGREEMENT}; ≤ {SHARE_OF_P95}",
        measured=f"{mean:.4f}; {fast / slow:.2f} ({fast * 1e3:.1f} of {slow * 1e3:.1f} ms)",
        met=mean >= AGREEMENT and fast / slow <= SHARE_OF_P95,
    )


def kept(bounded: Mapping[str, float], unbounded: Mapping[str, float]) -> float:
    """The share of the unbounded answer that the bounded one has; what scores like its last hit is as good."""
    if not unbounded:
        return 1.0
    least = min(unbounded.values()) * (1 - NEAR_ENOUGH)
    return min(sum(score >= least for score in bounded.values()), len(unbounded)) / len(unbounded)
