"""Logs: one JSON object a line on standard error, each with the request or job that caused it."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import orjson
import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import Processor

from service.telemetry.traces import trace_id, traceparent

UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access")


class Lines(structlog.WriteLogger):
    """Writes to standard error, under the name of the module that logs."""

    def __init__(self, name: str = "service") -> None:
        super().__init__(sys.stderr)
        self.name = name


def configure_logging(log_format: Literal["json", "console"], *, level: int = logging.INFO) -> None:
    """Lines of structlog and those of the standard library's loggers, in one form. Called once, by the doors.

    Ours are written straight away: on their way through the standard library each took twice the time.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor]
    if log_format == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=to_json)]
    else:
        last = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,  # A rich one shows local variables: clients' texts.
            )
        ]
    structlog.configure(
        processors=[*shared, *last],
        logger_factory=Lines,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        ProcessorFormatter(foreign_pre_chain=shared, processors=[ProcessorFormatter.remove_processors_meta, *last])
    )
    logging.basicConfig(handlers=[lines], level=level, force=True)
    for name in UVICORN:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.getLogger("uvicorn.access").disabled = True  # The request log of `api/middleware.py` says more.


def to_json(event: object, **_: object) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


@contextmanager
def log_scope(**words: str | int | None) -> Iterator[None]:
    """Everything logged inside carries these words, those that are None left out."""
    with structlog.contextvars.bound_contextvars(**{name: word for name, word in words.items() if word is not None}):
        yield


@contextmanager
def request_scope(request_id: str) -> Iterator[None]:
    """Everything logged inside carries this request id and, where there is one, its trace."""
    trace = trace_id()
    words = {"request_id": request_id} if trace is None else {"request_id": request_id, "trace_id": trace}
    before = structlog.contextvars.bind_contextvars(**words)
    try:
        yield
    finally:
        structlog.contextvars.reset_contextvars(**before)


def origin() -> dict[str, str]:
    """What a job keeps of the request that made it, so that its log lines and its span lead back there."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    kept = {"request_id": request_id, "traceparent": traceparent()}
    return {name: word for name, word in kept.items() if word is not None}
