"""`service eval`: the figures of collections whose right answers can be computed by hand."""

import asyncio
import gzip
import json
import math
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from service.cli.evaluate import ModeReport, hybrid_gain, percentile
from service.cli.failures import CommandError
from service.cli.judged import collection_name, measure, neutral, read_judged, read_qrels
from tests.stand_in import KEY, StandIn, open_stand_in

START = "import typer; from service.cli.evaluate import evaluate; typer.run(evaluate)"

Run = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
async def service() -> AsyncIterator[StandIn]:
    async with open_stand_in() as stand_in:
        yield stand_in


@pytest.fixture
def run(service: StandIn, tmp_path: Path) -> Run:
    async def start(*arguments: object) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            START,
            *map(str, arguments),
            env={**os.environ, "SERVICE_URL": service.url, "SERVICE_API_KEY": KEY, "HOME": str(tmp_path)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, said = await process.communicate()
        return process.returncode or 0, (out if "--json" in arguments and out else out + said).decode()

    return start


def make_judged(
    folder: Path, *, corpus: dict[str, str], queries: dict[str, str], qrels: list[tuple[str, str, int]]
) -> Path:
    (folder / "qrels").mkdir(parents=True)
    lines = "".join(json.dumps({"_id": name, "title": "", "text": text}) + "\n" for name, text in corpus.items())
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    asked = "".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in queries.items())
    (folder / "queries.jsonl").write_text(asked, encoding="utf-8")
    table = "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t{score}\n" for q, d, score in qrels)
    (folder / "qrels" / "test.tsv").write_text(table, encoding="utf-8")
    return folder


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    return make_judged(
        tmp_path / "Animals 2",
        corpus={"1": "bears growl at night", "2": "bears sleep", "3": "wings lift", "empty": ""},
        queries={"q1": "bears growl", "q2": "what do bears do", "unjudged": "wings"},
        qrels=[("q1", "1", 1), ("q2", "2", 1), ("q2", "3", 0)],
    )


async def test_the_figures_are_those_of_the_answers(run: Run, judged: Path) -> None:
    code, out = await run(judged, "--json")
    evaluation: dict[str, Any] = json.loads(out)

    assert code == 0
    assert [mode["mode"] for mode in evaluation["modes"]] == ["hybrid", "lexical", "semantic"]
    for mode in evaluation["modes"]:
        assert mode["ndcg_10"] == pytest.approx((1 + 1 / math.log2(3)) / 2)
        assert (mode["recall_100"], mode["queries"], mode["failures"]) == (1.0, 2, 0)
    assert evaluation["hybrid_gain"] == 0.0


async def test_the_table_shows_every_mode_and_the_gain(run: Run, judged: Path) -> None:
    _, out = await run(judged)

    assert all(
        word in out for word in ("hybrid", "lexical", "semantic", "0.8155", "hybrid minus the better leg: +0.0000")
    )


async def test_a_question_in_plain_words_meets_no_query_syntax(run: Run, tmp_path: Path, service: StandIn) -> None:
    folder = make_judged(
        tmp_path / "odd",
        corpus={"1": "bears growl"},
        queries={"q": 'do "growl bears" or -bears growl'},
        qrels=[("q", "1", 1)],
    )
    _, out = await run(folder, "--mode", "lexical", "--json")

    assert json.loads(out)["modes"][0]["ndcg_10"] == 1.0
    assert {question["limit"] for question in service.questions} == {100}


async def test_long_questions_are_sent_whole(run: Run, tmp_path: Path, service: StandIn) -> None:
    text = " ".join(f"word{n}" for n in range(3_000))
    folder = make_judged(tmp_path / "long", corpus={"1": "x"}, queries={"q": text}, qrels=[("q", "1", 1)])
    await run(folder, "--mode", "semantic")

    assert [question["query"] for question in service.questions] == [text]


async def test_a_question_that_fails_counts_as_nothing_found_and_is_told(run: Run, tmp_path: Path) -> None:
    folder = make_judged(
        tmp_path / "failing",
        corpus={"1": "bears growl"},
        queries={"good": "bears", "bad": "fail bears"},
        qrels=[("good", "1", 1), ("bad", "1", 1)],
    )
    code, out = await run(folder, "--mode", "hybrid", "--json")
    evaluation = json.loads(out)

    assert code == 1
    assert (evaluation["modes"][0]["ndcg_10"], evaluation["modes"][0]["failures"]) == (0.5, 1)
    assert "query bad: This cannot be asked (query: too odd)." in evaluation["first_failure"]


async def test_a_kept_collection_is_not_filled_again(run: Run, judged: Path, service: StandIn) -> None:
    await run(judged, "--keep", "--limit-queries", "1")
    sent = len(service.batches)
    await run(judged)

    assert (sent, len(service.batches)) == (1, 1)
    assert len(service.collections) == 1, "and one that was there before stays"


async def test_a_collection_of_its_own_is_taken_away_again(run: Run, judged: Path, service: StandIn) -> None:
    await run(judged)

    assert service.collections == {}


async def test_a_folder_in_another_layout_is_one_sentence(run: Run, tmp_path: Path) -> None:
    code, out = await run(tmp_path)

    assert code == 1
    assert "is not in the layout of BEIR" in " ".join(out.split())
    assert "Traceback" not in out


def test_only_queries_with_a_relevant_document_are_judged(tmp_path: Path) -> None:
    file = tmp_path / "test.tsv"
    file.write_text('query-id\tcorpus-id\tscore\n1\t"ab\t2\n1\tc\t0\n2\tc\t0\n', encoding="utf-8")

    assert read_qrels(file) == {"1": {'"ab': 2, "c": 0}}


def test_judgements_without_their_columns_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "test.tsv"
    file.write_text("1 0 a 1\n2 0 b 1\n", encoding="utf-8")

    with pytest.raises(CommandError, match="must have the columns"):
        read_qrels(file)


def test_documents_without_any_words_are_not_waited_for(judged: Path) -> None:
    assert read_judged(judged).documents == 3


def test_ties_are_measured_in_the_order_of_the_answer() -> None:
    ndcg, recall = measure({"q": {"a": 1, "z": 0}}, {"q": ["a", "z"]})

    assert (ndcg, recall) == (1.0, 1.0)


def test_grades_count_and_only_the_first_hundred_are_looked_at() -> None:
    late = [f"d{n}" for n in range(100)]

    assert measure({"q": {"a": 2, "b": 1}}, {"q": ["b", "a"]})[0] == pytest.approx(0.8597, abs=1e-4)
    assert measure({"q": {"a": 1}}, {"q": [*late, "a"]}) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('the "exact" phrase', "the  exact  phrase"),
        ("-bears and --wolves", "bears and wolves"),
        ("anti-tank, x - y, -5 degrees", "anti-tank, x - y, -5 degrees"),
        ("sort\n-élan", "sort\nélan"),
    ],
)
def test_operators_are_taken_out_and_words_are_left(text: str, kept: str) -> None:
    assert neutral(text) == kept


def test_a_collection_is_named_after_its_folder_and_its_bytes() -> None:
    name = collection_name(Path("/a/My Data_v2"), fingerprint="x", language="english")

    assert name.startswith("eval-my-data-v2-")
    assert name != collection_name(Path("/a/My Data_v2"), fingerprint="y", language="english")


def test_the_gain_is_over_the_better_leg_and_needs_all_three() -> None:
    rows = [
        ModeReport(mode, ndcg, 0, 0, 0, 0, 0) for mode, ndcg in (("hybrid", 0.5), ("lexical", 0.3), ("semantic", 0.4))
    ]

    assert hybrid_gain(rows) == pytest.approx(0.1)
    assert hybrid_gain(rows[:2]) is None


def test_percentiles_of_few_are_defined() -> None:
    assert math.isnan(percentile([], 50))
    assert (percentile([2.0], 95), percentile([1.0, 3.0], 50)) == (2.0, 2.0)
