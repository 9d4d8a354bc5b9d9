"""What the benchmark concludes: knees, regressions, exact answers, and the README's table."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import plot, readme
from bench.__main__ import PUBLISHED, README
from bench.bootstrap import paired_ratio, rounds_ratio
from bench.compare import compare
from bench.dataset import below, ground_truth, load, recall
from bench.failures import BenchError
from bench.knee import find_knee
from bench.measured import Measured, measure_sent
from bench.report import page
from bench.result import Result, read_result
from bench.wire import OK, Sent

SERVICE_SECONDS = 0.005


def served_one_by_one(rate: float, *, capacity: float, seconds: float = 4.0, refuses: bool = False) -> Measured:
    """What a server with one place gives at a constant rate, computed; it refuses who would wait for more than a second."""
    free, sent = 0.0, []
    for number in range(int(rate * seconds)):
        due = number / rate
        begin = max(due, free)
        if refuses and begin - due > 1:
            sent.append(Sent("search", 0, 0, due, due, due, "HTTP 503"))
            continue
        free = begin + 1 / capacity
        sent.append(Sent("search", 0, 0, due, due, free, OK))
    return measure_sent(sent)


@pytest.mark.parametrize("capacity", [50.0, 200.0, 1_000.0])
@pytest.mark.parametrize("refuses", [False, True])
async def test_the_knee_of_a_server_is_its_capacity(capacity: float, *, refuses: bool) -> None:
    async def probe(rate: float) -> Measured:
        return served_one_by_one(rate, capacity=capacity, refuses=refuses)

    knee = await find_knee(probe, first=capacity * 0.3)

    assert 0.93 * capacity <= knee.rate <= 1.03 * capacity
    assert not any(step.kept_up for step in knee.steps if step.rate > 1.1 * capacity)


async def test_one_disturbed_step_is_no_knee() -> None:
    disturbed: Counter[float] = Counter()

    async def probe(rate: float) -> Measured:
        disturbed[rate] += 1
        if len(disturbed) == 2 and disturbed[rate] == 1:
            return served_one_by_one(rate, capacity=rate / 2)
        return served_one_by_one(rate, capacity=100)

    assert (await find_knee(probe, first=30)).rate > 90


async def test_a_service_that_cannot_keep_up_with_the_first_step_has_no_knee() -> None:
    async def probe(rate: float) -> Measured:
        return served_one_by_one(rate, capacity=rate / 3)

    with pytest.raises(BenchError, match="does not keep up"):
        await find_knee(probe, first=30)


def rounds(seed: int, *, slower: float = 1.0, count: int = 5, drift: float = 0.02) -> list[dict[int, float]]:
    """Latencies of 200 queries that differ from one another by more than what is looked for."""
    chance = np.random.default_rng(seed)
    typical = np.random.default_rng(99).lognormal(1.0, 0.6, 200) * slower
    return [
        dict(enumerate((typical * np.exp(chance.normal(0, drift)) * chance.lognormal(0, 0.15, 200)).tolist()))
        for _ in range(count)
    ]


def test_a_against_a_is_no_regression_and_a_planted_one_is() -> None:
    same = [paired_ratio(rounds(seed), rounds(seed + 1_000)) for seed in range(4)]
    slower = [paired_ratio(rounds(seed), rounds(seed + 1_000, slower=1.2)) for seed in range(4)]

    assert all(ratio is not None and ratio.at_least < 1.05 for ratio in same)
    assert all(ratio is not None and 1.1 < ratio.at_least < ratio.ratio < 1.3 for ratio in slower)
    assert paired_ratio(rounds(1), [{-1: 5.0}]) is None


def test_rounds_that_drift_widen_the_bound() -> None:
    calm = paired_ratio(rounds(1, drift=0.01), rounds(2, drift=0.01, slower=1.2))
    restless = paired_ratio(rounds(1, drift=0.3), rounds(2, drift=0.3, slower=1.2))

    assert calm is not None
    assert restless is not None
    assert restless.ratio - restless.at_least > 3 * (calm.ratio - calm.at_least)


def test_throughput_is_compared_over_its_rounds() -> None:
    ratio = rounds_ratio([100, 101, 99, 100, 102], [80, 81, 79, 82, 80])

    assert ratio is not None
    assert 0.78 < ratio.at_least <= ratio.ratio < 0.83
    assert rounds_ratio([], [1.0]) is None


def result(seed: int, *, slower: float = 1.0, noise: float = 0.01, **changed: Any) -> Result:
    label = "hybrid, cached, 1 at once"
    paired = [[[query, value] for query, value in each.items()] for each in rounds(seed, slower=slower)]
    one = {
        "label": label,
        "concurrency": 1,
        "latency": {"p50": 3 * slower},
        "recall": 0.99,
        "ndcg": 0.9,
        "sent": 1_000,
        "failures": {},
        "per_second": 300.0,
        "rounds": [],
    }
    rates = [{"per_second": (500 + place) / slower} for place in range(5)]
    many = {**one, "label": "hybrid, cached, 8 at once", "concurrency": 8, "per_second": 500 / slower, "rounds": rates}
    apart = {name: {"apart": noise} for name in ("p50", "p99", "per_second")}
    found: dict[str, Any] = {
        "name": "test",
        "dataset": {"digest": "d"},
        "pace": {"sizes": [1], "serial": 200},
        "noise": {label: apart},
        "loads": [{**one, **changed}, many],
        "paired": {label: paired},
        "disk": [{"bytes_per_document": 3_000.0}],
    }
    return Result(found)


def regressed(old: Result, new: Result, *, margin: float = 0.1) -> set[str]:
    return {each.what for each in compare(old, new, margin=margin) if each.regressed}


def test_the_rule_names_what_has_become_worse_and_nothing_else() -> None:
    latency, throughput = "hybrid, cached, 1 at once: latency", "hybrid, cached, 8 at once: requests a second"

    assert regressed(result(1), result(2)) == set()
    assert regressed(result(1), result(2, slower=1.3)) == {latency, throughput}
    assert regressed(result(1, slower=1.3), result(2)) == set()
    assert regressed(result(1), result(2, slower=1.05)) == set()
    assert regressed(result(1), result(2, recall=0.9)) == {"hybrid, cached, 1 at once: recall@10"}
    assert regressed(result(1), result(2, failures={"HTTP 503": 1})) == {"hybrid, cached, 1 at once: failures"}


def test_no_margin_is_below_the_noise() -> None:
    noisy = result(1, noise=0.5)

    assert regressed(noisy, result(2, slower=1.3)) == set()
    assert {each.margin for each in compare(noisy, result(2), margin=0.1) if "latency" in each.what} == {0.5}


def test_results_of_different_data_are_not_compared() -> None:
    other = result(1)
    other.found["dataset"]["digest"] = "another"

    with pytest.raises(BenchError, match="digest"):
        compare(result(1), other, margin=0.1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vectors")


@pytest.fixture(autouse=True)
def without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDING_MODEL", "hashing")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two collections of short and long documents."""
    folder = tmp_path_factory.mktemp("data")
    chance = np.random.default_rng(5)
    for name in ("one", "two"):
        documents = []
        for number in range(20):
            words = [f"word{chance.integers(3_000)}" for _ in range(int(chance.integers(70, 500)))]
            text = ". ".join(" ".join(words[start : start + 12]).capitalize() for start in range(0, len(words), 12))
            documents.append(json.dumps({"_id": str(number), "title": f"{name} {' '.join(words[:5])}", "text": text}))
        (folder / name).mkdir()
        (folder / name / "corpus.jsonl").write_text("\n".join(documents))
    return folder


@pytest.mark.parametrize("generated", [True, False])
def test_a_dataset_has_its_size_chunks_of_a_length_and_distinct_queries(
    texts: Path, cache: Path, *, generated: bool
) -> None:
    data = load(150, queries=400, data=None if generated else texts, cache=cache)
    lengths = [len(text.split()) for text in data.texts]

    assert len(data) == len(set(data.ids)) == len(data.vectors) == len(data.uniform) == 150
    assert len({query.casefold() for query in data.queries}) == len(data.queries) == len(data.query_vectors) == 400
    assert sum(len(query.split()) == 3 for query in data.queries) >= 200
    assert min(lengths) >= 60
    assert max(lengths) <= 170
    assert np.allclose(np.linalg.norm(data.vectors, axis=1), 1, atol=1e-5)
    assert generated or "put together anew" in data.source


@pytest.mark.parametrize("generated", [True, False])
def test_more_documents_begin_with_the_same_as_fewer(texts: Path, cache: Path, *, generated: bool) -> None:
    source = None if generated else texts
    few, many = (load(size, queries=50, data=source, cache=cache) for size in (60, 200))

    assert many.ids[:60] == few.ids
    assert many.texts[:60] == few.texts
    assert many.queries == few.queries
    assert many.uniform[:60].tolist() == few.uniform.tolist()
    assert load(60, queries=50, seed=1, data=source, cache=cache).texts != few.texts


def test_the_ground_truth_is_what_sorting_all_cosines_gives(cache: Path) -> None:
    data = load(150, queries=40, data=None, cache=cache)
    truth, filtered = ground_truth(data, 10), ground_truth(data, 10, 0.05)
    places = {name: place for place, name in enumerate(data.ids)}
    for query in range(40):
        cosines = data.vectors @ data.query_vectors[query]
        allowed = [place for place in range(150) if data.uniform[place] < below(0.05)]
        best = sorted(allowed, key=lambda place: (-cosines[place], place))[:10]
        near = [data.ids[place] for place in np.argsort(-cosines, kind="stable")[:10]]

        assert [place for place in filtered.places[query] if place >= 0] == best
        assert recall(data, query, near, truth, places) == 1
        assert recall(data, query, near[:5] + ["nobody"] * 5, truth, places) == 0.5


def test_vectors_are_kept_by_what_they_were_made_from(tmp_path: Path) -> None:
    load(50, queries=10, data=None, cache=tmp_path)
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    load(50, queries=10, data=None, cache=tmp_path)
    unchanged = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    load(50, queries=10, seed=3, data=None, cache=tmp_path)

    assert unchanged == kept
    assert len(list(tmp_path.iterdir())) == 2 * len(kept)


def test_the_readme_shows_what_the_committed_result_says() -> None:
    text = README.read_text(encoding="utf-8")

    assert readme.put_into(text, readme.block(read_result(PUBLISHED))) == text


def test_the_committed_result_makes_a_page_and_four_pictures(tmp_path: Path) -> None:
    published = read_result(PUBLISHED)
    written = page(published)

    assert all(load["label"] in written for load in published.loads())
    assert [file.stat().st_size > 5_000 for file in plot.draw(published, tmp_path)] == [True] * 4
