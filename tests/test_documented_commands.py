"""Every command line in the documents does what its page says, in a fresh clone with a service of its own."""

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from service.__main__ import DOORS
from service.db.keys import create_key
from service.db.owner import as_owner
from service.local.ports import free_port
from tests.documented import ROOT, Block, blocks, named_in_passing, pages, prints
from tests.documented_reader import Reader
from tests.documented_report import NOT_RUN
from tests.left_out import SLOW

TUTORIAL = "docs/tutorial/first-search.md"
FOLLOWED = [page for page in pages() if any(block.reason is None for block in blocks(page))]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The `.local` of a service for the pages that do not start one themselves."""
    reader = Reader(tmp_path_factory.mktemp("running"), port=free_port())
    try:
        status, output = reader.follow(Block("a service in another terminal", 0, "make run\n", endless=True))
        assert status == 0, output
        yield reader.tree / ".local"
    finally:
        reader.interrupt()
        reader.leave()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path, port=free_port())
    yield reader
    reader.leave()


def new_tenant(local: Path, name: str) -> str:
    """The key of a tenant of its own, so that no page meets the collections of another."""
    environment = dict(line.split("=", 1) for line in (local / "environment").read_text().splitlines())

    async def create() -> str:
        async with as_owner(environment["DATABASE_DIRECT_URL"].strip("'")) as connection:
            return await create_key(connection, name, "documents")

    return asyncio.run(create())


@pytest.mark.timeout(600)  # The tutorial indexes thousands of documents, on a machine that may be busy.
@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_can_be_followed_from_top_to_bottom(page: str, reader: Reader, request: pytest.FixtureRequest) -> None:
    if page == TUTORIAL and not os.environ.get("THOROUGH"):
        pytest.skip(SLOW)
    if shutil.which("curl") is None:
        pytest.skip("the documents use curl; add it with: apt-get install curl")
    todo = [block for block in blocks(page) if block.reason is None]
    if not any(block.endless for block in todo):
        running: Path = request.getfixturevalue("running")
        reader.share(running, key=new_tenant(running, page))
    for block in todo:
        status, output = reader.follow(block)

        assert status == block.status, f"{block} ended with {status}:\n{block.commands}\n{output}"
        assert prints(block, output), f"{block} shows\n{block.shown}\nand it printed\n{output}"
    for output in reader.interrupt():
        assert "Stopped." in output, output


def test_what_is_not_run_says_why(record_property: Callable[[str, object], None]) -> None:
    found = [block for page in pages() for block in blocks(page)]
    left_out = [block for block in found if block.reason is not None]
    record_property(NOT_RUN, f"{len(left_out)} of {len(found)} blocks of commands:")
    for block in left_out:
        record_property(NOT_RUN, f"  {block}: {block.reason}")

    assert all(block.reason and len(block.reason) > 10 for block in left_out)
    assert len(found) - len(left_out) > len(left_out)


@pytest.mark.parametrize(
    ("shown", "shown_as", "printed", "fits"),
    [
        ('{"a": 1}', "json", 'HTTP\n{"a": 1, "b": 2}', True),
        ('{"a": 1}', "json", '{"a": 1}{"a": 2}', False),  # The last of several answers is the one that is shown.
        ('{"a": true}', "json", '{"a": 1}', False),
        ('{"a": "x…z"}', "json", '{"a": "xyz"}', True),
        ('{"a": ["…"]}', "json", '{"a": []}', True),
        ('{"a": [1]}', "json", '{"a": [1, 2]}', False),
        ('{"a": [1, "…"]}', "json", '{"a": [1, 2]}', True),
        ("ready at …\ndone", "text", "ready  at 8000\nmore\ndone", True),
        ("done\nready", "text", "ready\ndone", False),
        ("", "text", "anything", True),
    ],
)
def test_what_is_shown_is_compared_loosely(shown: str, shown_as: str, printed: str, *, fits: bool) -> None:
    assert prints(Block("page", 1, "", shown, shown_as), printed) is fits


@pytest.mark.parametrize("mark", ["<!-- not run -->", "<!-- skip: no time -->", "<!-- not run:  -->"])
def test_a_mark_that_means_nothing_is_refused(mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.md").write_text(f"{mark}\n```sh\nexit 1\n```\n")
    monkeypatch.setattr("tests.documented.ROOT", tmp_path)

    with pytest.raises(ValueError, match="no such mark"):
        list(blocks("page.md"))


def test_a_block_is_found_wherever_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "1. first\n\n   ```bash\n   one\n   ```\n\n> ```sh\n> two\n> ```\n\n```console\n$ three\nprinted\n```\n"
    (tmp_path / "page.md").write_text(text)
    monkeypatch.setattr("tests.documented.ROOT", tmp_path)

    assert [(block.line, block.commands, block.shown) for block in blocks("page.md")] == [
        (3, "one\n", ""),
        (7, "two\n", ""),
        (11, "three\n", "printed\n"),
    ]


@pytest.mark.parametrize("page", pages())
def test_a_command_that_is_named_in_passing_exists(page: str) -> None:
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [re.sub(r"^([A-Z_]+=\S* )+", "", code) for code in named_in_passing(page)]
    made = [target for code in named if code.startswith("make ") for target in code.split()[1:]]
    doors = [found[1] for code in named if (found := re.match(r"(?:\S*python -m )?service ([a-z]+)\b(?!/)", code))]

    assert [target for target in made if target not in targets] == []
    assert [door for door in doors if door not in DOORS] == []


def test_no_page_installs_anything_into_the_environment_of_the_tests(reader: Reader) -> None:
    def install() -> str | None:
        return metadata.distribution("hybrid-search-service").read_text("direct_url.json")

    before = install()
    commands = "touch constraints.txt\nmake dev\n.venv/bin/python -m pip install --no-deps --no-build-isolation -e .\n"
    status, output = reader.follow(Block("page", 1, commands))

    assert status == 0, output
    assert "Installing into" not in output
    assert install() == before
