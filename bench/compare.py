"""The rule for regressions: worse beyond the margin with 95 % confidence, and the margin is never below the noise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.bootstrap import Ratio, paired_ratio, rounds_ratio
from bench.failures import BenchError
from bench.result import Result

RECALL_MARGIN = 0.01  # Absolute: a share of the right hits.
BYTES_MARGIN = 0.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ratio` is new over old so that above 1 is worse, `at_least` the bound that had to be beyond 1 + `margin`."""

    what: str
    old: float
    new: float
    ratio: float
    at_least: float
    margin: float
    regressed: bool


def compare(old: Result, new: Result, *, margin: float) -> list[Verdict]:
    """Raises BenchError where the two did not measure the same."""
    check_alike(old, new)
    verdicts = [*latencies(old, new, margin=margin), *throughputs(old, new, margin=margin), *recalls(old, new)]
    verdicts += [*failures(old, new), *weight(old, new)]
    if not verdicts:
        raise BenchError("The two results have nothing in common to compare.")
    return verdicts


def check_alike(old: Result, new: Result) -> None:
    for part, name in (("dataset", "digest"), ("pace", "sizes"), ("pace", "serial")):
        one, other = old.found[part][name], new.found[part][name]
        if one != other:
            raise BenchError(
                f"The {name} of the {part} differ, {one} and {other}: two results of the same are compared."
            )


def noise_of(result: Result, figure: str) -> float:
    """How far apart A and A were, of whatever load."""
    apart = [figures[figure]["apart"] for figures in result.found.get("noise", {}).values() if figure in figures]
    return max(apart, default=0.0)


def latencies(old: Result, new: Result, *, margin: float) -> Iterator[Verdict]:
    """Of every load of one client, paired by query."""
    margin = max(margin, noise_of(old, "p50"), noise_of(new, "p50"))
    for label, rounds in old.found["paired"].items():
        if (others := new.found["paired"].get(label)) is None:
            continue
        ratio = paired_ratio(list(map(by_query, rounds)), list(map(by_query, others)))
        one, other = old.load(label), new.load(label)
        if ratio is not None and one and other:
            yield judged(f"{label}: latency", one["latency"]["p50"], other["latency"]["p50"], ratio, margin)


def throughputs(old: Result, new: Result, *, margin: float) -> Iterator[Verdict]:
    """Of every load of several clients, over its rounds. Turned around, so that above 1 is worse here too."""
    margin = max(margin, noise_of(old, "per_second"), noise_of(new, "per_second"))
    for load in old.loads():
        other = new.load(load["label"])
        if other is None or load["concurrency"] == 1:
            continue
        one, two = ([each["per_second"] for each in side["rounds"]] for side in (load, other))
        ratio = rounds_ratio(two, one)
        if ratio is not None:
            yield judged(f"{load['label']}: requests a second", load["per_second"], other["per_second"], ratio, margin)


def recalls(old: Result, new: Result) -> Iterator[Verdict]:
    for load in old.loads():
        other = new.load(load["label"])
        for figure in ("recall", "ndcg"):
            if other is not None and figure in load and figure in other:
                lost = load[figure] - other[figure]
                ratio = load[figure] / other[figure] if other[figure] else float("inf")
                what = f"{load['label']}: {'recall@10' if figure == 'recall' else 'nDCG@10'}"
                yield Verdict(what, load[figure], other[figure], ratio, ratio, RECALL_MARGIN, lost > RECALL_MARGIN)


def failures(old: Result, new: Result) -> Iterator[Verdict]:
    """Where there were none, there shall be none; else no larger share of what was sent."""
    for load in old.loads():
        other = new.load(load["label"])
        if other is not None:
            one, two = (share_of_failures(side) for side in (load, other))
            if one or two:
                ratio = two / one if one else float("inf")
                yield Verdict(f"{load['label']}: failures", one, two, ratio, ratio, 0.0, two > one)


def weight(old: Result, new: Result) -> Iterator[Verdict]:
    one, other = (sum(each["bytes_per_document"] for each in side.found.get("disk", [])) for side in (old, new))
    if one and other:
        ratio = other / one
        yield Verdict("bytes a document", one, other, ratio, ratio, BYTES_MARGIN, ratio > 1 + BYTES_MARGIN)


def share_of_failures(load: Mapping[str, Any]) -> float:
    return float(sum(load["failures"].values()) / max(load["sent"], 1))


def by_query(round_: Sequence[Sequence[float]]) -> dict[int, float]:
    return {int(query): milliseconds for query, milliseconds in round_}


def judged(what: str, old: float, new: float, ratio: Ratio, margin: float) -> Verdict:
    return Verdict(what, old, new, ratio.ratio, ratio.at_least, margin, ratio.at_least > 1 + margin)
