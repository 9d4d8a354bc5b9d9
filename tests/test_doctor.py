"""`service doctor`: every fault that is planted is found, alone, and its remedy heals it."""

import shlex
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import orjson
import pytest
from alembic.script import ScriptDirectory
from pydantic import SecretStr

from service.cli.checks import database, machine
from service.cli.checks.finding import Finding, checking
from service.cli.doctor import examine, show
from service.db.migrate import alembic_config
from service.db.roles import SEARCHER, create_roles
from service.domain.ids import new_id
from service.local.ports import free_port
from service.resources import Resources, open_primary
from service.settings import Settings
from tests.conftest import PASSWORDS
from tests.pooler import PoolerError, find_program, running_pooler
from tests.stacks import Stack
from tests.test_cli_doors import doors
from tests.worker_calls import environment_of

NEWEST = ScriptDirectory.from_config(alembic_config("")).get_heads()[0]

Examine = Callable[..., Awaitable[list[Finding]]]


@pytest.fixture(scope="module")
async def rights(stack: Stack, settings: Settings) -> None:
    """A copy of a database has the rights of a new one."""
    name = urlsplit(settings.database_url.get_secret_value()).path.removeprefix("/")
    await create_roles(stack.postgres.url(database=name), PASSWORDS)


@pytest.fixture
def examined(rights: None, settings: Settings, tmp_path: Path) -> Examine:  # noqa: ARG001
    """What it finds beside what is fine; arguments exchange variables, None takes one away."""

    async def examined(**changes: str | None) -> list[Finding]:
        variables: dict[str, str | None] = {**environment_of(settings), "DATA_DIR": str(tmp_path), **changes}
        found: list[Finding] = []
        await examine({name: value for name, value in variables.items() if value is not None}, found.append)
        return [finding for finding in found if finding.level != "ok"]

    return examined


async def heal(finding: Finding, settings: Settings) -> None:
    """Runs a remedy for psql as the migrator would, statement by statement."""
    words = shlex.split(finding.remedy)
    assert words[:2] == ["psql", "$DATABASE_DIRECT_URL"]
    assert settings.database_direct_url is not None
    connection = await asyncpg.connect(settings.database_direct_url.get_secret_value())
    try:
        for flag, statement in zip(words[2::2], words[3::2], strict=True):
            assert flag == "-c"
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_whole_service_is_well(examined: Examine) -> None:
    assert await examined() == []


@pytest.mark.parametrize(
    ("plant", "check", "words"),
    [
        ("alter table chunks disable row level security", "row security", "off on chunks"),
        ("alter table documents force row level security", "row security", "forced on documents"),
        ("drop index ix_chunk_terms_terms", "indexes", "ix_chunk_terms_terms is missing"),
        ("drop index uq_jobs_dedupe_key", "indexes", "uq_jobs_dedupe_key is missing"),
        ("drop index ix_embeddings_document_id", "indexes", "ix_embeddings_document_id is missing"),
        (
            "alter table chunks drop constraint uq_chunks_document_id_ordinal",
            "indexes",
            "document_id_ordinal is missing",
        ),
    ],
)
async def test_what_is_wrong_with_a_table_is_found_and_healed(
    examined: Examine, settings: Settings, admin: asyncpg.Connection, *, plant: str, check: str, words: str
) -> None:
    await admin.execute(plant)
    (finding,) = await examined()

    assert (finding.check, finding.level) == (check, "error")
    assert words in finding.sentence
    await heal(finding, settings)
    assert await examined() == []


async def test_an_index_whose_build_failed_is_found_and_healed(
    examined: Examine, settings: Settings, admin: asyncpg.Connection
) -> None:
    await admin.execute(
        "insert into jobs (id, kind, run_at) select uuidv7(), 'twice', now() + '1 day' from generate_series(1, 2)"
    )
    with pytest.raises(asyncpg.UniqueViolationError):
        await admin.execute("create unique index concurrently half_built on jobs (kind)")
    (finding,) = await examined()

    assert (finding.check, finding.level) == ("indexes", "error")
    assert "half_built is invalid" in finding.sentence
    await admin.execute("delete from jobs")
    await heal(finding, settings)
    assert await examined() == []
    await admin.execute("drop index half_built")


async def test_a_missing_graph_is_found(examined: Examine, resources: Resources, admin: asyncpg.Connection) -> None:
    graph = f"embeddings_p_{resources.profile.id.hex}_hnsw"
    definition = await admin.fetchval("select indexdef from pg_indexes where indexname = $1", graph)
    await admin.execute(f"drop index {graph}")
    (finding,) = await examined()
    await admin.execute(definition)

    assert finding.level == "error"
    assert graph in finding.sentence
    assert finding.remedy == "python -m service migrate"


async def test_statistics_that_are_behind_are_found_and_healed(
    examined: Examine, settings: Settings, admin: asyncpg.Connection
) -> None:
    await admin.execute("alter table tenants set (autovacuum_enabled = off)")
    await admin.execute("insert into tenants (id, name) select uuidv7(), 'many ' || n from generate_series(1, 3000) n")
    await admin.execute("select pg_stat_force_next_flush()")
    (finding,) = await examined()

    assert (finding.check, finding.level) == ("statistics", "warning")
    assert "tenants was never analysed, and 3,000 changes" in finding.sentence
    await heal(finding, settings)
    assert await examined() == []


@pytest.mark.parametrize(
    ("columns", "level", "words", "remedy"),
    [
        ("state, last_error) values ('dead', 'it broke')", "error", "are dead; one of them: it broke", "jobs retry"),
        ("state, lease_until) values ('running', now() - '1 h'::interval)", "error", "went silent", "service worker"),
        ("state, run_at) values ('queued', now() - '1 h'::interval)", "warning", "have been due", "worker --owner"),
    ],
)
async def test_jobs_that_nobody_does_are_found(
    examined: Examine, admin: asyncpg.Connection, *, columns: str, level: str, words: str, remedy: str
) -> None:
    statement = f"insert into jobs (id, kind, {columns}".replace(
        "values (", f"values ('{new_id()}', 'index_attribute', "
    )
    await admin.execute(statement)
    (finding,) = await examined()
    await admin.execute("delete from jobs")

    assert (finding.check, finding.level) == ("jobs", level)
    assert words in finding.sentence
    assert remedy in finding.remedy


async def test_a_schema_behind_the_code_is_found(examined: Examine, admin: asyncpg.Connection) -> None:
    (head,) = await admin.fetchrow("delete from applied_migrations where revision = $1 returning revision", NEWEST)
    (behind,) = await examined()
    await admin.execute("insert into applied_migrations (revision) values ($1)", head)
    (unseen,) = await examined(DATABASE_DIRECT_URL=None)

    assert (behind.check, behind.level) == ("migrations", "error")
    assert f"and {NEWEST} is not applied" in behind.sentence
    assert behind.remedy == "python -m service migrate"
    assert unseen.level == "warning"
    assert "only the owner sees" in unseen.sentence


async def test_a_model_that_the_database_was_not_prepared_for_is_found(examined: Examine) -> None:
    found = await examined(EMBEDDING_MODEL="all-MiniLM-L6-v2")

    assert {(finding.check, finding.level) for finding in found} >= {("embedding profile", "error")}
    assert "no embedding profile 'all-MiniLM-L6-v2'" in found[0].sentence


async def test_roles_that_may_too_much_are_found(
    examined: Examine, settings: Settings, admin: asyncpg.Connection
) -> None:
    as_migrator, as_application = (
        url.get_secret_value() for url in (settings.database_direct_url or SecretStr(""), settings.database_url)
    )
    found = await examined(DATABASE_URL=as_migrator, SEARCH_DATABASE_URL=as_application)
    owning = next(finding for finding in found if finding.check == "application role")
    reading = next(finding for finding in found if finding.check == "searcher role")
    name = urlsplit(as_migrator).path.removeprefix("/")
    await admin.execute(f'grant temporary on database "{name}" to {SEARCHER}')
    await admin.execute(f"alter role {SEARCHER} reset statement_timeout")
    lax = await examined()
    await admin.execute(f'revoke temporary on database "{name}" from {SEARCHER}')
    await admin.execute(f"alter role {SEARCHER} set statement_timeout = '5s'")

    assert "owns the tables" in owning.sentence
    assert "may touch chunk_terms, chunks, document_versions" in reading.sentence
    assert [(finding.check, finding.level, finding.remedy) for finding in lax] == [
        ("searcher role", "warning", "python -m service roles")
    ] * 2


async def test_a_bucket_that_cannot_be_written_is_found_and_a_good_one_left_as_it_was(
    examined: Examine, resources: Resources
) -> None:
    (missing,) = await examined(S3_BUCKET="nobody-made-this")
    (away,) = await examined(S3_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}")
    (wrong,) = await examined(S3_SECRET_ACCESS_KEY="wrong")

    assert [finding.check for finding in (missing, away, wrong)] == ["bucket"] * 3
    assert "does not have the bucket" in missing.sentence
    assert "does not answer" in away.sentence
    assert "S3_BUCKET" in missing.remedy
    assert [blob async for blob in resources.blobs.list_blobs("doctor/")] == []


async def test_a_database_that_is_away_is_three_findings_and_the_bucket_is_still_examined(examined: Examine) -> None:
    nowhere = "postgresql://somebody:secret@127.0.0.1:1/nothing"
    found = await examined(
        DATABASE_URL=nowhere, SEARCH_DATABASE_URL=nowhere, DATABASE_DIRECT_URL=nowhere, S3_BUCKET="x-y-z"
    )

    assert [finding.check for finding in found] == ["DATABASE_URL", "SEARCH_DATABASE_URL", "migrations", "bucket"]
    assert {finding.sentence for finding in found[:3]} == {"the database does not answer"}
    assert "secret" not in str(found)


async def test_a_pooler_that_does_not_do_what_the_setting_says_is_found(examined: Examine, settings: Settings) -> None:
    try:
        find_program()
    except PoolerError as error:
        pytest.skip(str(error))
    direct = settings.database_direct_url
    assert direct is not None
    parts = urlsplit(direct.get_secret_value())
    url = parts._replace(netloc=f"{SEARCHER}:{PASSWORDS.searcher}@{parts.hostname}:{parts.port}").geturl()
    async with running_pooler(url, users={SEARCHER: PASSWORDS.searcher}, tracked=False) as pooler:
        found = await examined(SEARCH_DATABASE_URL=pooler.through(url), PG_STATEMENT_MODE="tracked")

    wrong = next(finding for finding in found if finding.check == "SEARCH_DATABASE_URL")
    assert "set PG_STATEMENT_MODE=untracked" in wrong.sentence


@pytest.mark.parametrize(("seconds", "level"), [(0.0, "ok"), (10.0, "warning"), (-100.0, "error")])
async def test_a_clock_that_is_off_is_found(settings: Settings, seconds: float, level: str) -> None:
    found: list[Finding] = []
    primary = open_primary(settings)
    try:
        await database.check_clock(primary, found.append, now=lambda: time.time() + seconds)
    finally:
        await primary.close()

    assert [finding.level for finding in found] == [level]
    assert not seconds or f"{abs(seconds):.1f} s" in found[0].sentence


@pytest.mark.parametrize(
    ("installed", "available", "level", "remedy"),
    [
        ("0.8.5", "0.8.5", None, ""),
        ("0.8.1", "0.8.5", "warning", "alter extension vector update"),
        ("0.8.1", "0.8.1", "warning", "install pgvector"),
        ("0.7.4", "0.8.5", "error", "alter extension vector update"),
    ],
)
def test_an_old_pgvector_is_found(installed: str, available: str, level: str | None, remedy: str) -> None:
    found: list[Finding] = []
    with checking("versions", found.append) as findings:
        database.check_pgvector(installed, available, findings)

    assert [finding.level for finding in found] == ([level] if level else [])
    assert all(remedy in finding.remedy for finding in found)


def test_a_disk_that_is_nearly_full_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Finding] = []
    machine.check_disk(tmp_path, found.append)
    monkeypatch.setattr(machine, "LITTLE_BYTES", 10**18)
    machine.check_disk(tmp_path, found.append)
    monkeypatch.setattr(machine, "LEAST_BYTES", 10**18)
    machine.check_disk(tmp_path, found.append)
    machine.check_disk(tmp_path / "nowhere", found.append)

    assert [finding.level for finding in found][1:] == ["warning", "error"]
    assert "DATA_DIR=" in found[-1].remedy


def test_what_a_check_stumbles_over_is_its_finding() -> None:
    found: list[Finding] = []
    with checking("patient", found.append):
        raise KeyError("nobody foresaw this")

    assert found == [Finding("patient", "error", "could not be checked: KeyError: 'nobody foresaw this'")]


def test_a_remedy_is_printed_in_one_piece(capsys: pytest.CaptureFixture[str]) -> None:
    remedy = (
        "psql \"$DATABASE_DIRECT_URL\" -c 'set role hybrid_owner' -c 'reindex index concurrently [a_rather_long_name]'"
    )
    show([Finding("indexes", "error", "one is invalid", remedy), Finding("clock", "ok", "right")])
    out = capsys.readouterr().out

    assert remedy in out
    assert "2 findings: 1 errors, 0 warnings." in out


async def test_without_an_environment_it_examines_what_make_run_started(
    examined: Examine, settings: Settings, tmp_path: Path
) -> None:
    """Which writes down, for as long as it runs, what its processes were given."""
    variables = environment_of(settings)
    nothing = await examined(**dict.fromkeys(variables))
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    (tmp_path / "environment").write_text(lines, encoding="utf-8")
    found = await examined(**dict.fromkeys(variables))

    assert [(finding.check, finding.level) for finding in nothing] == [("settings", "error")]
    assert found == []


async def test_the_command_ends_with_1_when_something_is_wrong(
    rights: None,  # noqa: ARG001
    settings: Settings,
    tmp_path: Path,
) -> None:
    right = {**environment_of(settings), "DATA_DIR": str(tmp_path)}
    well, ill, nowhere, wrong = await doors(
        ("doctor --json", right),
        ("doctor --json", right | {"S3_BUCKET": "nobody-made-this"}),
        ("doctor", {"DATA_DIR": str(tmp_path)}),
        ("doctor", right | {"PG_STATEMENT_MODE": "perhaps"}),
    )

    assert [answer[0] for answer in (well, ill, nowhere, wrong)] == [0, 1, 1, 1]
    lines = [orjson.loads(line) for line in ill[1].splitlines()]
    assert {line["check"] for line in lines if line["level"] == "error"} == {"bucket"}
    assert all(set(line) == {"check", "level", "sentence", "remedy"} for line in lines)
    assert all(line["remedy"] for line in lines if line["level"] != "ok")
    assert "nothing runs in" in nowhere[1]
    assert "pg_statement_mode" in wrong[1]
    for answer in (well, ill, nowhere, wrong):
        assert answer[2] == ""
