"""The figures of recall: their own arithmetic against a second one, then each against a service with a small library."""

import gzip
import json
import os
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from rich.console import Console

from service.cli.address import find_address
from service.cli.client import open_client
from service.cli.failures import CommandError
from service.cli.figures import filtered_latency, filtered_recall, served_top
from service.cli.figures.exact_ranking import ExactBm25, ExactSearch, Ranked
from service.cli.figures.filtered import Question, copied, described, read_questions
from service.cli.figures.known import Known, Outcome, filled
from service.cli.figures.points import DECLARED, FAR_SHARES, SHARES, Condition, Filters, Given
from service.cli.figures.texts import made_up_documents
from service.cli.figures.vectors import as_kept, cached_vectors, whole_passages
from service.db.textbook import Counted
from service.domain.errors import UnavailableError
from service.embeddings.hashing import HashingEmbedder
from service.resources import Resources
from tests import search_oracle
from tests.api_calls import Api
from tests.cli_calls import served
from tests.filter_oracle import Oracle
from tests.search_calls import direct_url, directions, halves
from tests.worker_calls import Working

QUIET = Console(quiet=True)
GIVEN = (
    Given("doi_present", (Condition("doi", "not_null", value=True),)),
    Given("year", (Condition("created", ">=", "1995-01-01"), Condition("created", "<=", "1999-12-31"))),
    Given("categories_contains", (Condition("categories", "contains", "category-3"),)),
    Given("other", (Condition("primary_cat", "=", "category-4"), Condition("num_authors", ">=", 3))),
)


def known(count: int = 400) -> Known:
    """Documents whose vectors have nothing to do with their texts, which is all the same here."""
    vectors = directions(count, seed=3)
    documents = described(made_up_documents(count, words=5), vectors)
    for document in documents[::3]:
        document["attributes"]["doi"] = "10.1/2"
    return Known("test", documents, vectors, DECLARED)


def test_every_filter_leaves_the_documents_that_it_means() -> None:
    library, oracle = known(), Oracle(DECLARED)
    points = list(Filters(library).points(directions(1, seed=4)[0], GIVEN))

    assert [(point.kind, point.filter is None) for point in points].count(("none", True)) == 1
    assert len({(point.kind, point.label) for point in points}) == 1 + 2 * len(SHARES) + len(FAR_SHARES) + len(GIVEN)
    for point in points:
        meant = [oracle.matches(point.filter or {}, document) for document in library.documents]
        assert point.matches.tolist() == meant, point.filter
        assert point.kind != "reference" or 0 < sum(meant) < len(meant), point.filter


def test_a_filter_leaves_about_the_share_that_its_label_says() -> None:
    library = known(4_000)
    points = {(point.kind, point.label): point for point in Filters(library).points(directions(1, seed=4)[0])}

    for share in SHARES:
        for kind in ("single", "conjunctive"):
            assert points[kind, f"{share:.2%}"].matches.mean() == pytest.approx(share, rel=0.35, abs=0.001)
    for share in FAR_SHARES:
        assert share <= points["far", f"{share:.2%}"].matches.mean() < share + 0.15


def test_a_conjunction_needs_all_three_of_its_attributes() -> None:
    library, oracle = known(4_000), Oracle(DECLARED)
    point = Filters(library).conjunctive(0.1)

    assert point.filter is not None
    for name in point.filter:
        fewer = {other: operand for other, operand in point.filter.items() if other != name}
        left = sum(oracle.matches(fewer, document) for document in library.documents)
        assert left > point.matches.sum() * 1.3, name


def test_the_far_categories_are_those_whose_means_are_farthest() -> None:
    library, question = known(), directions(1, seed=5)[0]
    point = Filters(library).far(question, 0.2)
    category = np.array([document["attributes"]["primary_cat"] for document in library.documents])
    unit = library.kept.astype(np.float64)
    near = {}
    for name in set(category.tolist()):
        mean = unit[category == name].mean(axis=0)
        near[name] = float(mean / np.linalg.norm(mean) @ question)

    assert point.filter is not None
    chosen = point.filter["attributes.primary_cat"]["$in"]
    assert chosen == sorted(near, key=lambda name: near[name])[: len(chosen)]


def test_hits_are_worth_what_the_exact_answer_says() -> None:
    cosines = np.array([0.9, 0.8, 0.7, 0.7 - 5e-7, 0.6, *[0.1] * 20], np.float32)
    matches = np.array([True, False, *[True] * 23])
    places = {str(place): place for place in range(25)}

    def outcome(*hits: int, allowed: Any = matches) -> tuple[int, int, int, int]:
        found = Outcome.of([str(hit) for hit in hits], cosines=cosines, matches=allowed, places=places)
        return found.exist, found.right, found.wrong, found.missing

    assert outcome(0, 2, 3, 4, 5, 6, 7, 8, 9, 10) == (10, 10, 0, 0)
    assert outcome(0, 2, 3, 4, 15, 16, 17, 18, 19, 20) == (10, 10, 0, 0)  # Equal to the tenth.
    assert outcome(0, 1, 2, 3, 4, 5, 6, 7, 8, 9) == (10, 9, 1, 0)  # The second is filtered out.
    assert outcome(0, 0, 2, 3, 4, 5, 6, 7, 8, 9) == (10, 9, 1, 0)  # Twice the same.
    assert outcome(0, 2) == (10, 2, 0, 8)
    few = np.array([False, False, True, False, True, *[False] * 20])
    assert outcome(2, 4, allowed=few) == (2, 2, 0, 0)
    assert outcome(2, allowed=few) == (2, 1, 0, 1)
    assert outcome(allowed=np.zeros(25, np.bool_)) == (0, 0, 0, 0)
    assert outcome(7, allowed=np.zeros(25, np.bool_)) == (0, 0, 1, 0)


def test_vectors_are_compared_as_the_service_keeps_them() -> None:
    vectors = directions(50, seed=6)

    assert np.array_equal(as_kept(vectors), halves(vectors))


def test_a_copy_has_neighbours_near_those_of_the_original() -> None:
    library = known()
    copy = copied(library, 100, seed=1)
    places = [library.places[document["external_id"]] for document in copy.documents]
    cosines = (copy.kept * library.kept[places]).sum(axis=1)

    assert len(set(places)) == 100
    assert 0.9 < cosines.min() < 1
    assert copy.name != copied(library, 100, seed=2).name


async def test_vectors_are_computed_once(tmp_path: Path) -> None:
    embedder = HashingEmbedder()
    passages = whole_passages(made_up_documents(20), embedder)
    first = await cached_vectors(passages, embedder=embedder, folder=tmp_path, console=QUIET)
    await embedder.close()

    assert np.array_equal(first, await cached_vectors(passages, embedder=embedder, folder=tmp_path, console=QUIET))
    with pytest.raises(UnavailableError):
        await cached_vectors([*passages, "one more"], embedder=embedder, folder=tmp_path, console=QUIET)


def counted(chunks: dict[str, Counter[str]]) -> list[Counted]:
    return [Counted(name, list(chunk), list(chunk.values())) for name, chunk in chunks.items()]


def passages_of(count: int) -> dict[str, Counter[str]]:
    chance = np.random.default_rng(1)
    lengths = chance.integers(1, 40, count)
    return {f"{n:04}": Counter(map(str, chance.geometric(0.1, length))) for n, length in enumerate(lengths)}


def test_every_passage_has_the_bm25_of_a_second_implementation() -> None:
    chunks = passages_of(300)
    average = sum(chunk.total() for chunk in chunks.values()) / len(chunks)
    question = ["1", "3", "17", "25", "never said"]
    expected = search_oracle.bm25(question, chunks, average=average)

    scores = ExactBm25(counted(chunks)).scores(question)

    assert dict(zip(chunks, scores.tolist(), strict=True)) == pytest.approx(dict.fromkeys(chunks, 0.0) | expected)


def test_a_hybrid_ranking_is_that_of_the_contract() -> None:
    chunks = passages_of(700)  # More than both windows hold.
    vectors, question, words = directions(700, seed=7), directions(1, seed=8)[0], ["2", "9", "30"]
    vectors, question = (each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (vectors, question))
    search = ExactSearch(list(chunks), ExactBm25(counted(chunks)), vectors)
    average = sum(chunk.total() for chunk in chunks.values()) / len(chunks)
    lexical = search_oracle.bm25(words, chunks, average=average)
    semantic = dict(zip(chunks, (vectors @ question).tolist(), strict=True))
    expected = search_oracle.linear(lexical, semantic)

    ranked = search.ranked("hybrid", lexemes=words, vector=question)

    assert ranked.scores == pytest.approx(expected, abs=1e-6)
    assert ranked.first(10) == sorted(expected, key=lambda name: -expected[name])[:10]


def test_a_document_ranks_with_its_best_passage() -> None:
    vectors = np.eye(4, dtype=np.float32)
    owners = ["a", "b", "a", "c"]
    search = ExactSearch(owners, ExactBm25(counted(passages_of(4))), vectors)
    question = np.array([0.1, 0.6, 0.7, 0.2], np.float32)

    assert search.ranked("semantic", lexemes=[], vector=question).first(3) == ["a", "b", "c"]


def test_overlap_counts_what_scores_like_the_last_and_nothing_twice() -> None:
    ranked = Ranked({"a": 1.0, "b": 0.9, "c": 0.8, "d": 0.8, "e": 0.1})

    assert ranked.overlap(["a", "b", "d"], top=3) == 1.0
    assert ranked.overlap(["a", "a", "e"], top=3) == pytest.approx(1 / 3)
    assert ranked.overlap(["a", "b"], top=3) == pytest.approx(2 / 3)
    assert Ranked({}).overlap([], top=3) == 1.0
    assert Ranked({}).overlap(["a"], top=3) == 0.0


@pytest.fixture
def arxiv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of DATA that looks like the real one, and is small."""
    folder = tmp_path / "data" / "arxiv_30k"
    folder.mkdir(parents=True)
    documents = known(300).documents
    lines = [
        {"_id": d["external_id"], "title": d["title"], "text": d["text"]}
        | {"metadata": {"doi": None, "updated": None} | d["attributes"]}
        for d in documents
    ]
    asked = [
        {"qid": f"q{n}", "text": d["title"], "filter_kind": given.label}
        | {"filter": [{"field": c.field, "op": c.op, "value": c.value} for c in given.conditions]}
        for n, d in enumerate(made_up_documents(4, seed=9))
        for given in (Given("none", ()), *GIVEN)
    ]
    for name, rows in (("corpus", lines), ("filtered_reference", asked)):
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    monkeypatch.setenv("DATA", str(folder.parent))
    return folder


@pytest.mark.usefixtures("arxiv")
def test_the_filters_of_the_reference_are_read_with_their_questions() -> None:
    questions = read_questions(3)

    assert [text for text, _ in questions] == [d["title"] for d in made_up_documents(3, seed=9)]
    assert {given for _, given in questions} == {GIVEN}


@pytest.fixture
async def service(
    app: FastAPI, api: Api, resources: Resources, working: Working, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    """Behind a port, with a worker that builds indexes too; the environment names it."""
    async with served(app) as url, working(direct_url=direct_url(resources)):
        monkeypatch.setenv("SERVICE_URL", url)
        monkeypatch.setenv("SERVICE_API_KEY", api.client.headers["Authorization"].removeprefix("Bearer "))
        monkeypatch.setenv("EMBEDDING_MODEL", "hashing")
        yield api


async def collections(api: Api) -> list[str]:
    answer = (await api.client.get("/v1/collections", params={"limit": 100})).json()
    return [each["name"] for each in answer["collections"] if each["name"].startswith("bench-")]


@pytest.mark.usefixtures("arxiv")
async def test_recall_is_measured_and_nothing_is_left_behind(
    service: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = await filtered_recall.measure(
        documents=None, questions=2, vectors=tmp_path / "vectors", keep=False, beside=(20,)
    )

    assert figure.met
    filters = 1 + 2 * len(SHARES) + len(FAR_SHARES) + len(GIVEN)
    assert figure.measured == f"lowest 1.0000; 0 missing and 0 wrong hits in {2 * 2 * filters} searches"
    assert "300 + 20 documents, vectors given" in figure.what
    out = capsys.readouterr().out
    assert all(word in out for word in ("conjunctive", "doi_present"))
    assert await collections(service) == []


@pytest.mark.usefixtures("arxiv")
async def test_a_service_that_does_not_find_the_nearest_misses_the_goal(service: Api, tmp_path: Path) -> None:
    vectors, keeping = tmp_path / "vectors", {"documents": None, "questions": 2, "keep": True, "beside": ()}
    assert (await filtered_recall.measure(vectors=vectors, **keeping)).met  # type: ignore[arg-type]
    (name,) = await collections(service)
    for _ in range(3):
        answer = await service.client.post(
            f"/v1/collections/{name}/search",
            json={"query": made_up_documents(1, seed=9)[0]["title"], "mode": "semantic"},
        )
        hit = answer.json()["hits"][0]
        moved = {"text": hit["chunks"][0]["text"], "attributes": hit["attributes"], "vector": [1.0] + [0.0] * 383}
        assert (await service.put(name, hit["external_id"], moved, wait=30)).status_code == 200

    figure = await filtered_recall.measure(vectors=vectors, **keeping | {"keep": False})  # type: ignore[arg-type]

    assert not figure.met
    assert "0 missing and 0 wrong" in figure.measured


async def test_a_service_of_another_model_gives_no_figure(service: Api) -> None:
    library, question = known(20), Question("", directions(1, seed=4)[0])
    assert await collections(service) == []

    async with open_client(find_address(os.environ)) as client, filled(client, [library], keep=False):
        with pytest.raises(CommandError, match="runs hashing-384, and this process another-model"):
            await filtered_recall.ask_all(client, [library], [question], profile="another-model", console=QUIET)


async def test_a_collection_that_lost_a_document_gives_no_figure(service: Api) -> None:
    library = known(20)
    async with open_client(find_address(os.environ)) as client:
        async with filled(client, [library], keep=True):
            pass
        twin = replace(library, documents=[*library.documents[:19], {**library.documents[0], "title": "again"}])
        with pytest.raises(CommandError, match="Of 20 documents 19 were indexed"):
            async with filled(client, [twin], keep=False):
                pass
        await client.delete_collection(library.name)
    assert await collections(service) == []


@pytest.mark.usefixtures("arxiv")
async def test_latency_is_a_ratio_of_medians(service: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = await filtered_latency.measure(
        documents=None, rounds=2, vectors=tmp_path / "vectors", keep=False, beside=(), warm_up=0
    )

    found = re.fullmatch(r"([0-9.]+) \(.*: ([0-9.]+) ms over ([0-9.]+) ms\)", figure.measured)
    assert found is not None
    ratio, slow, plain = map(float, found.groups())
    assert slow / plain == pytest.approx(ratio, rel=0.05)
    assert figure.met == (slow / plain <= 4)
    assert "conjunctive" in capsys.readouterr().out
    assert await collections(service) == []


def test_the_worst_filter_decides_and_statements_are_told_where_the_service_tells_them() -> None:
    times = filtered_latency.Times

    assert filtered_latency.worst(
        {
            ("none", "no filter"): times([1.0, 2.0, 30.0]),
            ("far", "1%"): times([9.0, 1.0, 5.0]),
            ("single", "2%"): times([50.0, 4.0, 3.0]),
        }
    ) == (("far", "1%"), 2.5)
    header = 'embedding;dur=0.1, statement;desc="sql";dur=12.5, total;dur=20'
    assert filtered_latency.STATEMENT.findall(header) == ["12.5"]


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.usefixtures("arxiv")
async def test_what_is_served_is_compared_with_an_exact_search(
    service: Api, tmp_path: Path, *, texts: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = await served_top.measure(
        ["arxiv_30k"], documents=None, questions=3, texts=texts, vectors=tmp_path / "vectors", keep=False
    )

    assert figure.met
    assert figure.measured == "lowest overlap 1.0000, nDCG within 0.0000"
    assert ("cut and embedded by the service" if texts else "vectors given") in figure.what
    out = capsys.readouterr().out
    assert all(mode in out for mode in ("hybrid", "semantic", "lexical"))
    assert await collections(service) == []
