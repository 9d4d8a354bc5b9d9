"""The parts of the benchmark against a real service with a small collection."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI

from bench import inside
from bench.dataset import Dataset, load
from bench.deck import Asking
from bench.failures import BenchError
from bench.filling import fill
from bench.opened import empty, opened_session
from bench.pace import QUICK
from bench.parts.closed import closed
from bench.parts.filters import recall_curve, selectivity
from bench.parts.writing import writing
from bench.place import Place
from bench.quality import Lexemes, read_lexemes
from bench.run import per_document
from bench.session import Load, Session, hit_share
from service.db.keys import create_key
from service.db.owner import as_owner
from service.resources import Resources
from service.settings import Settings
from tests.cli_calls import served
from tests.worker_calls import working_with

PACE = replace(QUICK, sizes=(80,), queries=120, hot=20, rounds=2, serial=10, seconds=0.2, writing=0.4)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDDING_MODEL", "hashing")
        return load(PACE.sizes[-1], queries=PACE.queries, data=None, cache=tmp_path_factory.mktemp("vectors"))


@pytest.fixture(scope="module")
async def lexemes(dataset: Dataset) -> Lexemes:
    return await read_lexemes(dataset, range(PACE.queries))


@pytest.fixture(scope="module")
async def session(
    app: FastAPI, settings: Settings, resources: Resources, dataset: Dataset, lexemes: Lexemes
) -> AsyncIterator[Session]:
    direct_url = settings.database_direct_url
    assert direct_url is not None
    async with as_owner(direct_url.get_secret_value()) as connection:
        key = await create_key(connection, "bench", "test")
    async with (
        served(app) as url,
        working_with(resources)(direct_url=direct_url.get_secret_value()),
        opened_session(Place(url, key), dataset, lexemes, PACE) as (session, client),
    ):
        await fill(client, session.collection, dataset, range(len(dataset)), vectors=True)
        yield session


async def test_closed_loops_have_recall_and_stages_of_their_own_answers(session: Session) -> None:
    loads, paired = await closed(session)
    asked = [[query for query, _ in rounds] for rounds in paired["hybrid, cold, 1 at once"]]
    hybrid = next(load for load in loads if load["label"] == "hybrid, cached, 1 at once")
    cold = next(load for load in loads if load["label"] == "hybrid, cold, 1 at once")

    assert [load["failures"] for load in loads] == [{}] * len(loads)
    assert hybrid["recall"] >= 0.99
    assert hybrid["queries"] == PACE.serial
    assert hybrid["ndcg"] == pytest.approx(hybrid["exact_ndcg"], abs=0.02)
    assert hybrid["sent"] == PACE.serial * PACE.rounds
    assert hybrid["stages"].keys() == {"embedding", "statement", "rest", "total"}
    assert (hybrid["cache_hits"], cold["cache_hits"]) == (0.0, 0.0)  # `hashing` remembers nothing, and it is said.
    assert [len(rounds) for rounds in paired.values()] == [PACE.rounds] * 4
    assert asked == [list(range(20, 30)), list(range(30, 40))]  # The same in every run, to be paired with another's.


def test_the_share_of_remembered_queries_is_of_those_that_needed_an_embedding() -> None:
    assert hit_share({"cached": 5, "computed": 5}, {"cached": 8, "computed": 6, "joined": 0}) == 0.75
    assert hit_share({"cached": 5}, {"cached": 5}) is None
    assert hit_share({}, {}) is None


async def test_a_wrong_hit_lowers_recall(session: Session) -> None:
    _, sent = await session.run(Load(count=20))
    for each in sent:
        each.hits = [*(each.hits or [])[:5], *["nobody"] * 5]

    assert session.quality.assess(sent, "hybrid")["recall"] <= 0.5


async def test_filters_and_the_widths_of_the_graph_are_assessed_against_brute_force(session: Session) -> None:
    session.pace = replace(PACE, rounds=1)
    filters, curve = await selectivity(session), await recall_curve(session)
    session.pace = PACE

    assert [load["recall"] for load in filters if load["mode"] == "semantic"] == [1.0] * 2
    assert all("recall" not in load for load in filters if load["mode"] == "hybrid")
    assert next(load for load in curve if load["label"] == "exact")["recall"] == 1.0
    assert not any(load["failures"] for load in [*filters, *curve])


async def test_documents_are_added_replaced_and_deleted_while_searches_go_on(session: Session) -> None:
    found = await writing(session, knee=60.0)

    assert {kind: each["sent"] > 0 for kind, each in found["writes"].items()} == dict.fromkeys(
        ("add", "replace", "delete"), True
    )
    assert [each["failures"] for each in found["writes"].values()] == [{}] * 3
    assert found["while_writing"]["recall"] >= 0.6  # What is written is made up as the rest is, and found beside it.
    assert found["while_writing"]["sent"] == found["alone"]["sent"] == 2 * int(30 * PACE.writing)


async def test_the_database_says_its_settings_what_it_weighs_and_how_it_searches(
    session: Session, settings: Settings, dataset: Dataset
) -> None:
    key, vector = session.place.key, dataset.query_vectors[0]
    plans = await inside.explain(settings, key, session.collection, dataset.queries[0], vector)
    chosen, sizes = await inside.read_settings(settings), await inside.read_sizes(settings)
    weight = per_document({}, sizes, documents=len(dataset))

    assert plans[0]["Execution Time"] > 0
    assert "shared_buffers" in chosen
    assert not any("password" in name or "file" in name for name in chosen)
    assert {each["kind"] for each in weight} == {"table", "index"}
    assert weight == sorted(weight, key=lambda each: -each["bytes_per_document"])
    assert (await inside.read_versions(settings)).keys() == {"postgres", "pgvector"}


def test_a_body_says_what_is_asked(dataset: Dataset) -> None:
    asking = Asking("semantic", selectivity=0.01, with_vector=True, params={"ef_search": 40})

    assert '"query"' not in asking.body(dataset, 0)
    assert '"filter":{"attributes.u":{"$lt":100}}' in asking.body(dataset, 0)
    assert '"params":{"ef_search":40}' in asking.body(dataset, 0)


def test_a_folder_that_somebody_else_has_filled_is_not_emptied(tmp_path: Path) -> None:

    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(BenchError, match="not empty"):
        empty(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
