"""Documents that are in memory, sent in batches; a figure that lost one of them would be wrong."""

from collections.abc import Sequence
from http import HTTPStatus

import orjson

from service.cli.client import Json, ServiceClient
from service.cli.failures import CommandError
from service.cli.lines import BATCH_LINES
from service.cli.uploads import in_parallel

CONCURRENCY = 4


async def send_documents(
    client: ServiceClient, name: str, documents: Sequence[Json], *, concurrency: int = CONCURRENCY
) -> None:
    """Send all of them; raises CommandError when one is refused."""

    async def send(start: int) -> None:
        lines = [orjson.dumps(document) for document in documents[start : start + BATCH_LINES]]
        for answer in await client.send_batch(name, b"\n".join(lines) + b"\n"):
            if answer["status"] >= HTTPStatus.BAD_REQUEST:
                raise CommandError(f"A document was refused: {answer}.")

    await in_parallel(range(0, len(documents), BATCH_LINES), send, concurrency=concurrency)
