"""`service run` as its user meets it: a process with a terminal, signals and sentences."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from service.cli.foreground import check_port
from service.local.errors import StackError
from service.local.leftovers import MARKER, runs
from service.local.ports import free_port
from service.local.stack import embedded_stack

ROOT = Path(__file__).parents[1]
STAND_IN = Path(__file__).with_name("run_stand_in.py")
PATIENCE = 120.0

Start = Callable[..., "Running"]


class Running:
    """One `service run` in a process group of its own, as a terminal would start it."""

    def __init__(self, folder: Path, port: int, environment: Mapping[str, str]) -> None:
        self.folder, self.port = folder, port
        self.output = folder.with_name(f"{folder.name}.{time.monotonic_ns()}.out")
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, STAND_IN, folder, str(port)],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                start_new_session=True,
                # Under nohup a hang-up is ignored, and so it is by whatever is started there: this suite too.
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509  no threads start here
            )

    def text(self) -> str:
        return self.output.read_text()

    def until(self, words: str) -> "Running":
        wait(lambda: words in self.text() or self.process.poll() is not None)
        assert words in self.text(), self.text()
        return self

    def end(self, *numbers: int) -> int:
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(0.05)
        return self.process.wait(PATIENCE)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, name: str) -> psutil.Process:
        return next(process for process in self.family() if name in process.cmdline())


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """A zombie is not: it only waits for the machine's first process to collect it."""
    return [process for process in processes if runs(process)]


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


@pytest.fixture(scope="session")
async def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "state"
    async with embedded_stack(path, settings={"fsync": "off"}):
        return path


@pytest.fixture
def start(made: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts on a copy of a folder that has been made before, to save the time of initdb."""
    runs: list[Running] = []

    def start(name: str = "state", *, port: int | None = None, **environment: str) -> Running:
        folder = tmp_path / name
        if not folder.exists():
            subprocess.run(["cp", "-a", made, folder], check=True)
        runs.append(Running(folder, free_port() if port is None else port, environment))
        return runs[-1]

    yield start
    for run in runs:
        left = run.family() if run.process.poll() is None else []
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        run.process.kill()
        run.process.wait()


def test_it_says_where_it_is_and_how_to_try_it(start: Start) -> None:
    run = start().until("Ctrl-C stops it")
    url, key = f"http://127.0.0.1:{run.port}", (run.folder / "api_key").read_text().strip()

    assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    assert (run.folder / "url").read_text() == f"{url}\n"
    assert (run.folder / "api_key").stat().st_mode & 0o777 == 0o600
    assert f"curl -sS -w '\\n' -H 'Authorization: Bearer {key}'" in run.text()
    assert str(run.folder / "logs") in run.text()


def test_it_leaves_a_shell_what_its_commands_need_while_it_runs(start: Start) -> None:
    run = start().until("is ready")
    file = run.folder / "environment"
    script = f"set -a; . {file}; set +a; env"
    environment = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True, env={}).stdout
    mode = file.stat().st_mode & 0o777
    run.end(signal.SIGINT)

    assert {"S3_ENDPOINT_URL", "S3_BUCKET"} <= {line.partition("=")[0] for line in environment.splitlines()}
    assert mode == 0o600
    assert not file.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_in_order(start: Start, number: int) -> None:
    run = start().until("is ready")
    family = run.family()
    status = run.end(number)

    assert (status, running(family)) == (0, [])
    assert len(family) > 6
    assert "database system is shut down" in (run.folder / "logs" / "postgres.log").read_text()
    assert not (run.folder / "url").exists()


def test_a_child_may_finish_although_the_signal_came_twice_and_to_the_whole_group(start: Start) -> None:
    """The terminal sends Ctrl-C to the group, and make sends SIGTERM on to a process that has had it already."""
    run = start(WORKER="slow").until("is ready")
    os.killpg(run.process.pid, signal.SIGINT)
    run.end(signal.SIGTERM)

    assert (run.folder / "logs" / "worker.log").read_text() == "worker: finished\n"
    assert "database system is shut down" in (run.folder / "logs" / "postgres.log").read_text()


def test_a_second_ctrl_c_does_not_wait_for_a_stubborn_child(start: Start) -> None:
    run = start(WORKER="stubborn").until("is ready")
    family, begun = run.family(), time.monotonic()
    run.process.send_signal(signal.SIGINT)
    time.sleep(1.2)
    run.end(signal.SIGINT)

    assert time.monotonic() - begun < 10  # which is what a child is given that hears no SIGTERM
    assert not running(family)


def test_ctrl_c_while_it_starts_leaves_nothing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "fresh").mkdir()
    run = start("fresh").until("Starting in")
    wait(lambda: (run.folder / "postgres.new").exists() or run.process.poll() is not None)
    family = run.family()
    status = run.end(signal.SIGINT)

    assert (status, running(family)) == (0, [])
    assert not (run.folder / "postgres.new").exists()
    assert "Traceback" not in run.text()


def test_a_second_run_on_the_same_folder_is_told_where_the_first_is(start: Start) -> None:
    first = start().until("is ready")
    second = start(port=first.port)

    assert second.process.wait(PATIENCE) == 1
    assert f"already runs at http://127.0.0.1:{first.port}" in second.text()
    assert len(second.text().strip().splitlines()) == 1
    assert httpx.get(f"http://127.0.0.1:{first.port}/readyz", trust_env=False).status_code == 200


def test_a_taken_port_is_named_before_anything_starts(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        run = start(port=port)
        status = run.process.wait(PATIENCE)

    assert (status, run.text()) == (
        1,
        f"Port {port} is taken by another program: choose another, for example PORT={port + 1} make run.\n",
    )
    assert not (run.folder / "logs" / "api.log").exists()


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
def test_a_host_that_is_elsewhere_is_one_sentence(host: str) -> None:
    with pytest.raises(StackError, match=f"HOST={host} is no address of this machine"):
        check_port(host, 8000)


def test_a_child_that_dies_is_started_again(start: Start) -> None:
    run = start().until("is ready")
    worker, postgres = run.child("worker"), next(p for p in run.family() if p.name() == "postgres")
    worker.kill()
    run.until("The worker process ended with signal SIGKILL; starting it again")
    wait(lambda: any("worker" in process.cmdline() for process in run.family()))
    postgres.kill()
    run.until("The postgres process ended")
    wait(lambda: "ready to accept connections" in (run.folder / "logs" / "postgres.log").read_text().split("crash")[-1])

    assert run.end(signal.SIGINT) == 0


def test_a_child_that_never_lives_is_given_up_with_its_last_words(start: Start) -> None:
    run = start(WORKER="dies")

    assert run.process.wait(PATIENCE) == 1
    sentence = run.text().strip().splitlines()[-1]
    assert sentence.startswith("The worker process ended 5 times in a row, last with status 1, saying: ")
    assert "nothing to live for" in sentence
    assert str(run.folder / "logs" / "worker.log") in sentence


@pytest.mark.parametrize("whole_group", [True, False])
def test_kill_9_leaves_nothing_that_the_next_start_cannot_use(start: Start, *, whole_group: bool) -> None:
    first = start().until("is ready")
    family, key = first.family(), (first.folder / "api_key").read_text()
    if whole_group:
        for process in family:
            process.kill()
    os.killpg(first.process.pid, signal.SIGKILL)
    first.process.wait()
    second = start(port=first.port).until("is ready")

    assert (second.folder / "api_key").read_text() == key
    assert not running(family)
    assert second.end(signal.SIGINT) == 0


def test_a_grandchild_that_outlives_kill_9_is_found_by_the_next_start(start: Start) -> None:
    first = start().until("is ready")
    lost = subprocess.Popen(["sleep", "60"], env={MARKER: str(first.folder)}, start_new_session=True)
    os.killpg(first.process.pid, signal.SIGKILL)
    first.process.wait()
    second = start().until("is ready")

    assert lost.wait(1) == -signal.SIGTERM
    assert second.end(signal.SIGINT) == 0


def test_make_help_lists_every_target() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = [
        line.split(":")[0]
        for line in (ROOT / "Makefile").read_text().splitlines()
        if ": " in line and "## " in line and line[0] != "\t"
    ]

    assert {"help", "run", "test", "check", "clean"} <= set(targets)
    assert not [target for target in targets if f"make {target} " not in shown]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("exit 1", "Python 3.11 or newer is needed"),
        ('case "$2" in *ensurepip*) exit 1;; esac; exit 0', "has no venv module"),
    ],
)
def test_make_run_names_what_the_python_lacks(tmp_path: Path, body: str, sentence: str) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{body}\n")
    python.chmod(0o755)
    answer = subprocess.run(
        ["make", "run", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert answer.returncode == 2
    assert sentence in answer.stderr
    assert not (tmp_path / ".venv").exists()
