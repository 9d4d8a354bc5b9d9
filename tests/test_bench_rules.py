"""What the benchmark concludes: knees, regressions, and the README's table."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import plot, readme
from bench.__main__ import PUBLISHED, README
from bench.bootstrap import paired_ratio, rounds_ratio
from bench.compare import compare
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


@pytest.mark.parametrize("drifts", [(0.3, 0.01), (0.01, 0.3)], ids=["the old run's", "the new run's"])
def test_rounds_that_drift_widen_the_bound(drifts: tuple[float, float]) -> None:
    calm = paired_ratio(rounds(1, drift=0.01), rounds(2, drift=0.01, slower=1.2))
    restless = paired_ratio(rounds(1, drift=drifts[0]), rounds(2, drift=drifts[1], slower=1.2))

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


def test_the_readme_shows_what_the_committed_result_says() -> None:
    text = README.read_text(encoding="utf-8")

    assert readme.put_into(text, readme.block(read_result(PUBLISHED))) == text


def test_the_committed_result_makes_a_page_and_a_picture_of_each_of_its_parts(tmp_path: Path) -> None:
    published = read_result(PUBLISHED)
    written = page(published)

    assert all(load["label"] in written for load in published.loads())
    parts = [part for part, _ in plot.PICTURES.values() if published.found.get(part)]
    assert [file.stat().st_size > 5_000 for file in plot.draw(published, tmp_path)] == [True] * len(parts)
    assert parts
