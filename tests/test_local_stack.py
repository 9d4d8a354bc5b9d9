"""The embedded stack: real Postgres, real rclone, folders in every bad state."""

import asyncio
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import boto3
import httpx
import psutil
import pytest
from botocore.config import Config

from service.local import folder as folder_module
from service.local.account import Account, account_for
from service.local.child import Child, ChildSpec
from service.local.errors import StackError
from service.local.folder import StateFolder
from service.local.install import copied, postgres_programs
from service.local.leftovers import end_leftovers, remember, runs
from service.local.object_store import EmbeddedObjectStore
from service.local.postgres import EmbeddedPostgres
from service.local.stack import embedded_stack

FAST = {"fsync": "off"}
AS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="session")
async def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack that has run once and stopped."""
    path = tmp_path_factory.mktemp("made") / "state"
    async with embedded_stack(path, settings=FAST) as stack:
        connection = await asyncpg.connect(stack.postgres.url())
        await connection.execute("create table kept as select 'here' as word")
        await connection.close()
    return path


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    path = tmp_path / "a state folder"
    subprocess.run(["cp", "-a", made, path], check=True)
    return path


async def ask(postgres: EmbeddedPostgres, question: str) -> object:
    connection = await asyncpg.connect(postgres.url())
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


def s3(store: EmbeddedObjectStore, secret: str | None = None) -> "boto3.client":
    return boto3.client(
        "s3",
        endpoint_url=store.endpoint_url,
        region_name="auto",
        aws_access_key_id=store.access_key_id,
        aws_secret_access_key=secret or store.secret_access_key,
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )


async def test_a_restart_keeps_rows_objects_secrets_and_ports(copy: Path) -> None:
    async with embedded_stack(copy, settings=FAST) as stack:
        s3(stack.object_store).put_object(Bucket="documents", Key="a/b", Body=b"bytes")
        before = (stack.postgres.url(), stack.environment())
    async with embedded_stack(copy, settings=FAST) as stack:
        word = await ask(stack.postgres, "select word from kept")
        stored = s3(stack.object_store).get_object(Bucket="documents", Key="a/b")["Body"].read()
        after = (stack.postgres.url(), stack.environment())

    assert (word, stored, after) == ("here", b"bytes", before)


async def test_nothing_runs_after_the_stack_has_stopped(copy: Path) -> None:
    async with embedded_stack(copy, settings=FAST) as stack:
        processes = [process for child in stack.children if child.process for process in tree(child.process.pid)]

    assert len(processes) > 3
    assert not [process for process in processes if runs(process)]
    assert not list((copy / "processes").iterdir())


def tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


async def test_the_database_knows_letters_beyond_ascii(copy: Path) -> None:
    async with embedded_stack(copy, settings=FAST) as stack:
        lexemes = await ask(stack.postgres, "select to_tsvector('simple', '„ÄPFEL“—Birnen')::text")
        encoding = await ask(stack.postgres, "show server_encoding")
        provider = await ask(stack.postgres, "select datlocprovider from pg_database where datname = 'postgres'")

    assert (lexemes, encoding, provider) == ("'birnen':2 'äpfel':1", "UTF8", b"b")


async def test_both_doors_ask_for_their_secret(copy: Path) -> None:
    async with embedded_stack(copy, settings=FAST) as stack:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(stack.postgres.url(password="guessed"))
        with pytest.raises(Exception, match=r"SignatureDoesNotMatch|403|Forbidden"):
            s3(stack.object_store, secret="guessed-secret-of-fair-length").list_objects_v2(Bucket="documents")
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{stack.object_store.endpoint_url}/documents")).is_client_error


async def test_secrets_are_for_their_owner_alone(copy: Path) -> None:
    assert (copy / "stack.json").stat().st_mode & 0o777 == 0o600
    assert (copy / "postgres").stat().st_mode & 0o777 == 0o700


async def test_no_secret_is_on_a_command_line(copy: Path) -> None:
    async with embedded_stack(copy, settings=FAST) as stack:
        lines = [" ".join(psutil.Process(c.process.pid).cmdline()) for c in stack.children if c.process]
        secrets = [stack.postgres.password, stack.object_store.secret_access_key]

    assert not [line for line in lines for secret in secrets if secret in line]


async def test_durability_is_on_unless_a_test_turns_it_off(copy: Path) -> None:
    async with embedded_stack(copy) as stack:
        settings = [await ask(stack.postgres, f"show {name}") for name in ("fsync", "synchronous_commit", "timezone")]

    assert settings == ["on", "on", "UTC"]


async def test_a_port_that_somebody_took_meanwhile_is_left_to_them(copy: Path) -> None:
    last = json.loads((copy / "stack.json").read_text())["postgres_port"]
    with socket.create_server(("127.0.0.1", last)):
        async with embedded_stack(copy, settings=FAST) as stack:
            word = await ask(stack.postgres, "select word from kept")

            assert (word, stack.postgres.port != last) == ("here", True)


async def test_a_folder_is_held_by_one_process(copy: Path) -> None:
    (copy / "url").write_text("http://127.0.0.1:8123\n")
    with StateFolder(copy).lock(), pytest.raises(StackError, match=r"already runs at http://127.0.0.1:8123 \(process"):
        async with embedded_stack(copy):
            pass


# ---- broken folders -------------------------------------------------------------------------------------------------


def file_instead(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


def file_above(path: Path) -> None:
    file_instead(path.parent)


def without_version(path: Path) -> None:
    (path / "postgres" / "PG_VERSION").unlink()


def without_control_file(path: Path) -> None:
    (path / "postgres" / "global" / "pg_control").unlink()


def older_data(path: Path) -> None:
    (path / "postgres" / "PG_VERSION").write_text("16\n")


def corrupt_control_file(path: Path) -> None:
    (path / "postgres" / "global" / "pg_control").write_bytes(b"\0" * 8192)


def damaged_memory(path: Path) -> None:
    (path / "stack.json").write_text("{")


def file_for_objects(path: Path) -> None:
    shutil.rmtree(path / "objects")
    (path / "objects").write_text("")


def foreign_data(path: Path) -> None:
    if not AS_ROOT:
        pytest.skip("only root can give data away; add it with: make test, as root")
    os.chown(path / "postgres", 12345, 12345)


def not_writable(path: Path) -> None:
    if AS_ROOT:
        pytest.skip("root may write everywhere; add it with: make test, as an ordinary user")
    path.chmod(0o500)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (file_instead, "a file is in its way"),
        (file_above, "a file is in its way"),
        (without_version, r"no whole Postgres folder \(PG_VERSION is missing\).*move it away"),
        (without_control_file, r"no whole Postgres folder \(global/pg_control is missing\).*move it away"),
        (older_data, "holds data of Postgres 16, and this service brings 18"),
        (corrupt_control_file, "Postgres did not start: .*log: "),
        (damaged_memory, "stack.json is damaged.*move .* away"),
        (file_for_objects, r"objects cannot be a folder, because a file is in its way"),
        (foreign_data, "belongs to user 12345"),
        (not_writable, "cannot be read or written by this user"),
    ],
)
async def test_a_broken_folder_is_one_sentence(copy: Path, harm: Callable[[Path], None], sentence: str) -> None:
    state = copy / "state" if harm is file_above else copy
    harm(state)

    with pytest.raises(StackError, match=sentence) as caught:
        async with embedded_stack(state, settings=FAST):
            pass

    assert "\n" not in str(caught.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if not AS_ROOT:
        pytest.skip("only root can mount a small disk; add it with: make test, as root")
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=110m", "none", path], check=False).returncode:
        pytest.skip(
            "this machine does not allow mounts; add it with: make test, as root of a machine that allows mounts"
        )
    yield path
    subprocess.run(["umount", path], check=True)


async def test_a_full_disk_is_said_before_anything_is_made(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"\0" * 100 * 1024 * 1024)

    with pytest.raises(StackError, match=r"The disk that holds .* is full"):
        async with embedded_stack(small_disk / "state"):
            pass

    assert not (small_disk / "state" / "logs" / "initdb.log").exists()


async def test_a_disk_that_fills_while_the_database_is_made_leaves_no_half(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "LEAST_FREE_BYTES", 0)
    (small_disk / "ballast").write_bytes(b"\0" * 90 * 1024 * 1024)

    with pytest.raises(StackError, match=r"The disk that holds .* is full"):
        async with embedded_stack(small_disk / "state"):
            pass

    assert not list((small_disk / "state").glob("postgres*"))
    (small_disk / "ballast").unlink()
    async with embedded_stack(small_disk / "state") as stack:
        assert await ask(stack.postgres, "select 1") == 1


# ---- leftovers ------------------------------------------------------------------------------------------------------


async def test_what_a_kill_left_behind_is_ended_at_the_next_start(copy: Path) -> None:
    state = StateFolder(copy)
    lost = EmbeddedPostgres(state, settings=FAST)
    await lost.start()
    assert lost.process
    left = tree(lost.process.pid)
    async with embedded_stack(copy, settings=FAST) as stack:
        word = await ask(stack.postgres, "select word from kept")

    assert word == "here"
    assert not [process for process in left if runs(process)]


def test_a_process_that_only_has_the_pid_of_a_leftover_is_spared(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        remember(state, "worker", stranger.pid)
        record = tmp_path / "processes" / str(stranger.pid)
        record.write_text(json.dumps({"name": "worker", "started": time.time() - 3600}))
        ended = end_leftovers(state)
        alive = stranger.poll() is None
        stranger.kill()

    assert (ended, alive) == (0, True)


async def test_a_stale_lock_file_of_postgres_that_names_a_living_process_is_no_obstacle(copy: Path) -> None:
    """In a restarted container the pid in it soon belongs to somebody else, and Postgres alone would refuse."""
    account = account_for(copy)
    with subprocess.Popen(["sleep", "60"], user=account.uid if account else None) as stranger:  # noqa: ASYNC220 - it never blocks
        (copy / "postgres" / "postmaster.pid").write_text(f"{stranger.pid}\n/somewhere\n1\n1\n\n\n0 0\nready   \n")
        async with embedded_stack(copy, settings=FAST) as stack:
            word = await ask(stack.postgres, "select word from kept")
        alive = stranger.poll() is None
        stranger.kill()

    assert (word, alive) == ("here", True)


def test_a_child_ends_with_its_parent_even_after_kill_9(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process that its parent is gone; add it with: make test, on Linux")
    program = (
        "import asyncio, os, signal\nfrom pathlib import Path\n"
        "from service.local.child import Child, ChildSpec\nfrom service.local.folder import StateFolder\n"
        "async def main():\n"
        f"    child = Child(ChildSpec(name='c', argv=['/bin/sleep', '60']), folder=StateFolder(Path({str(tmp_path)!r})))\n"
        "    child.start(); await asyncio.sleep(.3); print(child.process.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    pid = int(answer.stdout)
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert not alive(pid)


async def test_a_signal_that_comes_while_a_child_still_starts_waits_for_the_program(tmp_path: Path) -> None:
    """Python, which becomes the program, loses some while it starts; then fifteen seconds passed before the next one."""
    if sys.platform != "linux":
        pytest.skip("only Linux shows which signals of a process wait; add it with: make test, on Linux")
    child = Child(
        ChildSpec(name="c", argv=["/bin/sleep", "60"], stop_signals=(signal.SIGINT,)), folder=StateFolder(tmp_path)
    )
    seen = set()
    for milliseconds in range(30):
        child.start()
        assert child.process is not None
        seen.add(holds_back_sigint(child.process.pid))
        await asyncio.sleep(milliseconds / 1_000)
        await child.stop()
        assert child.process.returncode == -signal.SIGINT

    assert True in seen
    assert ("python", False) not in seen


def holds_back_sigint(pid: int) -> bool | tuple[str, bool]:
    """The program itself, once it runs, may say what it wants."""
    status = Path(f"/proc/{pid}/status").read_text()
    (blocked,) = re.findall(r"^SigBlk:\s+(\w+)$", status, re.MULTILINE)
    waits = bool(int(blocked, 16) & 1 << signal.SIGINT - 1)
    return waits or ("python" if "bound.py" in " ".join(psutil.Process(pid).cmdline()) else "program", False)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and runs(psutil.Process(pid))


# ---- root -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not AS_ROOT, reason="only root lends an account; add it with: make test, as root")
async def test_root_lends_postgres_an_account_without_opening_any_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "repository").mkdir(mode=0o750)
    async with embedded_stack(home / "repository" / "state", settings=FAST) as stack:
        assert stack.postgres.process
        owner = psutil.Process(stack.postgres.process.pid).uids()

    assert (owner.real, owner.effective, owner.saved).count(0) == 0
    assert [place.stat().st_mode & 0o777 for place in (home, home / "repository")] == [0o700, 0o750]


@pytest.mark.skipif(not AS_ROOT, reason="only root can run on somebody else's folder; add it with: make test, as root")
async def test_root_on_somebody_elses_folder_leaves_it_to_them(tmp_path: Path) -> None:
    state, somebody = tmp_path / "state", pwd.getpwnam("daemon")
    state.mkdir()
    os.chown(state, somebody.pw_uid, somebody.pw_gid)
    async with embedded_stack(state, settings=FAST):
        pass
    owners = {place.stat().st_uid for place in state.rglob("*")}

    assert owners == {somebody.pw_uid}


@pytest.mark.skipif(not AS_ROOT, reason="only root lends an account; add it with: make test, as root")
def test_a_copy_of_the_programs_that_somebody_tampered_with_is_made_anew(tmp_path: Path) -> None:
    package = postgres_programs(None, tmp_path).parents[1]
    first = copied(package, tmp_path)
    program = first / package.name / "pginstall18" / "bin" / "postgres"
    program.write_bytes(b"#!/bin/sh")
    second = copied(package, tmp_path)

    assert program.stat().st_size > 1_000_000
    assert (second, [path.name for path in tmp_path.iterdir()]) == (first, [first.name])


@pytest.mark.skipif(not AS_ROOT, reason="only root can give folders away; add it with: make test, as root")
def test_an_account_may_enter_only_through_open_parents() -> None:
    stranger = Account("stranger", 12345, 12345)
    closed = Path("/root")
    if closed.stat().st_mode & 0o001:
        pytest.skip("/root is open to everybody here; add it with: make test, where /root is closed")

    assert (stranger.may_enter(closed), stranger.may_enter(Path("/usr/bin"))) == (False, True)


def test_a_log_that_grew_too_large_is_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "LARGEST_LOG_BYTES", 10)
    state = StateFolder(tmp_path)
    for line in (b"old and long\n", b"new\n"):
        descriptor = state.open_log("api")
        os.write(descriptor, line)
        os.close(descriptor)

    assert (state.log("api").read_bytes(), (state.logs / "api.log.1").read_bytes()) == (b"new\n", b"old and long\n")
