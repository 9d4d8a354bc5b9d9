"""`service ingest` as its user sees it: a process, a folder, and a service at the other end of real HTTP."""

import asyncio
import gzip
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cli.address import Address, find_address
from service.cli.checkpoint import Checkpoint
from service.cli.client import open_client
from service.cli.failures import CommandError, Failure, problem_of
from service.cli.lines import document_of, read_batches, read_lines
from service.cli.retrying import retry_after
from service.cli.settle import wait_until_settled
from service.cli.sources import find_sources
from service.cli.uploads import in_parallel
from tests.stand_in import KEY, StandIn, open_stand_in

START = "import typer; from service.cli.ingest import ingest; typer.run(ingest)"


@dataclass
class Finished:
    code: int
    said: str


Run = Callable[..., Awaitable[Finished]]


@pytest.fixture
async def service() -> AsyncIterator[StandIn]:
    async with open_stand_in() as stand_in:
        yield stand_in


@pytest.fixture
def run(service: StandIn, tmp_path: Path) -> Run:
    async def start(*arguments: object, **variables: str) -> Finished:
        environment = {**os.environ, "SERVICE_URL": service.url, "SERVICE_API_KEY": KEY, "COLUMNS": "200"}
        environment |= {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path)} | variables
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            START,
            *map(str, arguments),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return Finished(process.returncode or 0, said.decode())

    return start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    for name, text in {
        "a.txt": "first",
        "sub/ü b%c.md": "second",
        "sub/data.json": "{}",
        ".hidden": "x",
        ".git/config": "x",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def write_ndjson(path: Path, documents: list[Any]) -> Path:
    text = "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in documents).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


async def test_a_folder_is_uploaded_under_its_paths_without_what_is_hidden(
    run: Run, folder: Path, service: StandIn
) -> None:
    finished = await run(folder, "--collection", "c", "--create")

    assert finished.code == 0, finished.said
    assert {upload[0] for upload in service.uploads} == {"a.txt", "sub/ü b%c.md", "sub/data.json"}
    assert ("sub/data.json", "data.json", "application/octet-stream", b"{}") in service.uploads


async def test_repeating_changes_nothing(run: Run, folder: Path) -> None:
    first = await run(folder, "--collection", "c", "--create")
    again = await run(folder, "--collection", "c")

    assert "3 accepted (3 new or changed, 0 unchanged)" in first.said
    assert "3 accepted (0 new or changed, 3 unchanged)" in again.said


async def test_every_failure_is_named_and_the_exit_code_says_so(run: Run, folder: Path) -> None:
    (folder / "large.bin").write_bytes(b"x" * 1_000_001)
    for number in range(3):
        (folder / f"broken{number}.pdf").write_bytes(b"BROKEN")
    (folder / "nowhere").symlink_to(folder / "gone")

    finished = await run(folder, "--collection", "c", "--create")

    assert finished.code == 1
    assert "too_large" in finished.said
    assert finished.said.count("corrupt") == 3
    assert "nowhere" in finished.said
    assert "3 accepted" not in finished.said
    assert "5 failed" in finished.said


async def test_lines_arrive_once_in_the_words_of_the_contract(run: Run, tmp_path: Path, service: StandIn) -> None:
    lines = [{"_id": f"b{n}", "title": "t", "text": "x", "metadata": {"year": n}} for n in range(1, 450)]
    file = write_ndjson(tmp_path / "corpus.jsonl.gz", [*lines, "", {"text": "nameless"}, "{broken"])

    finished = await run(file, "--collection", "c", "--create")

    assert finished.code == 1
    assert "corpus.jsonl.gz:452" in finished.said
    assert sorted(map(len, service.batches)) == [50, 200, 200]
    assert service.collections["c"]["b7"]["body"] == {
        "external_id": "b7",
        "title": "t",
        "text": "x",
        "attributes": {"year": 7},
    }
    assert "corpus.jsonl.gz#451" in service.collections["c"]


async def test_queries_beside_a_corpus_do_not_overwrite_its_documents(
    run: Run, tmp_path: Path, service: StandIn
) -> None:
    judged = tmp_path / "judged"
    judged.mkdir()
    write_ndjson(judged / "corpus.jsonl", [{"_id": "1", "text": "a document"}])
    write_ndjson(judged / "queries.jsonl", [{"_id": "1", "text": "a question"}])

    await run(judged, "--collection", "c", "--create")

    assert service.collections["c"]["1"]["body"]["text"] == "a document"


async def test_an_interrupted_file_continues_where_it_was(run: Run, tmp_path: Path, service: StandIn) -> None:
    file = write_ndjson(tmp_path / "many.ndjson", ["{broken", *({"_id": f"d{n}", "text": "x"} for n in range(999))])
    service.stop_after_batches = 2
    stopped = await run(file, "--collection", "c", "--create", "--concurrency", "1")
    service.stop_after_batches = None
    before = len(service.batches)

    finished = await run(file, "--collection", "c")

    assert (stopped.code, before) == (1, 2)
    assert "continuing after line 400" in finished.said
    assert len(service.batches) - before == 3
    assert len(service.collections["c"]) == 999
    assert "many.ndjson:1 " in finished.said, "what failed before the interruption is still told"


async def test_a_collection_made_again_is_filled_from_the_beginning(run: Run, tmp_path: Path, service: StandIn) -> None:
    file = write_ndjson(tmp_path / "many.ndjson", [{"_id": f"d{n}", "text": "x"} for n in range(500)])
    service.stop_after_batches = 2
    await run(file, "--collection", "c", "--create", "--concurrency", "1")
    service.stop_after_batches = None
    service.collections.clear()
    service.created_at = "2026-02-02T00:00:00Z"

    await run(file, "--collection", "c", "--create")

    assert len(service.collections["c"]) == 500


async def test_a_busy_service_is_asked_again(run: Run, tmp_path: Path, service: StandIn) -> None:
    service.busy = 3
    file = write_ndjson(tmp_path / "one.ndjson", [{"_id": "1", "text": "x"}])

    finished = await run(file, "--collection", "c", "--create")

    assert finished.code == 0, finished.said


async def test_damaged_gzip_is_one_row_and_what_was_readable_is_kept(
    run: Run, tmp_path: Path, service: StandIn
) -> None:
    file = write_ndjson(tmp_path / "cut.jsonl.gz", [{"_id": f"{n}", "text": os.urandom(99).hex()} for n in range(900)])
    file.write_bytes(file.read_bytes()[:-5000])

    finished = await run(file, "--collection", "c", "--create")

    assert finished.code == 1
    assert "damaged" in finished.said
    assert len(service.collections["c"]) > 700


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"SERVICE_URL": "http://127.0.0.1:9"}, "No service answers at http://127.0.0.1:9"),
        ({"SERVICE_API_KEY": "wrong"}, "The key is unknown."),
        ({"SERVICE_URL": "", "DATA_DIR": "nowhere"}, "start a service with `make run`"),
        ({"SERVICE_URL": "127.0.0.1:8000"}, "must look like"),
        ({}, "There is no collection 'c'"),
    ],
)
async def test_what_must_be_expected_is_one_sentence(
    run: Run, folder: Path, variables: dict[str, str], sentence: str
) -> None:
    finished = await run(folder, "--collection", "c", **variables)

    assert finished.code == 1
    assert sentence in finished.said
    assert "Traceback" not in finished.said


async def test_a_missing_path_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    finished = await run(tmp_path / "gone", "--collection", "c")

    assert finished.code == 2
    assert "does not exist" in finished.said


async def test_ctrl_c_ends_with_what_was_done(service: StandIn, tmp_path: Path) -> None:
    service.busy = 10**9
    file = write_ndjson(tmp_path / "one.ndjson", [{"_id": "1", "text": "x"}])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        START,
        file,
        "--collection",
        "c",
        "--create",
        env={**os.environ, "SERVICE_URL": service.url, "SERVICE_API_KEY": KEY, "HOME": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    await service.asked.wait()
    process.send_signal(signal.SIGINT)
    said, _ = await asyncio.wait_for(process.communicate(), timeout=60)

    assert process.returncode == 130
    assert b"Interrupted" in said
    assert b"0 accepted" in said
    assert b"Traceback" not in said


def test_batches_cover_a_file_without_a_gap_within_their_bounds() -> None:
    text = b"".join(b'{"_id": "%d", "text": "%s"}\n' % (n, b"x" * (n // 5)) for n in range(500)) + b"\n\n"

    batches = list(read_batches(read_lines(BytesIO(text)), source="s", most_lines=40, most_bytes=1_500))

    assert [batch.start for batch in batches[1:]] == [batch.end for batch in batches[:-1]]
    assert (batches[0].start, batches[-1].end) == (0, len(text))
    assert [number for batch in batches for number in batch.numbers] == list(range(1, 501))
    assert max(len(batch.body) for batch in batches) <= 1_500
    assert max(len(batch.numbers) for batch in batches) == 40


def test_reading_can_begin_at_the_end_of_any_batch() -> None:
    text = b"".join(b'{"text": "%d"}\n' % n for n in range(100))
    whole = list(read_batches(read_lines(BytesIO(text)), source="s", most_lines=7))
    for cut, batch in enumerate(whole, start=1):
        lines = read_lines(BytesIO(text), number=batch.last_line, offset=batch.end)

        assert list(read_batches(lines, source="s", start=batch.end, most_lines=7)) == whole[cut:]


def test_a_line_too_long_is_passed_over_in_pieces_and_named() -> None:
    text = b'{"_id": "1"}\n{"_id": "' + b"x" * 5_000 + b'"}\n{"_id": "3"}\n'

    (batch,) = read_batches(read_lines(BytesIO(text), longest=100), source="s")

    assert (batch.numbers, batch.oversized) == ((1, 3), (2,))
    assert batch.end == len(text)


def test_a_line_of_the_contract_is_sent_byte_for_byte() -> None:
    line = b'{"external_id": "a", "text": "x", "attributes": {"big": 123456789012345678901234567890}}'

    assert document_of(b"\xef\xbb\xbf" + line + b"\r\n", number=1, source="s") == line


def test_a_checkpoint_never_passes_a_batch_that_is_not_finished(tmp_path: Path) -> None:
    text = b"".join(b'{"text": "%d"}\n' % n for n in range(6))
    first, second, third = read_batches(read_lines(BytesIO(text)), source="s", most_lines=2)
    path = tmp_path / "deep" / "checkpoint.json"
    checkpoint = Checkpoint.load(path)
    checkpoint.finish(second, [Failure("s:3", "invalid", "No.")])
    checkpoint.finish(third, [])
    assert Checkpoint.load(path).line == 0
    checkpoint.finish(first, [])

    assert (Checkpoint.load(path).line, Checkpoint.load(path).offset) == (6, len(text))
    assert Checkpoint.load(path).failures == [Failure("s:3", "invalid", "No.")]


def test_two_files_of_one_name_are_not_written_over_each_other(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.txt").write_text(folder, encoding="utf-8")

    _first, second = find_sources([tmp_path / "a", tmp_path / "b"])

    assert isinstance(second, Failure)
    assert second.code == "duplicate_name"


async def test_waiting_ends_when_nothing_moves_any_more(service: StandIn) -> None:
    service.collections["c"], service.settled = {}, False

    async with open_client(Address(service.url, KEY)) as client:
        with pytest.raises(CommandError, match=r"Nothing has moved .* `service jobs list`"):
            await wait_until_settled(client, "c", stalled=0.2)


async def test_things_are_drawn_only_as_they_are_needed() -> None:
    drawn, running, most = 0, 0, 0

    def things() -> Any:
        nonlocal drawn
        while drawn < 1_000_000:
            drawn += 1
            yield drawn

    async def act(thing: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        if thing == 50:
            raise CommandError("enough")

    with pytest.raises(CommandError, match="enough"):
        await in_parallel(things(), act, concurrency=4)

    assert (most, drawn < 60) == (4, True)


def test_the_address_is_the_environments_before_the_local_folders(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("http://127.0.0.1:8000\n", encoding="utf-8")
    (tmp_path / "api_key").write_text("local\n", encoding="utf-8")

    address = find_address({"DATA_DIR": str(tmp_path), "SERVICE_API_KEY": "mine"})

    assert (address.url, address.api_key) == ("http://127.0.0.1:8000", "mine")
    assert "mine" not in repr(address)


def test_a_problem_becomes_one_sentence_with_its_fields() -> None:
    answer = {"title": "Invalid", "detail": "It is not valid", "errors": [{"field": "tags", "message": "not a list"}]}
    response = httpx.Response(422, json=answer, request=httpx.Request("GET", "http://service/v1"))

    assert str(problem_of(response)) == "It is not valid (tags: not a list)."


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3.0), ("Thu, 01 Jan 2026 00:00:00 GMT", 0.0), ("soon", None), ("", None)]
)
def test_retry_after_is_read_in_both_its_forms(value: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": value}) == seconds
