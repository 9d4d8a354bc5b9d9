"""`service search`, `show`, `open`, `status`, `collections` as processes, on the real API behind a real port."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.cli.address import Address
from service.cli.client import open_client
from service.cli.questions import Question
from service.cli.settle import wait_until_settled
from service.resources import Resources
from tests.api_calls import Api
from tests.cli_calls import SERVICE, Finished, environment, run, run_in_terminal, served
from tests.worker_calls import working_with

ESCAPE = "\x1b"
LONG = " ".join(f"Some other sentence number {n} stands here." for n in range(60))

DOCUMENTS: list[dict[str, Any]] = [
    {
        "external_id": "bears",
        "title": "Bears in winter",
        "text": "A brown bear sleeps through the cold months in its den.",
        "tags": ["animals", "winter"],
        "attributes": {"year": 2020, "since": "3.10", "good": True},
    },
    {
        "external_id": "birds/owl",
        "title": "Owls",
        "text": f"{LONG} Owls sleep by day and hunt sleeping mice at night. {LONG} Sleepy owls again. {LONG}",
        "tags": ["animals"],
        "attributes": {"year": 2021, "since": "3.9", "good": False},
    },
    {"external_id": "stones", "text": "Stones sleep, too.", "attributes": {"year": 2022}},
    {
        "external_id": "hostile",
        "title": "Hostile",
        "text": f"poison {ESCAPE}]0;owned\x07 {ESCAPE}[31mred and [bold]markup[/bold]",
    },
]


@dataclass(frozen=True)
class Service:
    url: str
    key: str
    api: Api

    async def __call__(self, *arguments: str, **variables: str) -> Finished:
        return await run(*SERVICE, *arguments, **{"SERVICE_URL": self.url, "SERVICE_API_KEY": self.key} | variables)


@pytest.fixture(scope="module")
async def service(
    app: FastAPI, resources: Resources, connect: Callable[[str], Awaitable[Api]]
) -> AsyncIterator[Service]:
    """A tenant with one collection of the documents above and one file, all searchable."""
    api = await connect("reader")
    key = api.client.headers["Authorization"].removeprefix("Bearer ")
    await api.make_collection("animals")
    declared = {"year": "integer", "since": "string", "good": "boolean"}
    await api.client.patch("/v1/collections/animals", json={"attributes": declared})
    async with working_with(resources)(), served(app) as url:
        answers = await api.batch("animals", DOCUMENTS)
        assert [answer["status"] for answer in answers] == [202] * len(DOCUMENTS), answers
        await api.make_file("animals", b"# A file\n\nOf lynxes.\n", external_id="lynx.md", filename="lynx.md")
        async with open_client(Address(url, key)) as client:
            await wait_until_settled(client, "animals")
        yield Service(url, key, api)


async def test_a_hit_shows_its_title_its_name_and_where_it_matched_with_the_words_marked(service: Service) -> None:
    found = await service("search", "sleeping owl", "-f", "external_id=birds/owl")
    first = found.out.split("\n2  ")[0]

    assert (found.code, found.err) == (0, "")
    assert re.search(r"\n1 +\d\.\d{3} +\*Owls\* *\n", first)
    assert "birds/owl" in first
    assert "*Owls* *sleep* by day and hunt *sleeping* mice" in " ".join(first.split())
    assert ESCAPE not in found.out


async def test_words_are_marked_in_colour_on_a_terminal_and_without_where_no_colour_is_wanted(service: Service) -> None:
    asked = (*SERVICE, "search", "bear", "-n", "1")
    address = {"SERVICE_URL": service.url, "SERVICE_API_KEY": service.key}
    coloured, plain = await asyncio.gather(
        run_in_terminal(*asked, **address), run_in_terminal(*asked, **address, NO_COLOR="1")
    )

    assert f"{ESCAPE}[1;33mbear{ESCAPE}[0m" in coloured
    assert f"{ESCAPE}[1mbear{ESCAPE}[0m" in plain
    assert not re.search(r"\x1b\[[0-9;]*[349]\d[0-9;]*m", plain)


@pytest.mark.parametrize("columns", [30, 200])
async def test_a_table_fits_the_terminal_with_every_word_in_it(service: Service, columns: int) -> None:
    found = await service("search", "sleep", COLUMNS=str(columns))

    assert max(map(len, found.out.splitlines())) <= columns
    assert "A brown bear *sleeps* through the cold months in its den." in " ".join(found.out.split()), (
        "nothing is cut off"
    )


async def test_json_is_what_the_service_answers(service: Service) -> None:
    found = await service("search", "sentence", "--mode", "lexical", "--limit", "2", "--group-by", "none", "--json")
    request = {"query": "sentence", "mode": "lexical", "limit": 2, "group_by": None}
    expected = (await service.api.client.post("/v1/collections/animals/search", json=request)).json()

    assert [hit["external_id"] for hit in expected["hits"]] == ["birds/owl"] * 2
    assert {**json.loads(found.out), "took_ms": 0} == {**expected, "took_ms": 0}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["year=2020"], {"bears"}),
        (["year>2020"], {"birds/owl", "stones"}),
        (["year>=2020", "year < 2022"], {"bears", "birds/owl"}),
        (["attributes.year<=2020"], {"bears"}),
        (["since=3.10"], {"bears"}),
        (["since!=3.10"], {"birds/owl", "stones"}),
        (["good=true"], {"bears"}),
        (["good=false"], {"birds/owl"}),
        (["tags=winter"], {"bears"}),
        (["tags!=winter"], {"birds/owl", "stones"}),
        (["external_id=birds/owl"], {"birds/owl"}),
        (['{"$or": [{"attributes.year": 2022}, {"tags": {"$overlap": ["winter"]}}]}'], {"bears", "stones"}),
        (['{"attributes.year": {"$gte": 2021}}', "tags=animals"], {"birds/owl"}),
    ],
)
async def test_conditions_mean_the_same_in_the_words_of_a_shell(
    service: Service, conditions: list[str], expected: set[str]
) -> None:
    question = Question(query="sleep", collection="animals", mode="lexical", conditions=tuple(conditions))
    async with open_client(Address(service.url, service.key)) as client:
        answer = await question.ask(client)

    assert {hit["external_id"] for hit in answer["hits"]} == expected


async def test_every_condition_of_the_command_line_must_hold(service: Service) -> None:
    found = await service("search", "sleep", "-f", "year>=2020", "--filter", "year<2022", "-f", "tags=winter", "--json")

    assert [hit["external_id"] for hit in json.loads(found.out)["hits"]] == ["bears"]


async def test_nothing_found_is_status_3_with_the_answer_still_printed(service: Service) -> None:
    table, raw, gone = await asyncio.gather(
        service("search", "zeppelin", "-m", "lexical"),
        service("search", "zeppelin", "-m", "lexical", "--json"),
        service("show", "zeppelin"),
    )

    assert (table.code, table.out) == (3, "Nothing was found.\n")
    assert (raw.code, json.loads(raw.out)["hits"]) == (3, [])
    assert (gone.code, gone.err) == (3, "Error: There is no document 'zeppelin' in 'animals'.\n")


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "sentence"),
    [
        (["search", "x"], {"SERVICE_URL": "http://127.0.0.1:9"}, 1, "No service answers at http://127.0.0.1:9"),
        (["status"], {"SERVICE_API_KEY": "hs_wrong"}, 1, "key is unknown"),
        (["collections"], {"SERVICE_URL": "", "DATA_DIR": "nowhere"}, 1, "start a service with `make run`"),
        (["search", "x", "-c", "gone"], {}, 1, "There is no collection 'gone'; there are: animals."),
        (["search", ""], {}, 1, "it must not be empty"),
        (["search", "x", "-f", '{"$x": 1}'], {}, 1, "unknown operator"),
        (["search", "x", "-f", "year=soon"], {}, 1, "filter.attributes.year"),
        (["search", "x", "-f", '{"year": '], {}, 2, "is not JSON"),
        (["search", "x", "-f", "year"], {}, 2, "neither a condition"),
        (["search", "x", "-f", "tags>a"], {}, 2, "tags is a list"),
        (["search", "x", "--mode", "psychic"], {}, 2, "'hybrid', 'lexical', 'semantic'"),
        (["search", "x", "-n", "0"], {}, 2, "Invalid value for '--limit'"),
        (["open", "01890000-0000-7000-8000-000000000000"], {}, 3, "There is no document"),
        (["nonsense"], {}, 2, "No such command"),
    ],
)
async def test_what_must_be_expected_is_one_sentence_and_its_exit_code(
    service: Service, arguments: list[str], variables: dict[str, str], code: int, sentence: str
) -> None:
    finished = await service(*arguments, **variables)

    assert (finished.code, finished.out) == (code, "")
    assert sentence in " ".join(finished.err.replace("│", " ").split())


async def test_several_collections_have_to_be_told_apart(
    connect: Callable[[str], Awaitable[Api]], service: Service
) -> None:
    api = await connect("collector")
    key = api.client.headers["Authorization"].removeprefix("Bearer ")
    none = await service("search", "x", SERVICE_API_KEY=key)
    await api.make_collection("one")
    await api.make_collection("two")
    several = await service("search", "x", SERVICE_API_KEY=key)

    assert (none.code, "There is no collection yet" in none.err) == (1, True)
    assert (several.code, several.err) == (2, "Error: Say which collection with --collection: two, one.\n")


async def test_a_reader_that_leaves_ends_the_command_in_silence(service: Service) -> None:
    many = await service.api.make_document("animals", external_id="many", text=" ".join("word" for _ in range(90_000)))
    line = f"{' '.join(SERVICE)} show many --json | head -n 1; echo ${{PIPESTATUS[0]}}"
    await service.api.client.get(f"/v1/documents/{many['id']}")
    async with open_client(Address(service.url, service.key)) as client:
        await wait_until_settled(client, "animals")
    finished = await run("bash", "-c", line, SERVICE_URL=service.url, SERVICE_API_KEY=service.key, PATH="/usr/bin:/bin")
    await service.api.delete(many)

    assert (finished.out.split(), finished.err) == (["{", "141"], "")


async def test_ctrl_c_is_status_130_without_a_story() -> None:
    asked = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        with suppress(ConnectionError):
            await reader.read()  # until nobody is there
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    process = await asyncio.create_subprocess_exec(
        *SERVICE,
        "search",
        "x",
        env=environment({"SERVICE_URL": url, "SERVICE_API_KEY": "x"}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    await asyncio.wait_for(asked.wait(), 60)
    process.send_signal(signal.SIGINT)
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    server.close()

    assert (process.returncode, said) == (130, b"")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"<html>Welcome</html>", "is not this service"),
        (b"[]", "is not this service"),
        (b'{"name": "x"}', "Unexpected: KeyError"),
        (b'{"collections": 5, "next_cursor": null}', "Unexpected: TypeError"),
    ],
)
async def test_what_answers_may_be_something_else(answer: bytes, sentence: str) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finished = await run(*SERVICE, "search", "x", SERVICE_URL=url, SERVICE_API_KEY="x")
    server.close()

    assert (finished.code, finished.out) == (1, "")
    assert sentence in finished.err


async def test_what_somebody_uploaded_cannot_steer_the_terminal(service: Service) -> None:
    found, shown = await asyncio.gather(service("search", "poison", "-m", "lexical"), service("show", "hostile"))

    for finished in (found, shown):
        assert finished.code == 0
        assert ESCAPE not in finished.out
        assert "\x07" not in finished.out
        assert "[bold]markup[/bold]" in finished.out


async def test_show_tells_fields_and_chunks_and_json_has_all_of_them(service: Service) -> None:
    shown, raw = await asyncio.gather(
        service("show", "birds/owl", "--chunks", "1"), service("show", "birds/owl", "-c", "animals", "--json")
    )
    answer = json.loads(raw.out)
    by_id = await service("show", answer["document"]["id"], "--json")

    assert re.search(r"attributes\.year +2021 *\n", shown.out)
    assert re.search(r"tags +\[\"animals\"\]", shown.out)
    assert "chunk 0, characters 0 to " in shown.out
    assert f"… and {len(answer['chunks']) - 1} more of {len(answer['chunks'])} chunks" in shown.out
    assert answer["document"]["chunk_count"] == len(answer["chunks"]) > 1
    assert json.loads(by_id.out) == answer


async def test_open_prints_a_link_that_leads_to_the_bytes(service: Service) -> None:
    file, text = await asyncio.gather(service("open", "lynx.md"), service("open", "bears"))
    async with httpx.AsyncClient(trust_env=False) as anybody:
        opened = await anybody.get(file.out.strip())
        refused = await anybody.get(text.out.strip())
        answered = await anybody.get(text.out.strip(), headers={"Authorization": f"Bearer {service.key}"})

    assert opened.content == b"# A file\n\nOf lynxes.\n"
    assert (refused.status_code, answered.text) == (401, DOCUMENTS[0]["text"])


async def test_status_and_collections_tell_what_there_is(service: Service) -> None:
    table, one, listed = await asyncio.gather(
        service("status"), service("status", "animals", "--json"), service("collections")
    )
    status = (await service.api.client.get("/v1/collections/animals/status")).json()

    assert re.search(r"animals +5 +0 +0 +0 +0 +yes", table.out)
    assert json.loads(one.out) == {"animals": status}
    assert re.search(r"animals +english +good boolean, since string, year integer", listed.out)


async def test_the_local_folder_says_where_the_service_is(service: Service, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"{service.url}\n", encoding="utf-8")
    (tmp_path / "api_key").write_text(f"{service.key}\n", encoding="utf-8")
    found = await service("collections", SERVICE_URL="", SERVICE_API_KEY="", DATA_DIR=str(tmp_path))

    assert (found.code, "animals" in found.out) == (0, True)


async def test_help_loads_nothing_that_only_the_service_needs() -> None:
    heavy = "{'torch', 'sqlalchemy', 'asyncpg', 'psqlpy', 'fastapi', 'uvicorn', 'numpy', 'boto3', 'ir_measures'}"
    script = (
        "import sys; from service.__main__ import app\n"
        "try: app(sys.argv[1:], prog_name='service')\n"
        f"finally: print('loaded', {heavy} & set(sys.modules))"
    )
    commands = ("search", "status", "collections", "show", "open", "sample")
    helped = await asyncio.gather(*(run(sys.executable, "-c", script, command, "--help") for command in commands))

    for command, finished in zip(commands, helped, strict=True):
        assert finished.out.endswith("loaded set()\n"), (command, finished.said)
        assert f"Example: service {command}" in finished.out or f"$(service {command}" in finished.out


async def test_a_shell_completes_commands_options_and_choices(tmp_path: Path) -> None:
    """As pip installs the command: a script on the PATH, whose completion is installed for the shell that runs it."""
    script = tmp_path / "bin" / "hybrid-search"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom service.__main__ import main\nmain()\n", encoding="utf-8")
    script.chmod(0o755)
    commands = tmp_path / "try.sh"
    commands.write_text(
        """hybrid-search --install-completion > /dev/null; . ~/.bashrc
complete() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hybrid_search_completion "$1"; echo "${COMPREPLY[*]}"; }
complete hybrid-search col
complete hybrid-search search --gro
complete hybrid-search search x --mode ""
""",
        encoding="utf-8",
    )
    finished = await run("bash", str(commands), HOME=str(tmp_path), PATH=f"{script.parent}:/usr/bin:/bin")

    assert finished.out.replace("\n", " ").split() == ["collections", "--group-by", "hybrid", "lexical", "semantic"]
