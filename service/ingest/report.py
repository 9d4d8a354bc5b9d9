"""What the worker says about its jobs: log lines that name them, their time, and what became of the documents."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from service.db.jobs import Job, version_of
from service.telemetry.logs import log_scope
from service.telemetry.telemetry import Telemetry
from service.telemetry.traces import link_to

if TYPE_CHECKING:
    from service.ingest.write import Indexable

log = structlog.get_logger(__name__)


def named(claimed: Sequence[Job]) -> dict[str, list[str]]:
    """The ids of jobs that were claimed together, for a line about all of them."""
    return {
        "job_ids": [str(job.id) for job in claimed],
        "document_ids": [str(job.document_id) for job in claimed if job.document_id is not None],
    }


def asked_by(job: Job) -> str | None:
    """The id of the request that made the job."""
    request_id = job.payload.get("request_id")
    return None if request_id is None else str(request_id)


@contextmanager
def attempting(claimed: Sequence[Job], *, telemetry: Telemetry) -> Iterator[None]:
    """Around one attempt at jobs of one kind. Every line that is logged inside names the job, where there is only one."""
    first = claimed[0]
    words = {"job_kind": first.kind}
    if len(claimed) == 1:
        ids = {"job_id": first.id, "collection_id": first.collection_id, "document_id": first.document_id}
        words |= {name: str(each) for name, each in ids.items() if each is not None}
        words |= {} if (request_id := asked_by(first)) is None else {"request_id": request_id}
    origins = {str(job.payload["traceparent"]) for job in claimed if "traceparent" in job.payload}
    links = tuple(link for origin in sorted(origins) if (link := link_to(origin)) is not None)
    with log_scope(**words), telemetry.job_attempt(first.kind, count=len(claimed), links=links):
        yield


def report_ended(ended: Sequence["Indexable"], *, telemetry: Telemetry) -> None:
    """Of versions whose end has been committed: a line and a count for each."""
    for item in ended:
        job, code = item.job, None if item.failure is None else item.failure.code
        telemetry.metrics.documents.labels(code or "indexed").inc()
        if code is None:
            telemetry.metrics.chunks.labels(job.kind).inc(item.chunk_count)
        log.info(
            "document indexed" if code is None else "document failed",
            document_id=str(job.document_id),
            version=version_of(job),
            job_id=str(job.id),
            attempt=job.attempt,
            chunks=item.chunk_count,
            **{name: word for name, word in (("code", code), ("request_id", asked_by(job))) if word is not None},
        )
