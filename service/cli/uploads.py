"""Sending files and lines to a collection, several requests at once, with a tally of what became of them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar

from service.cli.checkpoint import Checkpoint
from service.cli.client import ServiceClient
from service.cli.failures import ChangedError, CommandError, Failure, ProblemError, problem_sentence
from service.cli.lines import Batch, open_lines, read_batches, read_lines
from service.cli.sources import FileBody, Source

T = TypeVar("T")

SHOWN = 1_000  # Failures kept for the table; the others are counted.
# These say that the next request fails alike, so they end the run and not just one file of it.
FATAL = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}

Advance = Callable[[int, int], None]
"""Called with the documents and the bytes of the input that are dealt with."""


@dataclass
class Tally:
    sent: int = 0
    changed: int = 0
    failed: int = 0
    failures: list[Failure] = field(default_factory=list)

    def fail(self, failure: Failure) -> None:
        self.failed += 1
        if len(self.failures) < SHOWN:
            self.failures.append(failure)


async def in_parallel(things: Iterable[T], act: Callable[[T], Awaitable[None]], *, concurrency: int) -> None:
    """Act on every thing, `concurrency` at a time, drawn only when needed. The first error ends all and is raised."""
    shared = iter(things)

    async def work() -> None:
        for thing in shared:
            await act(thing)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
    except ExceptionGroup as errors:
        raise _first(errors) from None


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def send_files(
    sources: Iterable[Source],
    *,
    client: ServiceClient,
    collection: str,
    concurrency: int,
    tally: Tally,
    advance: Advance,
) -> None:
    """PUT every file under its name. A file that is refused is tallied; a service that is gone raises CommandError."""

    async def send(source: Source) -> None:
        try:
            status = await client.put_file(
                collection,
                source.external_id,
                body=FileBody(source.path),
                filename=source.path.name,
                content_type=source.content_type,
                size=source.size,
            )
            tally.sent += 1
            tally.changed += status != HTTPStatus.OK
        except ProblemError as problem:
            if problem.status in FATAL:
                raise
            tally.fail(Failure(source.external_id, problem.code, str(problem)))
        except ChangedError as error:
            tally.fail(Failure(source.external_id, "changed", str(error)))
        except OSError as error:
            tally.fail(Failure(source.external_id, "unreadable", f"{error.strerror}."))
        advance(1, source.size)

    await in_parallel(sources, send, concurrency=concurrency)


async def send_lines(
    source: Source,
    *,
    client: ServiceClient,
    collection: str,
    concurrency: int,
    tally: Tally,
    advance: Advance,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Send an NDJSON file in batches from where the checkpoint stands, and take the checkpoint away at the end."""
    name, start, line = source.external_id, 0, 0
    if checkpoint:
        start, line = checkpoint.offset, checkpoint.line
        for failure in checkpoint.failures:
            tally.fail(failure)

    async def send(step: tuple[Batch, int]) -> None:
        batch, weight = step
        failures = await _send_batch(batch, name=name, client=client, collection=collection, tally=tally)
        for failure in failures:
            tally.fail(failure)
        if checkpoint:
            checkpoint.finish(batch, failures)
        advance(len(batch.numbers), weight)

    steps = _read_steps(source, start=start, line=line, tally=tally)
    await in_parallel(steps, send, concurrency=concurrency)
    if checkpoint:
        checkpoint.remove()


def _read_steps(source: Source, *, start: int, line: int, tally: Tally) -> Iterator[tuple[Batch, int]]:
    """Batches, each with the bytes of the (perhaps compressed) file that were read for it."""
    position = 0
    try:
        with open_lines(source.path) as (stream, file):
            lines = read_lines(stream, number=line, offset=start)
            for batch in read_batches(lines, source=source.external_id, start=start):
                before, position = position, file.tell()
                yield batch, position - before
    except OSError as error:
        tally.fail(Failure(source.external_id, "unreadable", f"{error.strerror}."))
    except CommandError as error:
        tally.fail(Failure(source.external_id, "damaged", str(error)))


async def _send_batch(
    batch: Batch, *, name: str, client: ServiceClient, collection: str, tally: Tally
) -> list[Failure]:
    failures = [Failure(f"{name}:{number}", "too_large", "The line is too long.") for number in batch.oversized]
    if not batch.numbers:
        return failures
    try:
        answers = await client.send_batch(collection, batch.body)
    except ProblemError as problem:
        if problem.status in FATAL:
            raise
        return failures + [Failure(f"{name}:{number}", problem.code, str(problem)) for number in batch.numbers]
    if len(answers) != len(batch.numbers):
        raise CommandError(f"The service answered {len(answers)} of {len(batch.numbers)} lines of a batch.")
    for number, answer in zip(batch.numbers, answers, strict=True):
        if answer["status"] < HTTPStatus.BAD_REQUEST:
            tally.sent += 1
            tally.changed += answer["status"] != HTTPStatus.OK
        else:
            refusal = answer.get("problem") or {}
            code = str(refusal.get("code") or f"http_{answer['status']}")
            failures.append(Failure(f"{name}:{number}", code, problem_sentence(refusal)))
    return failures
