"""Libraries without a server, a row or a commit: how near a service may come. None of them has a goal."""

from collections.abc import Mapping, Sequence
from statistics import median

from bench.peers.hybrid import Ask
from bench.peers.latencies import Round
from bench.peers.rounds import interleaved, median_ratio
from bench.peers.verdicts import Row


async def over_limit(
    what: str, ours: Ask, limits: Mapping[str, Ask], quality: Mapping[str, str], *, rounds: int
) -> list[Row]:
    """Our p50 through HTTP over each library's in process."""
    sides = {"ours": ours, **limits}
    for ask in sides.values():
        await ask()
    gave = await interleaved(sides, rounds=rounds)
    return [row_of(what, name, gave, quality.get(name, "")) for name in limits]


def row_of(what: str, name: str, gave: Mapping[str, Sequence[Round]], quality: str) -> Row:
    times = {side: [each.p50 for each in gave[side]] for side in ("ours", name)}
    ratio = median_ratio(times["ours"], times[name])
    shown = "; ".join(f"{side} {median(times[side]):.3f} ms" for side in times)
    note = f"; {quality}" if quality else ""
    return Row(
        f"{what}: our p50 through HTTP over {name}'s in process",
        ratio,
        f"{ratio:.1f} ({shown}{note})",
        details={"p50_ms": times},
    )
