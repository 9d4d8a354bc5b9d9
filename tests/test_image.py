"""infra/Dockerfile agrees with what it is made from, and the wheel that it installs is the whole service."""

import asyncio
import fnmatch
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree, ignore_patterns

import asyncpg
import pytest

from service.__main__ import DOORS
from service.db.roles import MIGRATOR, create_roles
from service.db.tables import metadata
from service.local.ports import free_port
from service.settings import Settings
from tests.compose_file import ROOT, own, read_compose, variables
from tests.conftest import PASSWORDS, execute
from tests.stacks import Stack
from tests.worker_calls import environment_of

DOCKERFILE = (ROOT / "infra" / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word.isupper()]


def last_stage() -> dict[str, str]:
    starts = [number for number, (word, _) in enumerate(instructions()) if word == "FROM"]
    assert len(starts) > 1
    return dict(instructions()[starts[-1] :])


def variable(name: str) -> str:
    found = re.search(rf"\b{name}=(\S+)", last_stage()["ENV"])
    assert found, name
    return found[1]


def copied() -> Iterator[str]:
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            yield from rest.split()[:-1]


def test_the_image_runs_as_an_ordinary_user_that_it_makes() -> None:
    made = re.search(r"useradd --uid (\d+) ", DOCKERFILE)

    assert made
    assert last_stage()["USER"] == f"{made[1]}:{made[1]}"
    assert int(made[1]) >= 10_000, "lower ones may belong to somebody of the machine"


def test_every_stage_starts_from_one_pinned_image_of_a_python_that_will_do() -> None:
    (default,) = re.findall(r"^ARG PYTHON_IMAGE=(.*)$", DOCKERFILE, re.MULTILINE)
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=").split(".")

    assert {rest.split()[0] for word, rest in instructions() if word == "FROM"} == {"${PYTHON_IMAGE}"}
    assert [int(part) for part in re.findall(r"\d+", default)[:2]] >= [int(part) for part in oldest]
    assert variables()["PYTHON_IMAGE"] == default


def test_the_arguments_of_compose_are_arguments_of_the_image() -> None:
    taken = {rest.partition("=")[0] for word, rest in instructions() if word == "ARG"}

    for service in own(read_compose()["services"]).values():
        assert service["build"]["args"].keys() == taken
        assert ROOT / service["build"]["dockerfile"] == ROOT / "infra" / "Dockerfile"


def test_the_image_listens_where_it_is_asked_and_published() -> None:
    api = read_compose()["services"]["api"]

    assert variable("PORT") == last_stage()["EXPOSE"] == api["environment"]["PORT"] == api["ports"][0].split(":")[-1]
    assert variable("HOST") == api["environment"]["HOST"] == "0.0.0.0"  # noqa: S104  of the container


def test_every_health_check_asks_a_route_by_a_script_that_is_there() -> None:
    probes = re.findall(r'"(/app/probe\.py)", "(/\w+)"', DOCKERFILE)
    probes += [tuple(service["healthcheck"]["test"][2:]) for service in [read_compose()["services"]["api"]]]

    assert last_stage()["WORKDIR"] == "/app"
    assert ("COPY", "infra/probe.py ./") in instructions()
    assert probes == [("/app/probe.py", "/livez"), ("/app/probe.py", "/readyz")]


def commands() -> list[list[str]]:
    """Every `python -m service …` of the image and of compose."""
    services = own(read_compose()["services"]).values()
    words = [service["command"] for service in services] + [
        service["healthcheck"].get("test", []) for service in services
    ]
    words += [re.findall(r'"([^"]+)"', last_stage()["CMD"])]
    return [one[one.index("service") + 1 :] for one in words if "service" in one]


def test_every_command_exists_with_its_options() -> None:
    assert {words[0] for words in commands()} == {"serve", "worker", "migrate", "roles", "jobs"}
    for words in commands():
        assert words[0] in DOORS
        done = subprocess.run(
            [sys.executable, "-m", "service", *words, "--help"], cwd=ROOT, check=False, capture_output=True, text=True
        )

        assert done.returncode == 0, (words, done.stderr)


def test_torch_is_the_version_that_is_pinned_and_no_registry_is_named() -> None:
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))

    assert set(re.findall(r"\btorch==([\d.]+)$", DOCKERFILE, re.MULTILINE)) == {pins["torch"]}
    assert "://" not in DOCKERFILE


def test_what_the_image_copies_exists_and_is_sent_to_the_builder() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]

    assert "service" in copied()
    for path in copied():
        assert (ROOT / path).exists(), path
        deciding = [line for line in ignored if fnmatch.fnmatch(path, line.removeprefix("!"))]
        assert deciding[-1].startswith("!"), path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as the image builds it, from a copy of what the image copies, with the setuptools that is here."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for path in copied():
        if (ROOT / path).is_dir():
            copytree(ROOT / path, source / path, ignore=ignore_patterns("__pycache__"))
        else:
            (source / path).parent.mkdir(exist_ok=True)
            (source / path).write_bytes((ROOT / path).read_bytes())
    build = ["pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(out), str(source)]
    subprocess.run([sys.executable, "-m", *build], check=True, capture_output=True)
    (built,) = out.glob("hybrid_search_service-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of a Python that finds the wheel's files before those of this repository."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(site)
    return {"PATH": os.defpath, "HOME": "/nowhere", "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}


def test_the_wheel_holds_the_service_and_its_migrations_and_nothing_else(wheel: Path) -> None:
    sources = {
        str(file.relative_to(ROOT))
        for name in ("service", "migrations")
        for file in (ROOT / name).rglob("*")
        if file.suffix in {".py", ".npy"}
    }
    with zipfile.ZipFile(wheel) as files:
        found = {name for name in files.namelist() if ".dist-info/" not in name}

    assert found == sources


async def test_the_installed_service_migrates_an_empty_database_from_anywhere(
    installed: Mapping[str, str], stack: Stack, template: str, tmp_path: Path
) -> None:
    assert template, "the roles are there"
    await execute(stack, "create database from_wheel")
    await create_roles(stack.postgres.url(database="from_wheel"), PASSWORDS)
    address = stack.postgres.url(MIGRATOR, PASSWORDS.migrator, "from_wheel")
    environment = {**installed, "DATABASE_DIRECT_URL": address, "EMBEDDING_MODEL": "hashing"}
    where = "import service, service.db.migrate as m; print(service.__file__); print(m.MIGRATIONS)"
    files = await run(["-c", where], environment, tmp_path)
    migrated = await run(["-m", "service", "migrate"], environment, tmp_path)
    connection = await asyncpg.connect(stack.postgres.url(database="from_wheel"))
    tables = await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'")
    await connection.close()

    assert [line.startswith(installed["PYTHONPATH"]) for line in files.splitlines()] == [True, True]
    assert migrated == "The database is up to date.\n"
    assert tables > len(metadata.tables) - 1


async def test_the_installed_service_lists_its_doors_and_opens_one(
    installed: Mapping[str, str], settings: Settings, tmp_path: Path
) -> None:
    environment = {**installed, **environment_of(settings), "PORT": str(free_port())}
    helped = await run(["-m", "service", "--help"], environment, tmp_path)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "service", "serve", cwd=tmp_path, env=environment, stderr=asyncio.subprocess.PIPE
    )
    probe = [sys.executable, str(ROOT / "infra" / "probe.py"), "/readyz"]
    try:
        async with asyncio.timeout(60):
            while (await asyncio.to_thread(subprocess.call, probe, env=environment, stderr=subprocess.DEVNULL)) != 0:
                assert process.returncode is None
    finally:
        process.terminate()
        _, errors = await process.communicate()

    assert [door for door in DOORS if door not in helped] == []
    assert process.returncode == 0
    assert b"Traceback" not in errors


async def test_the_image_has_the_exported_model_where_its_processes_look(
    installed: Mapping[str, str], tmp_path: Path
) -> None:
    (made,) = re.findall(r"EMBEDDING_CACHE=(\S+) python -m service.embeddings.prepare", DOCKERFILE)
    await run(["-m", "service.embeddings.prepare"], {**installed, "EMBEDDING_CACHE": str(tmp_path)}, tmp_path)

    assert variable("EMBEDDING_CACHE") == made
    assert ("COPY", f"--from=build {made} {made}") in instructions()
    if find_spec("openvino"):  # torch needs no export
        assert [path.name for path in files_below(tmp_path) if path.suffix == ".bin"] == ["graph.bin"]


def files_below(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


async def run(arguments: list[str], environment: Mapping[str, str], folder: Path) -> str:
    """What Python prints; `-P` keeps the folder out of its path."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", *arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, errors = await process.communicate()

    assert (process.returncode, errors) == (0, b""), errors.decode()
    return out.decode()
