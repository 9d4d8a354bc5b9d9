"""The doors with wrong settings, wrong roles and a database that is away: a sentence and a status, never a traceback."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from service.db.roles import APPLICATION, MIGRATOR
from service.domain.ids import new_id
from service.local.ports import free_port
from service.settings import Settings
from tests.api_calls import Api
from tests.conftest import PASSWORDS
from tests.stacks import Stack
from tests.worker_calls import environment_of

ROOT = Path(__file__).parents[1]
NOWHERE = "postgresql://somebody:secret@127.0.0.1:1/nothing"

Answer = tuple[int, str, str]


async def door(arguments: Sequence[str], environment: Mapping[str, str]) -> Answer:
    """Status, output and errors of `python -m service …` with these variables and no others of ours."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service",
        *arguments,
        cwd=ROOT,
        env={"PATH": os.defpath, "HOME": "/", "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    except TimeoutError:
        process.kill()
        raise
    return process.returncode or 0, out.decode(), err.decode()


async def doors(*calls: tuple[str, Mapping[str, str]]) -> list[Answer]:
    """At once, because each takes seconds to import what it needs."""
    return await asyncio.gather(*(door(words.split(), environment) for words, environment in calls))


def sentences(answer: Answer) -> list[str]:
    """Of a refusal: what stands on standard error."""
    code, out, err = answer
    assert (code, out) == (1, ""), (out, err)
    assert "Traceback" not in err
    lines = err.strip().splitlines()
    assert all(line.startswith("Error: ") for line in lines), err
    return [line.removeprefix("Error: ") for line in lines]


async def test_missing_and_wrong_settings_are_named_one_by_one(settings: Settings) -> None:
    right = environment_of(settings)
    required = ["DATABASE_URL", "SEARCH_DATABASE_URL", "S3_ENDPOINT_URL", "S3_BUCKET"]
    required += ["S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"]
    wrong = {"PORT": "many", "DATABASE_TLS": "perhaps", "SEARCH_DRIVER": "psycopg"}
    nothing, another_nothing, mistaken, listed = await doors(
        ("serve", {}), ("worker", {}), ("serve", right | wrong), ("jobs list", {})
    )

    for answer in (nothing, another_nothing, listed):
        assert [line.split(":")[0] for line in sentences(answer)] == required
    assert sorted(line.split(":")[0] for line in sentences(mistaken)) == sorted(wrong)


async def test_doors_to_a_database_that_is_away_or_refuses(settings: Settings, stack: Stack) -> None:
    right = environment_of(settings)
    away = {**right, "DATABASE_URL": NOWHERE, "DATABASE_DIRECT_URL": NOWHERE, "DATABASE_ADMIN_URL": NOWHERE}
    away |= {"MIGRATOR_PASSWORD": "m", "APPLICATION_PASSWORD": "a", "SEARCHER_PASSWORD": "s"}
    name = urlsplit(right["DATABASE_URL"]).path.removeprefix("/")
    no_password = right | {"DATABASE_DIRECT_URL": stack.postgres.url(MIGRATOR, "wrong", name)}
    wrong_role = right | {"DATABASE_DIRECT_URL": stack.postgres.url(APPLICATION, PASSWORDS.application, name)}
    ill_formed = right | {"DATABASE_URL": "mysql://x", "DATABASE_DIRECT_URL": "no address"}
    commands = ["serve", "worker", "migrate", "roles", "keys somebody", "jobs list"]
    answers = await doors(*((command, away) for command in commands))

    assert [sentences(answer) for answer in answers] == [["the database does not answer"]] * len(commands)
    for answer in answers:
        assert "secret" not in answer[2]
    refused = await doors(
        ("migrate", no_password),
        ("migrate", wrong_role),
        ("keys x", wrong_role),
        ("migrate", ill_formed),
        ("worker", ill_formed),
    )
    expected = ["refuses the login", "cannot become hybrid_owner", "cannot become hybrid_owner", "a database URL reads"]
    for answer, words in zip(refused, [*expected, "a database URL reads"], strict=True):
        (sentence,) = sentences(answer)
        assert words in sentence


async def test_start_up_refuses_a_role_that_may_too_much(settings: Settings, stack: Stack) -> None:
    right = environment_of(settings)
    name = urlsplit(right["DATABASE_URL"]).path.removeprefix("/")
    superuser = right | {"DATABASE_URL": stack.postgres.url(database=name)}
    migrator = right | {"DATABASE_URL": stack.postgres.url(MIGRATOR, PASSWORDS.migrator, name)}
    without_direct = {key: value for key, value in right.items() if key != "DATABASE_DIRECT_URL"}
    answers = await doors(("serve", superuser), ("worker", migrator), ("worker --owner", without_direct))

    expected = ["bypasses row security", "owns the tables", "DATABASE_DIRECT_URL"]
    for answer, words in zip(answers, expected, strict=True):
        (sentence,) = sentences(answer)
        assert words in sentence


async def test_preparing_commands_may_be_repeated(settings: Settings, stack: Stack, api: Api) -> None:
    environment = environment_of(settings)
    name = urlsplit(environment["DATABASE_URL"]).path.removeprefix("/")
    roles = {
        "DATABASE_ADMIN_URL": stack.postgres.url(database=name),
        "MIGRATOR_PASSWORD": PASSWORDS.migrator,
        "APPLICATION_PASSWORD": PASSWORDS.application,
        "SEARCHER_PASSWORD": PASSWORDS.searcher,
    }
    no_password = {key: value for key, value in roles.items() if key != "SEARCHER_PASSWORD"}
    made, migrated, key, missing = await doors(
        ("roles", roles),
        ("migrate", environment),
        ("keys new-tenant --name laptop", environment),
        ("roles", no_password),
    )

    assert made == (0, "The roles are there.\n", "")
    assert migrated == (0, "The database is up to date.\n", "")
    assert sentences(missing) == ["SEARCHER_PASSWORD must be set"]
    assert re.fullmatch(r"hs_[A-Za-z0-9_-]{43}\n", key[1])
    answer = await api.client.get("/v1/collections", headers={"Authorization": f"Bearer {key[1].strip()}"})
    assert answer.json() == {"collections": [], "next_cursor": None}


async def test_migrate_refuses_another_model_while_collections_use_this_one(
    settings: Settings, admin: asyncpg.Connection, api: Api
) -> None:
    other = new_id()
    collection = await api.make_collection()
    await admin.execute("insert into embedding_profiles (id, name, dimension) values ($1, 'other-model', 384)", other)
    await admin.execute("update collections set profile_id = $1 where name = $2", other, collection)
    try:
        (refused,) = await doors(("migrate", environment_of(settings)))
    finally:
        await admin.execute("delete from collections where profile_id = $1", other)
        await admin.execute("delete from embedding_profiles where id = $1", other)

    (sentence,) = sentences(refused)
    assert "'other-model'" in sentence
    assert "EMBEDDING_MODEL is 'hashing-384'" in sentence


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_api_ends_with_status_0_when_it_is_told_to(settings: Settings, number: int) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service",
        "serve",
        cwd=ROOT,
        env={"PATH": os.defpath, **environment_of(settings), "PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    async with httpx.AsyncClient(trust_env=False) as client:
        async with asyncio.timeout(60):
            while True:
                try:
                    assert (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
    process.send_signal(number)
    _, err = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 0, err.decode()
    assert "Traceback" not in err.decode()
