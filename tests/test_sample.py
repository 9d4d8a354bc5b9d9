"""`service sample`: the documentation of this Python's library in a collection, and a tour that shows what it says."""

import ast
import json
import re
import shlex
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from service.cli.sample.entries import Entry, says_deprecated, since
from service.cli.sample.library import document_library
from service.cli.sample.parsed import entries
from service.cli.sample.sources import Source, find_files, read_source
from service.cli.sample.tour import TOUR
from service.resources import Resources
from tests.api_calls import Api
from tests.cli_calls import SERVICE, Finished, run, served
from tests.left_out import thorough
from tests.worker_calls import working_with

SHADOWED = {"readline", "antigravity", "this", "turtle", "idlelib", "tkinter", "_tkinter"}


@pytest.fixture(scope="module")
def library() -> dict[str, Entry]:
    sources = [source for file in find_files() if (source := read_source(file))]
    found = list(document_library(sources))
    assert len({entry.name for entry in found}) == len(found), "a name twice"
    return {entry.name: entry for entry in found}


def test_the_library_has_several_thousand_names_of_every_kind(library: dict[str, Entry]) -> None:
    kinds = [entry.kind for entry in library.values()]

    assert len(library) > 5_000
    assert min(kinds.count(kind) for kind in ("module", "class", "function", "method")) > 200
    assert all(entry.text.strip() for entry in library.values())
    assert not [name for name in library if re.search(r"(^|\.)_|^test\.|^idlelib|^antigravity|^this$", name)]


@pytest.mark.parametrize(
    ("name", "kind", "module"),
    [
        ("json.JSONDecoder.decode", "method", "json"),
        ("json", "module", "json"),
        ("asyncio.run", "function", "asyncio"),
        ("collections.abc.Mapping", "class", "collections.abc"),
        ("collections.deque.append", "method", "collections"),
        ("os.open", "function", "os"),
        ("os.walk", "function", "os"),
        ("math.sqrt", "function", "math"),
        ("open", "function", "builtins"),
        ("str.split", "method", "builtins"),
        ("argparse.ArgumentParser.add_argument", "method", "argparse"),
        ("turtle", "module", "turtle"),
    ],
)
def test_a_name_is_what_a_program_writes(library: dict[str, Entry], name: str, kind: str, module: str) -> None:
    assert (library[name].kind, library[name].module) == (kind, module)


@pytest.mark.parametrize(
    "name",
    [
        "json.decoder.JSONDecoder",  # json passes it on
        "asyncio.events.get_event_loop",  # asyncio passes it on
        "posix.open",  # os
        "statistics.groupby",  # of itertools, imported for its own use
        "builtins.str",
    ],
)
def test_a_name_is_given_once_where_it_is_at_home(library: dict[str, Entry], name: str) -> None:
    assert name not in library


def test_a_line_is_where_the_source_says_so(library: dict[str, Entry]) -> None:
    entry = library["json.JSONDecoder.decode"]
    path = re.search(r"/Lib/(.+)#L(\d+)$", entry.source)
    assert path
    lines = Path(json.__file__).parents[1].joinpath(path[1]).read_text(encoding="utf-8").splitlines()

    assert lines[int(path[2]) - 1].strip().startswith("def decode(")
    assert (entry.line, library["math.sqrt"].line) == (int(path[2]), None)
    assert library["json.JSONDecoder.decode"].to_document()["title"].startswith("json.JSONDecoder.decode(s, ")


def parse(text: str) -> dict[str, Entry]:
    source = Source("m", "m.py", ast.parse(text))
    found = [entry for node in source.definitions() for entry in entries(node, source, module="m", owner="m")]
    return {entry.name: entry for entry in found}


def test_what_belongs_to_something_deprecated_is_deprecated_and_a_warning_under_an_if_is_about_an_argument() -> None:
    found = parse('''
import warnings
class Old:
    """Deprecated: use New."""
    def member(self):
        """Does it."""
def warns():
    """Does it."""
    warnings.warn("no more", DeprecationWarning, stacklevel=2)
def may_warn(argument):
    """Does it. The argument is ignored."""
    if argument:
        warnings.warn("ignored", DeprecationWarning)
''')

    assert {name for name, entry in found.items() if entry.deprecated} == {"m.Old", "m.Old.member", "m.warns"}


def test_signatures_and_tags_are_read_from_the_tree() -> None:
    found = parse('''
class C(ValueError):
    """A class."""
    def __init__(self, a, /, b=1, *, c): ...
    def __enter__(self): ...
    @property
    def p(self):
        """P."""
    @classmethod
    async def m(cls, x: int) -> str:
        """M."""
    @staticmethod
    def s(x):
        """S."""
''')

    assert {name: entry.signature for name, entry in found.items()} == {
        "m.C": "(a, /, b=1, *, c)",
        "m.C.p": "",
        "m.C.m": "(x: int) -> str",
        "m.C.s": "(x)",
    }
    assert {name: set(entry.tags) for name, entry in found.items()} == {
        "m.C": {"exception", "context-manager"},
        "m.C.p": {"property"},
        "m.C.m": {"classmethod", "async"},
        "m.C.s": {"staticmethod"},
    }


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (".. versionadded:: 3.10", "3.10"),
        ("Does it.\n\nNew in version 3.3.", "3.3"),
        ("Added in Python 3.12", "3.12"),
        ("Changed in version 3.4.", None),
    ],
)
def test_since_is_what_is_stated(text: str, version: str | None) -> None:
    assert since(text) == version


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Deprecated, use x.", True),
        ("Load.\n\nThis method is deprecated. Use y.", True),
        ("Load.\n\n.. deprecated:: 3.2", True),
        ("Emit a warning when something deprecated happens.", False),
        ("Load.\n\nThe parameter z is deprecated.", False),
    ],
)
def test_deprecated_is_said_of_itself(text: str, *, expected: bool) -> None:
    assert says_deprecated(text) is expected


def test_reading_imports_nothing_with_an_effect() -> None:
    script = (
        "import sys\n"
        "from service.cli.sample.library import document_library\n"
        "from service.cli.sample.sources import find_files, read_source\n"
        "found = list(document_library(source for file in find_files() if (source := read_source(file))))\n"
        f"print(len(found) > 5000, sorted({SHADOWED!r} & set(sys.modules)))"
    )
    finished = subprocess.run([SERVICE[0], "-W", "error", "-c", script], capture_output=True, text=True, check=True)

    assert (finished.stdout, finished.stderr) == ("True []\n", "")


@pytest.fixture(scope="module")
async def sampled(
    app: FastAPI, resources: Resources, connect: Callable[[str], Awaitable[Api]]
) -> AsyncIterator[tuple[Api, dict[str, str], Finished]]:
    """A tenant after its first `service sample`: its API, its environment and what was said."""
    api = await connect("taster")
    key = api.client.headers["Authorization"].removeprefix("Bearer ")
    async with working_with(resources)(), served(app) as url:
        environment = {"SERVICE_URL": url, "SERVICE_API_KEY": key, "COLUMNS": "160"}
        yield api, environment, await run(*SERVICE, "sample", **environment)


@thorough
async def test_everything_is_indexed_with_its_attributes(
    sampled: tuple[Api, dict[str, str], Finished], library: dict[str, Entry]
) -> None:
    api, _environment, finished = sampled
    status = await api.status("python-docs")
    path = "/v1/collections/python-docs/documents/json.JSONDecoder.decode"
    document: dict[str, Any] = (await api.client.get(path)).json()
    collection = (await api.client.get("/v1/collections/python-docs")).json()

    assert finished.code == 0, finished.said
    assert abs(status["documents"]["indexed"] - len(library)) <= 3, "typer replaces a function of sys"
    assert (status["documents"]["failed"], status["settled"]) == (0, True)
    assert document["attributes"]["kind"] == "method"
    assert document["attributes"]["deprecated"] is False
    assert collection["attributes"]["line"] == "integer"
    assert re.search(r"Reading .* files, .*/s", finished.err)
    assert re.search(r"[5-9],\d{3} documents in python-docs: [5-9],\d{3} new or changed, 0 unchanged\.", finished.err)


@thorough
async def test_repeating_changes_nothing_and_says_so(sampled: tuple[Api, dict[str, str], Finished]) -> None:
    api, environment, _first = sampled
    before = (await api.client.get("/v1/collections/python-docs/documents/json.loads")).json()
    again = await run(*SERVICE, "sample", **environment)
    after = (await api.client.get("/v1/collections/python-docs/documents/json.loads")).json()

    assert re.search(r": 0 new or changed, [5-9],\d{3} unchanged\.", again.err)
    assert after == before
    assert after["version"] == 1


@thorough
async def test_every_line_of_the_tour_can_be_pasted_and_brings_what_was_shown(
    sampled: tuple[Api, dict[str, str], Finished],
) -> None:
    _api, environment, finished = sampled
    lines = re.findall(r"^\S*python\S* -m service search .*$", finished.out, re.MULTILINE)
    questions = [question for stop in TOUR for question in stop.questions]
    assert [shlex.split(line)[4] for line in lines] == [question.query for question in questions]
    pasted = [await run("bash", "-c", line, **environment, PATH="/usr/bin:/bin") for line in lines]

    assert len(TOUR) == 5
    for line, answer in zip(lines, pasted, strict=True):
        shown, brought = titles(finished.out.split(f"{line}\n")[1])[:3], titles(answer.out)
        assert len(brought) == 3, (line, answer.said)
        # Weights of words are still refined after a large ingest: a neighbour in rank may change, the best does not.
        assert shown[0] == brought[0]


def titles(printed: str) -> list[str]:
    return re.findall(r"^ ?\d +\d+\.\d{3} +(.*\S)", printed, re.MULTILINE)


async def test_without_a_service_it_is_one_sentence() -> None:
    finished = await run(*SERVICE, "sample", SERVICE_URL="http://127.0.0.1:9", SERVICE_API_KEY="x")

    assert (finished.code, finished.out) == (1, "")
    assert (
        finished.err
        == "Error: No service answers at http://127.0.0.1:9: start one with `make run`, or set SERVICE_URL.\n"
    )
