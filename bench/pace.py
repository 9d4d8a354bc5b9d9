"""How long a run takes: the same parts, longer or shorter."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """`sizes` are the documents of each stage; everything but growth is measured on the last.

    `serial` is how many requests a round of one client has, `seconds` how long a round of several takes, `step` how long
    one rate of the ramp, `steady` how long 80 % of the knee, `writing` each of four turns with and without writes.
    """

    sizes: tuple[int, ...] = (1_000, 10_000, 25_000)
    queries: int = 12_000
    hot: int = 400
    assessed: int = 400
    rounds: int = 5
    serial: int = 120
    seconds: float = 2.5
    concurrency: tuple[int, ...] = (1, 8, 32)
    step: float = 3.0
    steady: float = 20.0
    writing: float = 10.0
    writes_per_second: float = 10.0
    embedded: int = 1_000
    selectivities: tuple[float, ...] = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0)
    ef_search: tuple[int, ...] = (10, 20, 40, 80, 160, 320)


FULL = Pace()
QUICK = Pace(
    sizes=(60, 200),
    queries=300,
    hot=40,
    assessed=40,
    rounds=2,
    serial=20,
    seconds=0.4,
    concurrency=(1, 2),
    step=1.0,
    steady=0.9,
    writing=0.5,
    embedded=20,
    selectivities=(0.1, 1.0),
    ef_search=(10, 40),
)
PACES = {"full": FULL, "quick": QUICK}
