"""The figures of relevance and exactness, each against a service with a small library."""

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from rich.console import Console

from service.cli.address import find_address
from service.cli.evaluate import MODES, evaluate_folder
from service.cli.figures import explain, facets, lexical, relevance, walks
from service.cli.figures.texts import made_up_documents
from service.resources import Resources
from tests.api_calls import Api
from tests.cli_calls import served
from tests.search_calls import direct_url
from tests.worker_calls import Working

QUIET = Console(quiet=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """DATA with a judged collection and abstracts; every question is the title of the one document that answers it."""
    documents = made_up_documents(60, words=20)
    lines = []
    for number, document in enumerate(documents):
        metadata = {
            "primary_cat": f"c{number % 5}",
            "categories": [f"c{number % 5}", f"c{number % 7}"],
            "num_authors": number % 6,
        }
        text = document["text"] * (12 if number % 10 == 0 else 1)  # So that some are several chunks.
        lines.append({"_id": document["external_id"], "title": document["title"], "text": text, "metadata": metadata})
    for name in ("cranfield", "arxiv_30k"):
        (tmp_path / name / "qrels").mkdir(parents=True)
        packed = gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())
        (tmp_path / name / "corpus.jsonl.gz").write_bytes(packed)
    queries = "".join(json.dumps({"_id": f"q{n}", "text": lines[n]["title"]}) + "\n" for n in range(0, 60, 6))
    (tmp_path / "cranfield" / "queries.jsonl").write_text(queries, encoding="utf-8")
    judged = "".join(f"q{n}\t{lines[n]['_id']}\t1\n" for n in range(0, 60, 6))
    (tmp_path / "cranfield" / "qrels" / "test.tsv").write_text(
        f"query-id\tcorpus-id\tscore\n{judged}", encoding="utf-8"
    )
    (tmp_path / "arxiv_30k" / "qrels").rmdir()
    return tmp_path


@pytest.fixture
async def service(  # noqa: PLR0917  fixtures
    app: FastAPI,
    api: Api,
    working: Working,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    resources: Resources,
) -> AsyncIterator[None]:
    """With the owner's worker too: without it, whoever declares an attribute waits half a minute for its index."""
    key = api.client.headers["Authorization"].removeprefix("Bearer ")
    async with served(app) as url, working(direct_url=direct_url(resources)):
        variables = {"SERVICE_URL": url, "SERVICE_API_KEY": key, "DATA": str(folder)}
        for name, value in (variables | {"EMBEDDING_MODEL": "hashing"}).items():
            monkeypatch.setenv(name, value)
        yield


@pytest.mark.usefixtures("service")
async def test_scores_are_the_sums_of_their_contributions() -> None:
    figure = await explain.measure("cranfield", count=10, console=QUIET)

    assert figure.met, figure.measured


@pytest.mark.usefixtures("service")
async def test_facets_are_what_a_recount_finds() -> None:
    figure = await facets.measure(count=60, questions=6, console=QUIET)

    assert figure.met, figure.measured
    assert figure.measured == "0 of 216 differ"


@pytest.mark.usefixtures("service")
async def test_walks_show_everything_once() -> None:
    figure = await walks.measure(6, console=QUIET, topics=2)

    assert figure.met, figure.measured


@pytest.mark.usefixtures("service")
async def test_lexical_search_is_bm25_and_its_budget_is_measured() -> None:
    exact, bounded = await lexical.measure("arxiv_30k", count=20, rounds=1, keep=False, console=QUIET)
    [judged] = await lexical.measure("cranfield", count=20, rounds=1, keep=False, console=QUIET)

    assert (exact.met, exact.measured) == (True, "1.0000 (0 of 40 questions differ)")
    assert judged.met
    assert bounded.measured.startswith("1.0000; ")


@pytest.mark.usefixtures("service")
async def test_an_evaluation_compares_with_what_is_computed_beside(folder: Path) -> None:
    import os  # noqa: PLC0415  beside its one use

    evaluation = await evaluate_folder(
        folder / "cranfield",
        address=find_address(os.environ),
        modes=MODES,
        limit_queries=None,
        language="english",
        keep=False,
        console=QUIET,
        compare=True,
    )
    ndcg = {report.mode: report.ndcg_10 for report in (*evaluation.modes, *evaluation.compared)}

    assert list(ndcg) == [*MODES, "rrf", "the textbook's recipe", "ts_rank_cd (OR)", "bm25s"]
    assert ndcg["bm25s"] == pytest.approx(ndcg["lexical"]), "the same ranking of the same chunks"
    assert min(ndcg.values()) > 0.3


@pytest.mark.usefixtures("service")
async def test_relevance_prints_a_figure_for_each_promise(tmp_path: Path) -> None:
    leg, rrf, textbook = await relevance.measure_all(
        ["cranfield"], language="english", vectors=tmp_path / "vectors", keep=False
    )

    assert "cranfield" in leg.measured
    assert rrf.goal == "on average ≥ +0.01"
    assert "over the service's chunks: cranfield" in textbook.measured
