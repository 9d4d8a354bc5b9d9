"""`service migrate new` writes three files that fit each other, and that run as they are."""

import ast
import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from service.cli.dry_run import dry_run, lines_of
from service.cli.new_migration import NotWrittenError, change_of, next_release, write
from service.db.lint.check import lint
from service.db.lint.findings import Known
from service.db.lint.revisions import revisions_of
from service.db.migrate import ROOT, upgrade
from service.db.roles import MIGRATOR
from tests.conftest import PASSWORDS, execute
from tests.stacks import Stack


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy to make new migrations in."""
    for name in ("migrations", "service"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.fixture
async def direct_url(stack: Stack, template: str) -> AsyncIterator[str]:
    """A database with this project's own history."""
    name = template.replace("template", "new_migration")
    await execute(stack, f"create database {name} template {template}")
    yield stack.postgres.url(MIGRATOR, PASSWORDS.migrator, name)
    await execute(stack, f"drop database {name} with (force)")


def made(checkout: Path, words: str = "document colour") -> list[Path]:
    change = change_of(words, table="documents", column="colour", column_type="text")
    return write(change, checkout / "migrations")


async def alembic(checkout: Path, direct_url: str, *arguments: str) -> None:
    environment = os.environ | {"DATABASE_DIRECT_URL": direct_url}
    command = [sys.executable, "-m", "alembic", *arguments]
    answer = await asyncio.to_thread(
        subprocess.run, command, cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr


def test_the_names_carry_date_time_and_phase(checkout: Path) -> None:
    expand, backfill, contract = made(checkout)

    assert re.fullmatch(r"\d{8}_\d{4}_expand_document_colour\.py", expand.name)
    assert re.fullmatch(r"\d{8}_\d{4}_contract_document_colour\.py", contract.name)
    assert (expand.parent.name, backfill.parent.name, contract.parent.name) == ("expand", "backfills", "contract")
    assert backfill.name == "document_colour.py"
    assert ["Phase: expand" in expand.read_text(), "Phase: contract" in contract.read_text()] == [True, True]


def test_what_is_made_fits_together_and_passes_the_linter(checkout: Path) -> None:
    before = lint(checkout / "migrations")
    expand, backfill, contract = (path.read_text() for path in made(checkout))
    (revision,) = re.findall(r'^revision: str = "(\w+)"', expand, re.MULTILINE)
    (sealing,) = re.findall(r'^revision: str = "(\w+)"', contract, re.MULTILINE)

    assert f'depends_on: str | Sequence[str] | None = "{revision}"' in contract
    assert f'gate(op, oldest_release="{next_release()}", backfills=["document_colour"])' in contract
    assert f'after="{revision}",\n    until="{sealing}",' in backfill
    assert 'key=("id",),' in backfill
    assert lint(checkout / "migrations") == before


async def test_what_is_made_runs_up_down_and_up(checkout: Path, direct_url: str) -> None:
    made(checkout)
    columns = (
        "select is_nullable from information_schema.columns where table_name = 'documents' and column_name = 'colour'"
    )
    connection = await asyncpg.connect(direct_url)
    seen = []
    for arguments in (
        ("upgrade", "heads"),
        ("downgrade", "contract@-1"),
        ("downgrade", "expand@-1"),
        ("upgrade", "heads"),
    ):
        await alembic(checkout, direct_url, *arguments)
        seen.append(await connection.fetchval(columns))
    left = await connection.fetchval("select count(*) from pg_constraint where conname like 'ck_documents_colour%'")
    await connection.close()

    assert seen == ["NO", "YES", None, "NO"]
    assert left == 0


def test_a_second_one_continues_the_first(checkout: Path) -> None:
    made(checkout)
    made(checkout, "document shade")

    texts = "".join(path.read_text() for path in (checkout / "migrations" / "versions").glob("*/*.py"))
    assert texts.count('branch_labels: str | Sequence[str] | None = ("expand",)') == 1
    assert texts.count('branch_labels: str | Sequence[str] | None = ("contract",)') == 1
    assert not {each.rule for each in lint(checkout / "migrations")} - {each.rule for each in lint(ROOT / "migrations")}


def test_without_options_it_has_marks_that_the_linter_refuses(checkout: Path) -> None:
    change = change_of("document colour", table="", column="", column_type="")
    paths = write(change, checkout / "migrations")
    marked = {each.revision.split(" ")[0] for each in lint(checkout / "migrations") if each.rule == "unfinished"}

    assert marked == {paths[0].name, f"backfills/{paths[1].name}", paths[2].name}
    for path in paths:
        ast.parse(path.read_text())


@pytest.mark.parametrize("words", ["", "   ", "../escape", "colour'; drop", "1st", "grün", "x" * 51, "_hidden"])
def test_words_that_make_no_file_name_are_a_sentence(words: str) -> None:
    with pytest.raises(NotWrittenError, match="makes no file name"):
        change_of(words, table="", column="", column_type="")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("documents; drop", "a", "text"), "--table 'documents; drop' is not a name"),
        (("nobody", "a", "text"), "no table of db/tables.py is called nobody; there are: api_keys"),
        (("documents", "A b", "text"), "--column 'A b' is not a name"),
        (("documents", "a", "text; drop"), "--type 'text; drop' is not a name"),
        (("documents", "select", "text"), "as SQL, select text is no column"),
    ],
)
def test_a_name_that_is_no_sql_is_a_sentence(options: tuple[str, str, str], sentence: str) -> None:
    table, column, column_type = options
    with pytest.raises(NotWrittenError, match=re.escape(sentence)):
        change_of("colour", table=table, column=column, column_type=column_type)


def test_words_that_are_taken_are_a_sentence(checkout: Path) -> None:
    made(checkout)

    with pytest.raises(NotWrittenError, match="is there already: choose other words"):
        made(checkout)


def test_a_folder_that_takes_no_file_is_a_sentence_and_nothing_is_left(checkout: Path) -> None:
    """A file where the folder should be: a folder without rights stops nobody who is root."""
    shutil.rmtree(checkout / "migrations" / "backfills", ignore_errors=True)
    (checkout / "migrations" / "backfills").write_text("")
    before = set((checkout / "migrations" / "versions").rglob("*.py"))

    with pytest.raises(NotWrittenError, match=r"nothing was written, .*backfills"):
        made(checkout)
    assert set((checkout / "migrations" / "versions").rglob("*.py")) == before


def test_the_command_says_what_it_wrote_and_what_is_left(checkout: Path) -> None:
    code = (
        "from pathlib import Path; from service.cli.new_migration import new;"
        " new('Document colour', table='documents', column='colour', column_type='text', migrations=Path('migrations').resolve())"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stderr
    assert re.search(
        r"^Wrote migrations/versions/expand/\d{8}_\d{4}_expand_document_colour.py$", answer.stdout, re.MULTILINE
    )
    assert "Wrote migrations/backfills/document_colour.py" in answer.stdout
    assert "To fill in:" in answer.stdout


def test_the_dry_run_knows_what_a_valid_check_spares(checkout: Path) -> None:
    made(checkout)
    known = Known()
    shown = ["\n".join(lines_of(revision, known)) for revision in revisions_of(checkout / "migrations")]

    (contract,) = [each for each in shown if "set not null" in each]
    assert "set not null;\n   -- ACCESS EXCLUSIVE on documents, for an instant: nobody reads or writes" in contract


async def test_the_dry_run_shows_what_is_left_with_its_locks_and_changes_nothing(stack: Stack, template: str) -> None:
    """Of an empty database: everything is left."""
    name = template.replace("template", "dry_run")
    await execute(stack, f"create database {name} owner hybrid_owner")
    admin = await asyncpg.connect(stack.postgres.url(database=name))
    await admin.execute("create extension vector")
    url = stack.postgres.url(MIGRATOR, PASSWORDS.migrator, name)
    empty = await asyncio.to_thread(dry_run, url, phase="expand")
    tables = await admin.fetchval("select count(*) from pg_tables where schemaname = 'public'")
    await upgrade(url)
    done = await asyncio.to_thread(dry_run, url, phase="expand")
    await admin.close()
    await execute(stack, f"drop database {name} with (force)")

    assert "revision 0001" in empty
    assert "CREATE TABLE embedding_profiles" in empty
    assert "\n   -- ACCESS EXCLUSIVE on search_documents, for an instant: nobody reads or writes" in empty
    assert tables == 0
    assert done == "-- Nothing is left to expand."
