"""X-Commit-Token: out with every write, in with a read that must not be answered from before it."""

from collections.abc import Mapping
from typing import Annotated

import structlog
from fastapi import Depends, Request
from starlette.responses import Response

from service.db.commits import commit_token
from service.db.primary import Primary
from service.db.read_pool import Reader
from service.db.read_replica import read_from
from service.domain.commits import CommitToken
from service.domain.errors import ServiceError

HEADER = "X-Commit-Token"

log = structlog.get_logger(__name__)


async def after_commit(request: Request) -> CommitToken | None:
    """Raises MalformedError. What reads the primary need not ask: there, every commit is seen."""
    text = request.headers.get(HEADER)
    return None if text is None else CommitToken.parse(text)


After = Annotated[CommitToken | None, Depends(after_commit)]


async def committed(response: Response, primary: Primary) -> Response:
    """With a token that covers whatever the answer tells of. What is durable is not refused for the want of it."""
    try:
        response.headers[HEADER] = str(await commit_token(primary))
    except ServiceError as error:
        log.warning("no commit token", reason=str(error))
    return response


def told_where(reader: Reader) -> Mapping[str, str]:
    """The header that says which database answered, where there are two."""
    where = read_from(reader)
    return {} if where is None else {"X-Read-From": where}
