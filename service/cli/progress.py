"""The two bars of a long ingest, and the table of what went wrong."""

from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from service.cli.client import CollectionStatus
from service.cli.failures import Failure

ROWS = 50  # More would push the summary off the screen.


class RateColumn(ProgressColumn):
    """What was done a second since the bar began: documents or queries, not the bytes that move the bar."""

    def render(self, task: Task) -> Text:
        done = int(task.fields.get("documents", task.completed))
        elapsed = task.finished_time or task.elapsed  # A bar that is full stands still.
        rate = done / elapsed if elapsed else 0.0
        return Text(f"{done:,} {task.fields.get('unit', 'documents')}, {rate:,.0f}/s")


class Bars:
    """Sending is measured in bytes, because lines of a file are not counted before they are read."""

    def __init__(self, progress: Progress, *, size: int) -> None:
        self._progress = progress
        self._sending = progress.add_task("Sending", total=max(size, 1), documents=0)
        self._documents = 0

    def advance(self, documents: int, size: int) -> None:
        self._documents += documents
        self._progress.update(self._sending, advance=size, documents=self._documents)

    def begin_indexing(self) -> None:
        self._progress.update(self._sending, completed=self._progress.tasks[self._sending].total)
        self._indexing = self._progress.add_task("Indexing", total=None, documents=0)
        self._begun: int | None = None

    def watch(self, status: CollectionStatus) -> None:
        """Move the second bar: documents indexed (or failed) of those accepted in the collection."""
        if self._begun is None:
            self._begun = status.finished
        self._progress.update(
            self._indexing,
            total=max(status.total, 1),
            completed=status.finished,
            documents=status.finished - self._begun,
        )


def open_progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TaskProgressColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def print_failures(console: Console, failures: Iterable[Failure], *, count: int) -> None:
    """One row for each, the first fifty of them; nothing when nothing failed."""
    table = Table("name", "code", "message", title="What did not make it", title_justify="left")
    for failure in list(failures)[:ROWS]:
        table.add_row(Text(failure.name, overflow="fold"), failure.code, Text(failure.message))
    if count:
        console.print(table)
    if count > ROWS:
        console.print(f"… and {count - ROWS:,} more.")
