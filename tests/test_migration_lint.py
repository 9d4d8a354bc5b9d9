"""A migration that would stop somebody is refused before it runs, with a sentence that names it."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from service.db.lint.check import lint
from service.db.lint.findings import Finding
from service.db.lint.revisions import UnreadableMigrationError, revisions_of
from service.db.migrate import ROOT
from service.db.sql_statements import statements_of

FILE = '''"""A planted one."""

import sqlalchemy as sa
from alembic import op
{imports}
revision = "{revision}"
down_revision = "{down}"
branch_labels = {label!r}
depends_on = {depends_on!r}
{exceptions}

def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    op.execute("select from documents")
'''
GATE = "from service.db.gates import gate"
OPEN = 'gate(op, oldest_release="0.2.0")'


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """The base alone: what is planted is found whatever the project's own history becomes."""
    folder = tmp_path / "migrations"
    for name in ("expand", "contract"):
        (folder / "versions" / name).mkdir(parents=True)
    (folder / "backfills").mkdir()
    shutil.copytree(ROOT / "migrations" / "versions" / "base", folder / "versions" / "base")
    for name in ("env.py", "script.py.mako"):
        shutil.copy(ROOT / "migrations" / name, folder)
    return folder


def plant(
    migrations: Path,
    *upgrade: str,
    phase: str = "expand",
    revision: str = "e1",
    down: str = "0001",
    gate: bool = True,
    depends_on: str | None = "0001",
    exceptions: str = "",
) -> None:
    """Statements of SQL, or lines of Python that begin with `op.` or `with`."""
    contract = phase == "contract"
    lines = [OPEN] if contract and gate else []
    lines += [each if each.startswith(("op.", ALONE, "    ")) else f"op.execute({each!r})" for each in upgrade]
    text = FILE.format(
        imports=GATE if contract and gate else "",
        revision=revision,
        down=down,
        label=phase if down == "0001" else None,
        depends_on=depends_on if contract else None,
        exceptions=exceptions,
        upgrade="\n    ".join(lines) or "pass",
    )
    (migrations / "versions" / phase / f"20261123_1000_{phase}_{revision}.py").write_text(text)


def rules(found: list[Finding]) -> set[str]:
    return {each.rule for each in found}


ALONE = "with op.get_context().autocommit_block():"
CLEAN = "drop index concurrently if exists ix_new"
UNSAFE = [
    ("set-not-null", "expand", ["op.alter_column('documents', 'title', nullable=False)"]),
    ("set-not-null", "contract", ["alter table documents alter title set not null"]),
    ("set-not-null", "contract", ["alter table documents add constraint n not null title"]),
    ("set-not-null", "expand", ["op.add_column('documents', sa.Column('colour', sa.Text(), nullable=False))"]),
    ("rename", "expand", ["op.alter_column('documents', 'title', new_column_name='heading')"]),
    ("rename", "contract", ["op.rename_table('documents', 'papers')"]),
    ("rename", "expand", ["alter view search_documents rename to found"]),
    ("rename", "expand", ["alter table documents set schema pg_catalog"]),
    ("type-change", "expand", ["op.alter_column('documents', 'version', type_=sa.BigInteger())"]),
    ("type-change", "contract", ["alter table documents alter column version type bigint"]),
    ("index-not-concurrent", "expand", ["op.create_index('ix_new', 'documents', ['title'])"]),
    ("index-not-concurrent", "expand", ["create unique index uq_new on documents (title)"]),
    ("index-not-concurrent", "contract", ["alter table documents add constraint uq unique (title)"]),
    ("index-not-concurrent", "contract", ["alter table documents add primary key (title)"]),
    ("index-not-concurrent", "expand", ["alter table documents add column isbn text unique"]),
    ("index-not-concurrent", "contract", ["drop index ix_documents_tags"]),
    ("volatile-default", "expand", ["alter table documents add column key uuid default gen_random_uuid()"]),
    ("volatile-default", "expand", ["alter table documents add column at timestamptz default clock_timestamp()"]),
    ("volatile-default", "expand", ["alter table documents add column number bigserial"]),
    ("volatile-default", "expand", ["alter table documents add column n int generated always as (version * 2) stored"]),
    ("constraint-not-valid", "contract", ["alter table documents add constraint c check (version > 0)"]),
    (
        "constraint-not-valid",
        "contract",
        ["alter table documents add constraint f foreign key (id) references tenants (id)"],
    ),
    ("constraint-not-valid", "expand", ["alter table documents add column owner uuid references tenants (id)"]),
    ("constraint-in-expand", "expand", ["alter table documents add constraint c check (title is not null) not valid"]),
    ("constraint-in-expand", "expand", ["alter table documents add constraint n not null title not valid"]),
    ("constraint-in-expand", "expand", ["alter table jobs enable row level security"]),
    (
        "constraint-in-expand",
        "expand",
        [
            ALONE,
            f"    op.execute('{CLEAN}')",
            "    op.execute('create unique index concurrently ix_new on documents (title)')",
        ],
    ),
    ("contract-without-gate", "ungated", ["alter table documents drop column title"]),
    ("contract-without-depends-on", "free", ["alter table documents drop column title"]),
    ("removal-in-expand", "expand", ["op.drop_column('documents', 'title')"]),
    ("removal-in-expand", "expand", ["op.drop_table('jobs')"]),
    ("removal-in-expand", "expand", ["drop view search_documents"]),
    ("removal-in-expand", "expand", ["alter table documents drop constraint uq_documents_collection_id_id"]),
    ("removal-in-expand", "expand", ["alter table documents alter column version drop default"]),
    ("removal-in-expand", "expand", ["drop function tenant_of_key(bytea)"]),
    ("cascade", "contract", ["alter table documents drop column title cascade"]),
    ("data-change", "expand", ["update documents set title = source"]),
    ("data-change", "contract", ["delete from jobs"]),
    ("data-change", "expand", ["insert into tenants (id, name) select id, name from collections"]),
    ("data-change", "expand", ["with gone as (delete from jobs returning id) select count(*) from gone"]),
    ("data-change", "contract", ["truncate jobs"]),
    ("hidden-statement", "expand", ["do $$ begin alter table documents rename title to heading; end $$"]),
    ("hidden-statement", "expand", ["select rename_everything()"]),
    ("hidden-statement", "expand", ["op.get_context().as_sql or op.execute('select 1')"]),
    (
        "index-with-others",
        "expand",
        [
            "alter table documents add column colour text",
            ALONE,
            f"    op.execute('{CLEAN}')",
            "    op.execute('create index concurrently ix_new on documents (colour)')",
        ],
    ),
    ("leftover-index", "expand", [ALONE, "    op.execute('create index concurrently ix_new on documents (title)')"]),
    (
        "leftover-index",
        "expand",
        [ALONE, "    op.execute('create index concurrently if not exists ix_new on documents (title)')"],
    ),
    ("concurrent-index", "expand", [CLEAN, "create index concurrently ix_new on documents (title)"]),
    (
        "concurrent-index",
        "expand",
        [
            ALONE,
            f"    op.execute('{CLEAN}')",
            "    op.execute('create index concurrently ix_new on embeddings (chunk_id)')",
        ],
    ),
    ("enum-type", "expand", ["create type mood as enum ('sad')"]),
    ("enum-value-alone", "expand", ["alter type mood add value 'glad'", "alter table jobs add column mood mood"]),
    ("json-column", "expand", ["op.add_column('documents', sa.Column('extra', sa.JSON()))"]),
    ("json-column", "expand", ["create table extras (id int primary key, extra json)"]),
    ("lock-timeout", "expand", ["set lock_timeout = 0"]),
    ("lock-timeout", "expand", ["set lock_timeout = '10min'"]),
    ("lock-timeout", "expand", ["reset lock_timeout"]),
    (
        "slow-under-lock",
        "contract",
        [
            "alter table documents add constraint c check (title is not null) not valid",
            "alter table documents validate constraint c",
        ],
    ),
    ("slow-under-lock", "contract", ["alter table documents set unlogged"]),
    ("unknown-statement", "expand", ["create publication everything for all tables"]),
    ("unfinished", "expand", ["alter table documents add column colour text /* TODO */"]),
]


@pytest.mark.parametrize(("rule", "phase", "upgrade"), UNSAFE)
def test_what_would_stop_somebody_is_refused(migrations: Path, rule: str, phase: str, upgrade: list[str]) -> None:
    if phase == "ungated":
        plant(migrations, *upgrade, phase="contract", gate=False)
    elif phase == "free":
        plant(migrations, *upgrade, phase="contract", depends_on=None)
    else:
        plant(migrations, *upgrade, phase=phase)
    found = lint(migrations)

    assert rule in rules(found), found
    assert all("20261123_1000_" in str(each) and "(e1)" in str(each) for each in found)


SAFE = [
    ("expand", ["op.add_column('documents', sa.Column('colour', sa.Text()))"]),
    ("expand", ["alter table documents add column colour text not null default 'red'"]),
    ("expand", ["alter table documents add column seen timestamptz default now()"]),
    ("expand", ["alter table document_versions drop constraint ck_document_versions_failed_with_error"]),
    ("expand", ["alter table documents alter column version drop not null"]),
    ("expand", ["create table shelves (id uuid primary key, name text unique)", "create index on shelves (name)"]),
    ("expand", ["create or replace view search_documents as select id from documents"]),
    ("expand", ["insert into tenants (id, name) values ('019a0000-0000-7000-8000-000000000000', 'x')"]),
    (
        "expand",
        [
            "alter table documents add column owner uuid",
            "alter table documents add constraint f foreign key (owner) references tenants (id) not valid",
        ],
    ),
    (
        "expand",
        [
            ALONE,
            f"    op.execute('{CLEAN}')",
            "    op.create_index('ix_new', 'documents', ['title'], postgresql_concurrently=True)",
        ],
    ),
    ("contract", ["alter table documents drop column title"]),
    ("contract", ["op.drop_table('jobs')"]),
    (
        "contract",
        [
            "alter table documents add constraint c check (title is not null) not valid",
            ALONE,
            "    op.execute('alter table documents validate constraint c')",
            "op.alter_column('documents', 'title', nullable=False)",
            "alter table documents drop constraint c",
        ],
    ),
]


@pytest.mark.parametrize(("phase", "upgrade"), SAFE)
def test_what_stops_nobody_passes(migrations: Path, phase: str, upgrade: list[str]) -> None:
    plant(migrations, *upgrade, phase=phase)

    assert lint(migrations) == []


def test_the_history_of_this_project_passes() -> None:
    assert lint(ROOT / "migrations") == []


def test_a_sentence_names_file_revision_and_statement(migrations: Path) -> None:
    plant(migrations, "select from documents", "alter table documents rename column title to heading")
    (finding,) = lint(migrations)

    assert str(finding).startswith(
        "20261123_1000_expand_e1.py (e1): statement 3, `alter table documents rename column title to heading`: a column gets"
    )
    assert str(finding).endswith(" [rename]")


def test_squawk_is_asked_too_and_no_configuration_nearby_silences_it(
    migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rule is its own: ours say nothing of this type. The folder in which it is asked lies below the configuration."""
    (migrations / ".squawk.toml").write_text('excluded_paths = ["**/*.sql"]\n')
    monkeypatch.chdir(migrations)
    monkeypatch.setattr(tempfile, "tempdir", str(migrations))
    plant(migrations, "alter table documents add column colour char(3)")
    (finding,) = lint(migrations)

    assert finding.rule == "ban-char-field"
    assert "add column colour char(3)" in str(finding)


def test_what_both_find_is_said_once(migrations: Path) -> None:
    plant(migrations, "alter table documents alter column version type bigint")

    assert rules(lint(migrations)) == {"type-change"}


DROP = "op.drop_column('documents', 'title')"


def test_an_exception_with_a_reason_passes_and_one_without_does_not(migrations: Path) -> None:
    plant(migrations, DROP, exceptions='LINT_EXCEPTIONS = {"removal-in-expand": "no release has read it since 0.1.0"}')
    excused = lint(migrations)
    plant(migrations, DROP, exceptions='LINT_EXCEPTIONS = {"removal-in-expand": " "}')
    reasonless = lint(migrations)

    # squawk's finding is the same one, so the same exception holds for both.
    assert excused == []
    assert rules(reasonless) == {"removal-in-expand", "exception-without-reason"}


def test_an_exception_that_excuses_nothing_is_an_error(migrations: Path) -> None:
    plant(
        migrations,
        "alter table documents add column colour text",
        exceptions='LINT_EXCEPTIONS = {"rename": "was once"}',
    )

    assert rules(lint(migrations)) == {"unused-exception"}


def test_an_exception_is_of_its_own_file_only(migrations: Path) -> None:
    plant(migrations, DROP, exceptions='LINT_EXCEPTIONS = {"removal-in-expand": "nobody reads it"}')
    plant(migrations, "op.drop_column('documents', 'source')", revision="e2", down="e1")

    assert [each.revision for each in lint(migrations)] == ["20261123_1000_expand_e2.py (e2)"]


def test_a_gate_that_can_be_stepped_around_is_none(migrations: Path) -> None:
    plant(
        migrations, "op.drop_column('documents', 'title')", OPEN.replace("gate(", "op.f(''); gate("), phase="contract"
    )
    path = next((migrations / "versions" / "contract").glob("*.py"))
    inside = path.read_text().replace(f"    {OPEN}\n", f"    if False:\n        {OPEN}\n", 1)
    path.write_text(inside)

    assert "contract-without-gate" in rules(lint(migrations))


def test_a_gate_waits_for_a_backfill_that_is_there(migrations: Path) -> None:
    plant(migrations, DROP, phase="contract")
    path = next((migrations / "versions" / "contract").glob("*.py"))
    path.write_text(path.read_text().replace(OPEN, 'gate(op, oldest_release="0.2.0", backfills=["nobody"])'))

    assert rules(lint(migrations)) == {"unknown-backfill"}
    (migrations / "backfills" / "nobody.py").write_text("")
    assert lint(migrations) == []


def test_a_check_that_an_earlier_revision_validated_proves_a_column(migrations: Path) -> None:
    plant(
        migrations,
        "alter table documents add constraint c check (title is not null) not valid",
        ALONE,
        "    op.execute('alter table documents validate constraint c')",
        phase="contract",
        revision="c1",
    )
    plant(migrations, "alter table documents alter title set not null", phase="contract", revision="c2", down="c1")
    assert lint(migrations) == []

    plant(migrations, "alter table documents alter source set not null", phase="contract", revision="c2", down="c1")
    assert rules(lint(migrations)) == {"set-not-null"}


def test_a_migration_that_asks_the_database_is_refused(migrations: Path) -> None:
    plant(migrations, "op.get_bind().execute(sa.text('select 1'))")

    assert "hidden-statement" in rules(lint(migrations))


def test_a_migration_that_fails_without_a_database_is_a_sentence(migrations: Path) -> None:
    plant(migrations, "op.no_such_operation()")

    with pytest.raises(UnreadableMigrationError, match=r"upgrade\(\) of 20261123_1000_expand_e1.py \(e1\) cannot be"):
        lint(migrations)


def test_sql_that_postgres_does_not_read_is_a_sentence(migrations: Path) -> None:
    plant(migrations, "alter tabel documents add column colour text")

    with pytest.raises(UnreadableMigrationError, match="grammar does not read it: syntax error"):
        lint(migrations)


def test_nothing_that_alembic_would_run_escapes() -> None:
    """The whole history as `alembic upgrade heads --sql` writes it has every statement that is looked at, and no other."""
    script = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "heads", "--sql"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    looked = {each.text for revision in revisions_of(ROOT / "migrations") for each in revision.statements}

    run = {each.text for each in statements_of(script)}

    assert looked <= run
    assert all("alembic_version" in text or "applied_migrations" in text or "set role" in text for text in run - looked)


def test_the_command_prints_each_finding_and_fails(migrations: Path) -> None:
    plant(migrations, DROP)
    code = f"from pathlib import Path; from service.cli.lint import lint; lint(Path({str(migrations)!r}))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert answer.returncode == 1
    assert "[removal-in-expand]\n" in answer.stderr
    assert "Findings: 1" in answer.stderr
