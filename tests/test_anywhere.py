"""Where the tests run: what cannot be had is said in a sentence, what is left out is never silent, what hangs ends."""

import gc
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.left_out import PASSED_OVER, SAME_UNTRACKED
from tests.longest_first import LONGEST
from tests.pooler import INSTALL, PoolerError, chosen_pooling, find_program
from tests.stacks import DATABASE, STORE, Server, check_stack, from_environment, image_of, tls_of

ROOT = Path(__file__).resolve().parents[1]
NEON = "postgresql://me:secret@ep-quiet.example.org/neondb?sslmode=require"


def run(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """A run of pytest inside this one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEST_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env={**kept, **(environment or {})}, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TEST_")]:
        monkeypatch.delenv(name)


def test_a_stack_that_is_none_ends_the_run_with_a_sentence() -> None:
    done = run("tests/test_anywhere.py", environment={"TEST_STACK": "cloud"})

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.strip() == "ERROR: TEST_STACK=cloud is none of embedded, containers, env."


def test_the_first_line_names_the_stack_and_the_pooler() -> None:
    done = run("tests/test_anywhere.py", "--collect-only", "-n0")

    assert done.stdout.splitlines()[0] == "TEST_STACK=embedded, no pooler"


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # docker leaves the socket that nobody answers
def test_containers_without_an_engine_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEST_STACK", "containers")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")

    with pytest.raises(pytest.UsageError, match=r"needs a Docker engine, and none answers at unix://.*`make test`"):
        check_stack(parallel=True)
    gc.collect()


def test_containers_are_those_of_compose() -> None:
    assert "pgvector" in image_of("postgres")
    assert "minio" in image_of("minio")
    assert "$" not in image_of("minio")


def test_addresses_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_STACK", "env")
    monkeypatch.setenv(DATABASE, NEON)

    with pytest.raises(pytest.UsageError) as raised:
        check_stack(parallel=False)
    assert all(name in str(raised.value) for name in STORE)
    assert DATABASE not in str(raised.value)


def test_addresses_of_a_neon_branch_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip((DATABASE, *STORE), (NEON, "https://r2.example.org", "bucket", "id", "key"), strict=True):
        monkeypatch.setenv(name, value)

    stack = from_environment()

    assert (stack.postgres.tls, stack.store.bucket, stack.embedded) == ("encrypt", "bucket", None)
    assert stack.postgres.url("a b", "p@/", "x") == "postgresql://a%20b:p%40%2F@ep-quiet.example.org/x?sslmode=require"
    assert stack.postgres.url() == NEON


@pytest.mark.parametrize(
    ("url", "tls"),
    [
        ("postgresql://a:b@127.0.0.1/x", "off"),
        ("postgresql://a:b@db.example.org/x", "verify"),
        ("postgresql://a:b@db.example.org/x?sslmode=verify-full", "verify"),
        ("postgresql://a:b@postgres/x?sslmode=disable", "off"),
    ],
)
def test_tls_follows_the_url_and_is_strict_without_a_word(url: str, tls: str) -> None:
    assert tls_of(url) == tls
    assert Server(url).url() == url


def test_one_server_for_many_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TEST_STACK": "env", DATABASE: NEON, **dict.fromkeys(STORE, "x")}.items():
        monkeypatch.setenv(name, value)

    check_stack(parallel=False)
    with pytest.raises(pytest.UsageError, match="add -n0"):
        check_stack(parallel=True)


def test_a_pooler_that_is_none_or_missing_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEST_POOLER", "session")
    with pytest.raises(PoolerError, match="TEST_POOLER=session is none of none, tracked, untracked"):
        chosen_pooling()

    alone = tmp_path / "install.py"
    alone.write_bytes(INSTALL.read_bytes())
    monkeypatch.setattr("tests.pooler.INSTALL", alone)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PGBOUNCER", raising=False)
    if Path("/usr/sbin/pgbouncer").exists():
        return  # A system's own is found wherever it lies.
    with pytest.raises(PoolerError, match="add it with: make pgbouncer"):
        find_program()


def test_what_is_passed_over_is_there() -> None:
    there = {path.stem for path in (ROOT / "tests").rglob("*")}

    assert PASSED_OVER.keys() | SAME_UNTRACKED.keys() | set(LONGEST) <= there
    assert PASSED_OVER.keys().isdisjoint(SAME_UNTRACKED)


def test_a_skip_that_names_no_command_fails(tmp_path: Path) -> None:
    file = tmp_path / "test_silent.py"
    file.write_text(
        "import pytest\n"
        "def test_silent(): pytest.skip('not today')\n"
        "def test_told(): pytest.skip('no moon; add it with: make moon')\n"
        "def test_known(): pytest.xfail('a reason')\n"
    )

    done = run("-p", "tests.left_out", f"--rootdir={tmp_path}", file)

    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 1 skipped, 1 xfailed" in done.stdout
    assert "Skipped without saying which command adds the test: 'Skipped: not today'" in done.stdout
    assert "   1  no moon\n      add with: make moon\n" in done.stdout


def test_a_test_that_hangs_ends_and_says_where_it_waited(tmp_path: Path) -> None:
    file = tmp_path / "test_hangs.py"
    file.write_text(
        "import asyncio\n"
        "async def answer_that_never_comes(): await asyncio.Event().wait()\n"
        "async def test_hangs(): await answer_that_never_comes()\n"
        "async def test_goes_on(): pass\n"
    )

    done = run("-p", "tests.hanging", f"--rootdir={tmp_path}", "-o", "asyncio_mode=auto", "--timeout=1", file)

    assert "1 failed, 1 passed" in done.stdout
    assert "Timeout (>1.0s) from pytest-timeout" in done.stdout
    assert "test_hangs.py:2 in answer_that_never_comes" in done.stdout
