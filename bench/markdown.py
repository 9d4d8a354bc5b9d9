"""Tables as Markdown has them, and numbers as a reader wants them."""

from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The first column is words, the others are numbers."""
    lines = [line(headings), line(["---"] + ["---:"] * (len(headings) - 1))]
    return "\n".join(lines + [line([shown(cell) for cell in row]) for row in rows])


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def shown(cell: object) -> str:
    return "-" if cell is None else str(cell)


def ms(value: float | None) -> str:
    """Three digits are more than the noise allows."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004


def rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".removeprefix("0")


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def counted(failures: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(failures.items())) or "0"
