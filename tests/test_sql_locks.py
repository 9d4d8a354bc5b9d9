"""What the dry run says of locks is what Postgres does: each statement is run, and `pg_locks` is asked."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.db.sql_lock_modes import TakenLock, Work
from service.db.sql_locks import NO_LOCK, TAKES, UnknownStatementError, locks_of
from service.db.sql_statements import UnreadableSqlError, statements_of
from tests.conftest import execute
from tests.stacks import Stack

WORLD = """
create schema attic;
create table authors (id int primary key, name text);
create table books (id int primary key, author int, title text, pages int not null default 1, "Shelf" text);
alter table books add constraint ck_books_late check (pages > 0) not valid;
create index ix_books_title on books (title);
create index ix_books_words on books using gin (to_tsvector('simple', title));
create unique index uq_books_pages on books (pages);
create view titles as select id, title from books;
create materialized view counted as select 1 as n;
create unique index uq_counted on counted (n);
create table parts (id int, kind int) partition by list (kind);
create table part_one partition of parts for values in (1);
create table part_two (id int, kind int);
create type mood as enum ('sad');
create function nothing() returns trigger language plpgsql as 'begin return new; end';
create trigger looked before update on books for each row execute function nothing();
create policy everything on books;
insert into authors values (1, 'a');
insert into books select n, 1, n::text, n from generate_series(1, 50) n;
"""
TABLE_OF = {"the table of ix_books_title": "books"}
HELD = (
    "select relation, mode from pg_locks"
    " where pid = pg_backend_pid() and locktype = 'relation' and granted and relation = any($1::oid[])"
)
# What a request can meet; indexes are locked with their tables, and only some are named.
THERE = (
    "select c.oid, c.relname, relkind::text as kind, relfilenode, coalesce(s.seq_scan, 0) as scans from pg_class c"
    " left join pg_stat_xact_user_tables s on s.relid = c.oid"
    " where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'i')"
)


@pytest.fixture(scope="module")
async def url(stack: Stack) -> AsyncIterator[str]:
    name = f"{stack.database_prefix}_locks"
    await execute(stack, f"create database {name}")
    address = stack.postgres.url(database=name)
    connection = await asyncpg.connect(address)
    await connection.execute(WORLD)
    await connection.close()
    yield address
    await execute(stack, f"drop database {name} with (force)")


@pytest.fixture
async def connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


IN_A_TRANSACTION = [
    "alter table books add column colour text",
    "alter table books add column colour text default 'red' not null",
    "alter table books add column seen timestamptz default now()",
    "alter table books add column key uuid default gen_random_uuid()",
    "alter table books add column number bigserial",
    "alter table books add column number int generated always as identity",
    "alter table books add column twice int generated always as (pages * 2) stored",
    "alter table books add column twice int generated always as (pages * 2) virtual",
    "alter table books add column colour text check (colour <> '')",
    "alter table books add column writer int references authors",
    "alter table books add column writer int default 1 references authors",
    "alter table books add column isbn text unique",
    "alter table books drop column author",
    "alter table books alter column title set not null",
    "alter table books alter column pages drop not null",
    "alter table books alter column pages set default 2",
    "alter table books alter column pages type bigint",
    "alter table books alter column title set statistics 200",
    "alter table books alter column title set storage main",
    "alter table books set (fillfactor = 80)",
    "alter table books set (autovacuum_enabled = off, parallel_workers = 2)",
    "alter table books reset (vacuum_truncate, toast.log_autovacuum_min_duration)",
    "alter index ix_books_title set (fillfactor = 80, deduplicate_items = off)",
    "alter index ix_books_words set (fastupdate = off)",
    "alter index ix_books_words reset (gin_pending_list_limit)",
    "alter table books add constraint c check (pages < 9999)",
    "alter table books add constraint c check (pages < 9999) not valid",
    "alter table books add constraint n not null title not valid",
    "alter table books add constraint n not null title",
    "alter table books validate constraint ck_books_late",
    "alter table books drop constraint ck_books_late",
    "alter table books add constraint f foreign key (author) references authors",
    "alter table books add constraint f foreign key (author) references authors not valid",
    "alter table books add constraint u unique (title)",
    "alter table books add constraint u unique using index uq_books_pages",
    "alter table books rename constraint ck_books_late to ck_books_later",
    "alter table books enable row level security",
    "alter table books disable trigger looked",
    "alter table books set unlogged",
    "alter table books owner to current_user",
    "alter table parts attach partition part_two for values in (2)",
    "alter table parts detach partition part_one",
    'alter table books drop column "Shelf"',
    "alter table books rename column title to heading",
    "alter table authors rename to writers",
    "alter index ix_books_title rename to ix_books_heading",
    "alter view titles rename to headings",
    "alter type mood add value 'glad'",
    "create index ix_books_author on books (author)",
    "create unique index uq_books_title on books (title)",
    "drop index ix_books_title",
    "reindex table books",
    "reindex index ix_books_title",
    "create table shelves (id int primary key)",
    "create table loans (id int, book int references books)",
    "create table copies (like authors)",
    "create table part_three partition of parts for values in (3)",
    "create table long_books as select id, title from books",
    "create view writers as select name from authors",
    "create or replace view titles as select id, title, pages from books",
    "drop view titles",
    "drop table part_two",
    "create policy mine on authors using (exists (select from books b where b.author = authors.id))",
    "drop policy everything on books",
    "create trigger changed before update on authors for each row execute function nothing()",
    "drop trigger looked on books",
    "comment on table books is 'x'",
    "comment on column books.title is 'x'",
    "create statistics s on id, pages from books",
    "grant select on books to public",
    "create function one() returns int language sql as 'select 1'",
    "set local lock_timeout = '1s'",
    "insert into books values (100, 1, 'x', 100)",
    "insert into authors select 1000 + id, title from books",
    "update books set title = 'x' from authors where authors.id = author",
    "delete from books where author in (select id from authors where name = 'b')",
    "with gone as (delete from books returning author) select count(*) from gone join authors on id = author",
    "select title from books for update",
    "merge into books using authors a on a.id = author when matched then delete",
    "create rule quiet as on delete to books do also nothing",
    "alter policy everything on books using (id > 0)",
    "alter table part_two set schema attic",
    "truncate books",
    "lock table books in share row exclusive mode",
    "refresh materialized view counted",
    "refresh materialized view concurrently counted",
    "cluster books using ix_books_title",
    "analyze books",
    "drop materialized view counted",
]


def said(sql: str) -> dict[str, TakenLock]:
    locks = {TABLE_OF.get(lock.relation, lock.relation): lock for lock in locks_of(sql)}
    return {name.strip('"'): lock for name, lock in locks.items()}


def in_words(mode: str) -> str:
    """`AccessExclusiveLock`, as the manual writes it."""
    spaced = "".join(f" {letter}" if letter.isupper() else letter for letter in mode.removesuffix("Lock"))
    return spaced.strip().upper()


@pytest.mark.parametrize("sql", IN_A_TRANSACTION)
async def test_a_statement_takes_the_locks_that_are_said(connection: asyncpg.Connection, sql: str) -> None:
    locks = said(sql)
    before = {row["oid"]: row for row in await connection.fetch(THERE)}
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(sql)
    held = await connection.fetch(HELD, list(before))
    after = {row["oid"]: row for row in await connection.fetch(THERE)}
    await transaction.rollback()

    taken: dict[str, set[str]] = {}
    for row in held:
        name = before[row["relation"]]["relname"]
        if before[row["relation"]]["kind"] != "i" or name in locks:
            taken.setdefault(name, set()).add(in_words(row["mode"]))
    assert {name: lock.mode for name, lock in locks.items()} == {
        name: strongest(modes) for name, modes in taken.items()
    }
    for oid, row in before.items():
        lock = locks.get(row["relname"])
        if lock and row["kind"] in {"r", "m"} and oid in after and lock.work is not Work.ROWS:
            assert work(row, after[oid]) is simplified(lock.work, sql), row["relname"]


def strongest(modes: set[str]) -> str:
    order = [
        "ACCESS SHARE",
        "ROW SHARE",
        "ROW EXCLUSIVE",
        "SHARE UPDATE EXCLUSIVE",
        "SHARE",
        "SHARE ROW EXCLUSIVE",
        "EXCLUSIVE",
        "ACCESS EXCLUSIVE",
    ]
    return max(modes, key=order.index)


def work(before: asyncpg.Record, after: asyncpg.Record) -> Work:
    if before["relfilenode"] != after["relfilenode"]:
        return Work.REWRITE
    return Work.SCAN if after["scans"] else Work.INSTANT


def simplified(said: Work, sql: str) -> Work:
    """Both read the whole table; TRUNCATE makes a new, empty file."""
    if sql.startswith("truncate"):
        return Work.REWRITE
    return Work.SCAN if said is Work.BUILD else said


CONCURRENT = [
    "create index concurrently ix_books_author on books (author)",
    "drop index concurrently ix_books_title",
    "reindex index concurrently ix_books_title",
    "reindex table concurrently books",
]


@pytest.mark.parametrize("sql", CONCURRENT)
async def test_a_concurrent_statement_holds_the_lock_that_is_said_while_it_waits(url: str, sql: str) -> None:
    """A writer that does not end holds it up, so that there is time to look."""
    writer, builder, watcher = [await asyncpg.connect(url) for _ in range(3)]
    await writer.execute("begin; update books set title = title where id = 1")
    pid = await builder.fetchval("select pg_backend_pid()")
    building = asyncio.create_task(builder.execute(sql))
    locks = said(sql)
    tables = {lock for lock in locks if not lock.startswith("ix_")}
    query = (
        "select mode from pg_locks where pid = $1 and locktype = 'relation' and granted"
        " and relation = any($2::text[]::regclass[]::oid[])"
    )
    async with asyncio.timeout(60):
        while not await watcher.fetchval("select wait_event_type = 'Lock' from pg_stat_activity where pid = $1", pid):  # noqa: ASYNC110  another connection changes it
            await asyncio.sleep(0.02)
    held = {in_words(row["mode"]) for row in await watcher.fetch(query, pid, list(tables))}
    await watcher.execute("insert into books values (9999, 1, 'goes on', 9999); delete from books where id = 9999")
    await writer.execute("rollback")
    await building
    await watcher.execute(
        "drop index if exists ix_books_author; create index if not exists ix_books_title on books (title)"
    )
    for each in (writer, builder, watcher):
        await each.close()

    assert tables == {"books"}
    assert strongest(held) == locks["books"].mode == "SHARE UPDATE EXCLUSIVE"


def test_every_kind_of_statement_that_is_known_is_run_above() -> None:
    seen = {statement.kind for sql in IN_A_TRANSACTION for statement in statements_of(sql)}

    assert set(TAKES) - seen == {"vacuum_stmt"} - seen
    assert not NO_LOCK & set(TAKES)


def test_a_lock_is_one_line_in_the_words_of_postgres() -> None:
    (lock,) = locks_of("alter table document_versions drop column error_code")

    assert str(lock) == "ACCESS EXCLUSIVE on document_versions, for an instant: nobody reads or writes"


def test_several_statements_are_one_answer_for_each_table() -> None:
    locks = locks_of("alter table a validate constraint c; alter table a add column x int; create index i on b (x)")

    assert [(lock.relation, lock.mode, lock.work) for lock in locks] == [
        ("a", "ACCESS EXCLUSIVE", Work.SCAN),
        ("b", "SHARE", Work.BUILD),
    ]


def test_what_nobody_knows_is_no_answer() -> None:
    with pytest.raises(UnknownStatementError, match="not known: do"):
        locks_of("do $$ begin alter table books drop column title; end $$")
    with pytest.raises(UnreadableSqlError, match="grammar"):
        locks_of("alter tabel books")
