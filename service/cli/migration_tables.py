"""How `service migrate status` looks."""

from rich.console import Console
from rich.table import Table

from service.db.history import State, Step
from service.release import RELEASE


def show_state(state: State) -> None:
    console = Console()
    console.print(steps(state))
    if state.backfills:
        console.print(
            table(
                "backfills",
                ("name", "state", "rows looked at", "filled"),
                [(each.name, each.state, f"{each.looked_at:,}", f"{each.changed:,}") for each in state.backfills],
            )
        )
    console.print(
        table(
            "running instances",
            ("kind", "release", "since", "seen"),
            [
                (each.kind, each.release, f"{each.started_at:%Y-%m-%d %H:%M:%S}", f"{each.silent_for:.0f} s ago")
                for each in state.instances
            ],
        )
    )
    console.print(
        f"This is release {RELEASE}; the schema takes {f'{state.floor} and newer' if state.floor else 'any'}."
    )
    if state.unknown:
        console.print(f"Migrations of a newer release: {', '.join(state.unknown)}")
    if state.unfinished_indexes:
        console.print(f"Unfinished indexes, which the next migration drops: {', '.join(state.unfinished_indexes)}")


def steps(state: State) -> Table:
    return table(
        "migrations",
        ("revision", "phase", "what", "applied"),
        [(step.revision, step.phase, step.title, applied(step)) for step in state.steps],
    )


def applied(step: Step) -> str:
    if not step.applied:
        return "left"
    return f"{step.applied_at:%Y-%m-%d %H:%M}" if step.applied_at else "yes"


def table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    shown = Table(title=title, title_justify="left")
    for column in columns:
        shown.add_column(column)
    for row in rows:
        shown.add_row(*row)
    return shown
