"""The migrations as the linter reads them: each revision's SQL by itself, and what its file says in Python."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory

from service.db.sql_statements import Statement, UnreadableSqlError, statements_of
from service.domain.errors import ServiceError

PHASES = ("base", "expand", "contract")


class UnreadableMigrationError(ServiceError):
    """A file that Python, Alembic or Postgres' grammar cannot read."""


@dataclass(frozen=True)
class Revision:
    """`statements` are those of upgrade(), with BEGIN and COMMIT where Alembic puts them."""

    path: Path
    name: str
    phase: str
    parents: Sequence[str]
    depends_on: Sequence[str]
    statements: Sequence[Statement]
    way_back: Sequence[Statement]
    source: ast.Module
    text: str
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.path.name} ({self.name})"


def history(migrations: Path) -> ScriptDirectory:
    config = Config()
    folders = [migrations / "versions" / phase for phase in PHASES]
    config.set_main_option("script_location", literal(migrations))
    config.set_main_option("version_locations", "\n".join(literal(folder) for folder in folders))
    config.set_main_option("path_separator", "newline")
    return ScriptDirectory.from_config(config)


def literal(path: Path) -> str:
    return str(path).replace("%", "%%")


def revisions_of(migrations: Path) -> list[Revision]:
    """Every revision, after all that it needs. Raises UnreadableMigrationError."""
    return [read(script) for script in scripts_of(migrations)]


def scripts_of(migrations: Path) -> list[Script]:
    """In the order in which an empty database runs them. Raises UnreadableMigrationError."""
    try:
        return list(history(migrations).walk_revisions())[::-1]
    except Exception as error:  # Alembic imports the files, and they may raise anything.
        raise UnreadableMigrationError(f"the migrations in {migrations} cannot be read: {error}") from error


def tip(scripts: Sequence[Script], phase: str) -> tuple[str, bool]:
    """What the next migration of a phase continues, and whether it is the first and names the branch.

    Raises UnreadableMigrationError.
    """
    mine = [each for each in scripts if Path(each.path).parent.name == phase]
    continued = {parent for each in mine for parent in each_of(each.down_revision)}
    tips = [each.revision for each in mine if each.revision not in continued]
    if len(tips) > 1 or (phase == "base" and not tips):
        raise UnreadableMigrationError(f"{phase} must end in one revision, and has: {', '.join(tips) or 'none'}")
    return (tips[0], False) if tips else (tip(scripts, "base")[0], True)


def read(script: Script) -> Revision:
    """Raises UnreadableMigrationError."""
    path = Path(script.path)
    text = path.read_text()
    return Revision(
        path=path,
        name=script.revision,
        phase=path.parent.name,
        parents=tuple(each_of(script.down_revision)),
        depends_on=tuple(each_of(script.dependencies)),
        statements=rendered(script, "upgrade"),
        way_back=rendered(script, "downgrade"),
        source=ast.parse(text),
        text=text,
        exceptions=getattr(script.module, "LINT_EXCEPTIONS", {}),
    )


def each_of(names: str | Sequence[str] | None) -> Iterator[str]:
    yield from [names] if isinstance(names, str) else names or ()


def script_of(script: Script, direction: str) -> str:
    """What `alembic --sql` writes for this revision alone, without the line about `alembic_version`."""
    output = StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},  # another one doubles every percent sign
        opts={"as_sql": True, "output_buffer": output, "literal_binds": True},
    )
    with context.begin_transaction(), Operations.context(context):
        getattr(script.module, direction)()
    return output.getvalue()


def rendered(script: Script, direction: str) -> list[Statement]:
    place = f"{direction}() of {Path(script.path).name} ({script.revision})"
    try:
        return statements_of(script_of(script, direction))
    except UnreadableSqlError as error:
        raise UnreadableMigrationError(f"{place}: {error}") from error
    except Exception as error:  # Whatever a migration may raise without a database.
        raise UnreadableMigrationError(
            f"{place} cannot be written as SQL without a database: {type(error).__name__}: {error}"
        ) from error
