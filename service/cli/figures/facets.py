"""Whether facets and the count are what a recount of the documents finds."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from service.cli.address import find_address
from service.cli.client import Json, ServiceClient, open_client
from service.cli.failures import CommandError
from service.cli.figures.corpus import corpus
from service.cli.figures.figure import Figure, data_folder, report
from service.cli.figures.independent import throw_away_textbook
from service.cli.figures.known import Known, filled
from service.cli.figures.vectors import open_own_embedder
from service.cli.judged import neutral

FACETS = ("attributes.primary_cat", "attributes.categories", "attributes.num_authors", "tags", "source")
SHOWN = 100  # Values of a facet in an answer.
PATIENT = {"timeout_ms": 60_000}  # So that counting ends, however busy the machine.
AUTHORS = 3
FILTERS: Sequence[Json | None] = (None, {"attributes.num_authors": {"$gte": AUTHORS}})


def facets(
    *,
    documents: Annotated[int, typer.Option(min=1, help="How many abstracts of DATA/arxiv_30k.")] = 5_000,
    questions: Annotated[int, typer.Option(min=1, help="How many titles are asked.")] = 50,
) -> None:
    """Print how many facet counts differ from a recount, in every mode, with a filter and without.

    A search by words is about the documents with one of its lexemes, which a Postgres that is thrown away finds again; one
    by meaning is about all that pass the filter; a hybrid one about its window, which is read to its last page.
    """
    report(measure(count=documents, questions=questions, console=Console(stderr=True)))


async def measure(*, count: int, questions: int, console: Console) -> Figure:
    if data_folder("arxiv_30k") is None:
        raise CommandError("DATA has no arxiv_30k, and facets need attributes.")
    documents = [told_twice(document) for document in corpus("arxiv_30k", count, console=console)]
    titles = [neutral(document["title"]) for document in documents[:: max(1, len(documents) // questions)]][:questions]
    passages = {each["external_id"]: f"{each.get('title') or ''}\n{each['text']}" for each in documents}
    compared: list[bool] = []
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_client(find_address(os.environ)))
        embedder = await stack.enter_async_context(open_own_embedder())
        vectors = np.random.default_rng(7).standard_normal((len(documents), embedder.dimension), np.float32)
        known = Known("facets", documents, vectors, {})
        await stack.enter_async_context(filled(client, [known], keep=False))
        textbook = await stack.enter_async_context(throw_away_textbook(passages, language="english"))
        for title in track(titles, "Asking", console=console, transient=True):
            said = set(await textbook.ranked(title))
            for filter_ in FILTERS:
                passing = {each["external_id"] for each in documents if filter_ is None or passes(each)}
                for mode, matching in (("lexical", said & passing), ("semantic", passing), ("hybrid", None)):
                    request = {"query": title, "mode": mode, "limit": 100, "filter": filter_, "params": PATIENT}
                    answer = await client.search(known.name, request | {"facets": FACETS, "include": ["count"]})
                    if matching is None:
                        matching = await window_of(client, known.name, request)  # noqa: PLW2901
                    compared.extend(comparisons(answer, [documents[known.places[name]] for name in matching]))
    wrong = len(compared) - sum(compared)
    return Figure(
        what=f"facets and counts against a recount, {len(documents):,} documents, {len(titles)} questions, "
        "lexical, semantic and hybrid, filtered and not",
        goal="exact",
        measured=f"{wrong} of {len(compared):,} differ",
        met=not wrong,
    )


def told_twice(document: Json) -> Json:
    """With tags and a source too, so that columns are counted as attributes are."""
    attributes = document["attributes"]
    return document | {"tags": attributes["categories"], "source": attributes["primary_cat"]}


def passes(document: Json) -> bool:
    return bool(document["attributes"]["num_authors"] >= AUTHORS)


async def window_of(client: ServiceClient, name: str, request: Json) -> set[str]:
    """The documents of all pages."""
    found: set[str] = set()
    cursor: str | None = None
    while True:
        answer = await client.search(name, request | ({"cursor": cursor} if cursor else {}))
        found |= {hit["external_id"] for hit in answer["hits"]}
        cursor = answer["next_cursor"]
        if cursor is None:
            return found


def comparisons(answer: Json, documents: Collection[Json]) -> Iterator[bool]:
    """Whether each facet, and the count, is what these documents say."""
    yield answer["count"]["relation"] == "eq" and answer["count"]["value"] == len(documents)
    for facet in FACETS:
        yield agrees(answer["facets"][facet], Counter(value for each in documents for value in values_of(each, facet)))


def values_of(document: Json, facet: str) -> set[object]:
    held = document["attributes"] if facet.startswith("attributes.") else document
    value = held.get(facet.removeprefix("attributes."))
    return set() if value is None else set(value) if isinstance(value, list) else {value}


def agrees(facet: Json, recount: Mapping[object, int]) -> bool:
    """Every value shown has its count, and those shown are the most frequent. Of equal ones any may be left out."""
    shown = {each["value"]: each["count"] for each in facet["values"]}
    most = sorted(recount.values(), reverse=True)[:SHOWN]
    right = all(recount.get(value) == count for value, count in shown.items())
    return facet["relation"] == "eq" and right and sorted(shown.values(), reverse=True) == most
