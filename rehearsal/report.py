"""What a rehearsal found, as figures and tables, or as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table

from rehearsal.kills import Killed
from rehearsal.live import BACKFILL, BEFORE, CONTRACT, EXPAND, Outcome
from rehearsal.unsafe import Caught
from rehearsal.walk import Meeting
from service.cli.figures.figure import Figure

LONGEST_WAIT = 1.0
SLOWEST_OVER_BEFORE = 2.0
SHOWN = 5  # sentences of a kind


@dataclass
class Report:
    """None for a part that was not asked for."""

    releases: Sequence[str]
    seconds: float = 0.0
    meetings: list[Meeting] | None = None
    live: Outcome | None = None
    caught: list[Caught] | None = None
    killed: list[Killed] | None = None
    broken: list[str] = field(default_factory=list)  # parts that could not go on, with the reason

    @property
    def met(self) -> bool:
        return not self.broken and all(figure.met for figure in self.figures())

    def figures(self) -> list[Figure]:
        found: list[Figure] = []
        if self.meetings is not None:
            found.append(figure_of_meetings(self.meetings))
        if self.live is not None:
            found += figures_of_live(self.live)
        if self.caught is not None:
            found.append(figure_of_plants(self.caught))
        if self.killed is not None:
            found.append(figure_of_kills(self.killed))
        return found


def figure_of_meetings(meetings: Sequence[Meeting]) -> Figure:
    wrong = [meeting for meeting in meetings if meeting.wrong]
    spoke = sum(meeting.allowed for meeting in meetings)
    told = f"{len(meetings) - len(wrong)} of {len(meetings)} ({spoke} suites, {len(meetings) - spoke} refusals)"
    return Figure("schemas on the way: contract kept where allowed, refused elsewhere", "all", told, not wrong)


def figures_of_live(live: Outcome) -> Iterator[Figure]:
    yield Figure(
        "failed requests", "0", f"{len(live.failed)} of {live.requests:,}", not live.failed and live.requests > 0
    )
    bad = len(live.lost) + len(live.diverging)
    told = f"{len(live.lost)}; {len(live.diverging)} (compared {live.compared} times)"
    yield Figure("lost documents; diverging columns", "0; 0", told, not bad and (live.compared > 0 or not live.joined))
    yield Figure(
        '"cached plan must not change result type", in answers and logs',
        "0",
        str(live.stale_plans),
        not live.stale_plans,
    )
    wait = live.wait.seconds if live.wait else 0.0
    told = f"{wait:.3f} s, on {live.wait.what}" if live.wait else "none over .02 s"
    yield Figure(
        "longest lock wait of a client", f"< {LONGEST_WAIT:g} s", told, wait < LONGEST_WAIT and not live.given_up
    )
    yield slowest(live)
    yield Figure("gates that opened early, or stayed shut", "0", str(len(live.misled)), not live.misled)


def slowest(live: Outcome) -> Figure:
    what = "search p99 during expand, backfill, contract over before"
    before = live.phase(BEFORE)
    ratios = {
        name: phase.p99 / before.p99
        for name in (EXPAND, BACKFILL, CONTRACT)
        if before is not None and (phase := live.phase(name)) is not None
    }
    if not ratios:
        return Figure(what, f"<= {SLOWEST_OVER_BEFORE:g}", "not measured", met=False)
    told = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    return Figure(
        what, f"<= {SLOWEST_OVER_BEFORE:g}", told, all(ratio <= SLOWEST_OVER_BEFORE for ratio in ratios.values())
    )


def figure_of_plants(caught: Sequence[Caught]) -> Figure:
    planted = [each for each in caught if not each.plant.harmless]
    found = sum(each.right for each in planted)
    false = len([each for each in caught if each.plant.harmless and not each.right])
    told = f"{found} of {len(planted)}" + (f", and {false} harmless ones" if false else "")
    return Figure(
        "planted unsafe migrations: caught by linter or rehearsal", "all", told, all(each.right for each in caught)
    )


def figure_of_kills(killed: Sequence[Killed]) -> Figure:
    times = sum(len(each.moments) for each in killed)
    bad = sum(each.wrong is not None or not each.moments for each in killed)
    told = f"{len(killed) - bad} of {len(killed)} steps, killed {times} times"
    return Figure(
        "kill -9 of the migrator in each step: the next run completes, 0 invalid indexes", "all", told, not bad
    )


def as_json(report: Report) -> str:
    figures = [asdict(figure) for figure in report.figures()]
    return json.dumps(asdict(report) | {"figures": figures, "met": report.met}, default=str, indent=2)


def show(report: Report, console: Console) -> None:
    for part in (show_meetings, show_live, show_plants, show_kills, show_broken, show_figures):
        part(report, console)


def rows_of(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def show_meetings(report: Report, console: Console) -> None:
    if report.meetings is None:
        return
    rows = [
        (
            meeting.stage,
            " + ".join(meeting.releases),
            "keeps the contract" if meeting.allowed else "refuses",
            meeting.wrong or "yes",
        )
        for meeting in report.meetings
    ]
    rows_of("Every schema on the way", ("schema", "releases", "must", "does"), rows, console)


def show_live(report: Report, console: Console) -> None:
    live = report.live
    if live is None:
        return
    rows = [
        (
            phase.name,
            f"{phase.seconds:.1f} s",
            f"{phase.requests:,}",
            str(phase.failed),
            f"{phase.searches:,}",
            f"{phase.p50 * 1000:.0f} ms",
            f"{phase.p99 * 1000:.0f} ms",
        )
        for phase in live.phases
    ]
    title = f"Under load: {live.rate:.0f} requests a second, {live.load:.0%} of two cores, {live.pooling}"
    columns = ("phase", "lasted", "requests", "failed", "searches", "search p50", "search p99")
    rows_of(title, columns, rows, console)
    for sentence in live.said:
        console.print(f"  {sentence}", markup=False, highlight=False)
    failed = [f"{record.phase}, {record.kind}: {record.failure}" for record in live.failed]
    for what, sentences in (
        ("failed", failed),
        ("lost", live.lost),
        ("diverging", live.diverging),
        ("gates", live.misled),
    ):
        for sentence in sentences[:SHOWN]:
            console.print(f"  {what}: {sentence}", style="red", markup=False, highlight=False)


def show_plants(report: Report, console: Console) -> None:
    if report.caught is None:
        return
    rows = [
        (each.plant.what, each.linter or "passes", each.rehearsal or "passes", "yes" if each.right else "NO")
        for each in report.caught
    ]
    rows_of("Unsafe migrations", ("planted", "linter", "rehearsal", "right"), rows, console)


def show_kills(report: Report, console: Console) -> None:
    if report.killed is None:
        return
    rows = [(each.step, "\n".join(each.moments) or "never", each.wrong or "completes") for each in report.killed]
    rows_of("kill -9 of the migrator", ("step", "killed at", "run again"), rows, console)


def show_broken(report: Report, console: Console) -> None:
    for sentence in report.broken:
        console.print(f"Not rehearsed: {sentence}", style="red", markup=False, highlight=False)


def show_figures(report: Report, console: Console) -> None:
    title = f"Rehearsal of {' -> '.join(report.releases)}, {report.seconds:.0f} s"
    rows = [
        (figure.what, figure.goal, figure.measured, "[green]met[/green]" if figure.met else "[red]missed[/red]")
        for figure in report.figures()
    ]
    rows_of(title, ("what", "goal", "measured", "verdict"), rows, console)
