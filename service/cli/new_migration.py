"""`service migrate new "words"`: the skeletons of a change in five steps."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from service.cli.sentences import or_exit
from service.cli.skeletons import BACKFILL, COLUMN, CONTRACT, EXPAND
from service.db.lint.revisions import PHASES, scripts_of, tip
from service.db.migrate import MIGRATIONS
from service.db.sql_statements import UnreadableSqlError, statements_of
from service.db.tables import metadata
from service.domain.errors import ServiceError
from service.release import RELEASE

LONGEST_NAME = 50  # characters; Postgres cuts a constraint's name after 63, and it carries the table's too.
WORD = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
# A type's words, its length and its brackets: what is written here becomes SQL.
TYPE = re.compile(r"[a-z][a-z0-9_ ]*(\(\d+(, ?\d+)?\))?(\[\])?", re.ASCII)


# By type, so that a skeleton runs at once; any other type has a TODO.
STAND_INS = {
    "text": "''",
    "boolean": "false",
    "integer": "0",
    "bigint": "0",
    "double precision": "0",
    "jsonb": "'{}'",
    "timestamptz": "now()",
    "date": "current_date",
}


class NotWrittenError(ServiceError):
    """Why no skeleton was made; no file is there."""


@dataclass(frozen=True, slots=True)
class Change:
    slug: str
    table: str
    column: str
    type: str
    key: Sequence[str]

    @property
    def is_whole(self) -> bool:
        return not any(each.startswith("TODO") for each in (self.table, self.column, self.type))


def new(
    words: Annotated[str, typer.Argument(help='What changes, such as "document colour".')],
    *,
    table: Annotated[str, typer.Option(help="Whose new column it is.", show_default=False)] = "",
    column: Annotated[str, typer.Option(help="The new column.", show_default=False)] = "",
    column_type: Annotated[str, typer.Option("--type", help="Its type.", show_default=False)] = "",
    migrations: Annotated[Path, typer.Option(help="The folder of the history.", show_default=False)] = MIGRATIONS,
) -> None:
    """Write the skeletons of an expand migration, a backfill and a contract migration.

    With `--table`, `--column` and `--type` they run as they are; otherwise `service migrate lint` refuses their TODO marks.
    """
    change = or_exit(lambda: change_of(words, table=table, column=column, column_type=column_type))
    paths = or_exit(lambda: write(change, migrations))
    for path in paths:
        typer.echo(f"Wrote {path.relative_to(migrations.parent)}")
    typer.echo(next_steps(change))


def change_of(words: str, *, table: str, column: str, column_type: str) -> Change:
    """Raises NotWrittenError."""
    slug = re.sub(r"[\s-]+", "_", words.strip().lower())
    if not WORD.fullmatch(slug) or slug.startswith("_") or len(slug) > LONGEST_NAME:
        raise NotWrittenError(
            f"{words!r} makes no file name: a few words of letters, digits and spaces, beginning with a letter, at most"
            f" {LONGEST_NAME} characters"
        )
    for option, value, pattern in (("--table", table, WORD), ("--column", column, WORD), ("--type", column_type, TYPE)):
        if value and not pattern.fullmatch(value):
            raise NotWrittenError(f"{option} {value!r} is not a name in lower case that Postgres takes without quotes")
    if table and table not in metadata.tables:
        raise NotWrittenError(
            f"no table of db/tables.py is called {table}; there are: {', '.join(sorted(metadata.tables))}"
        )
    key = [each.name for each in metadata.tables[table].primary_key] if table else ["TODO_key"]
    change = Change(slug, table or "TODO_table", column or "TODO_column", column_type or "TODO_type", key)
    try:
        statements_of(COLUMN.substitute(table=change.table, column=change.column, type=change.type))
    except UnreadableSqlError as error:
        raise NotWrittenError(f"as SQL, {change.column} {change.type} is no column: {error}") from error
    return change


def next_release() -> str:
    """The first that can know the column: until it is everywhere, the gate stays closed."""
    major, minor, *_ = RELEASE.split(".")
    return f"{major}.{int(minor) + 1}.0"


def quoted(word: str) -> str:
    return f'"{word}"'


def write(change: Change, migrations: Path) -> list[Path]:
    """All three or none. Raises NotWrittenError."""
    now = datetime.now(UTC)
    stamp = now.strftime("%Y%m%d_%H%M")
    paths = [
        migrations / "versions" / "expand" / f"{stamp}_expand_{change.slug}.py",
        migrations / "backfills" / f"{change.slug}.py",
        migrations / "versions" / "contract" / f"{stamp}_contract_{change.slug}.py",
    ]
    taken = [path for place in paths for path in place.parent.glob(f"*{place.name.removeprefix(stamp)}")]
    if taken:
        raise NotWrittenError(f"{taken[0].relative_to(migrations.parent)} is there already: choose other words")
    texts = filled(change, migrations)
    written: list[Path] = []
    try:
        for path, text in zip(paths, texts, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise NotWrittenError(f"nothing was written, {error.filename or path}: {error.strerror}") from error
    return paths


def filled(change: Change, migrations: Path) -> list[str]:
    expand, contract = secrets.token_hex(6), secrets.token_hex(6)
    values = {
        "words": change.slug.replace("_", " "),
        "slug": change.slug,
        "table": change.table,
        "column": change.column,
        "type": change.type,
        "constraint": f"ck_{change.table}_{change.column}_given"[:63],
        "release": next_release() if change.is_whole else "TODO_release",
        "key": f"({', '.join(quoted(each) for each in change.key)},)",
        "value": quoted(STAND_INS.get(change.type.split("(")[0], "TODO_value") if change.is_whole else "TODO_value"),
        "expand": expand,
        "contract": contract,
    }
    scripts = scripts_of(migrations)
    for phase in PHASES[1:]:
        head, first = tip(scripts, phase)
        values |= {f"{phase}_down": f'"{head}"', f"{phase}_label": f'("{phase}",)' if first else "None"}
    return [template.substitute(values) for template in (EXPAND, BACKFILL, CONTRACT)]


def next_steps(change: Change) -> str:
    steps = [
        "db/tables.py: the new column, as the expand migration makes it; `alembic check` compares them.",
        "The backfill: `assign` says which value an old row gets; what is written there is a stand-in.",
        f"The contract migration: the oldest release that writes the column ({next_release()} is a guess).",
        "What the column replaces is dropped later, by a contract migration of its own.",
        "Then: `service migrate lint`.",
    ]
    if not change.is_whole:
        steps.insert(0, "Every TODO: the linter refuses a file that has one.")
    return "To fill in:\n" + "\n".join(f"  {place}. {step}" for place, step in enumerate(steps, start=1))
