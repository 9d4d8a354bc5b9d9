"""Traces: spans go to a collector where OTEL_EXPORTER_OTLP_ENDPOINT names one; otherwise none are made.

The API of OpenTelemetry is always there (FastAPI brings it); its SDK and exporter are the extra `otel`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import Thread

from opentelemetry import trace
from opentelemetry.trace import (
    Link,
    NoOpTracer,
    NoOpTracerProvider,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.domain.errors import ServiceError

TRACE_CONTEXT = TraceContextTextMapPropagator()
CLOSING_SECONDS = 3.0  # A collector that is gone must not hold up a process that is told to stop.


class ExporterMissingError(ServiceError):
    """Traces are asked for and the packages that export them are not installed."""


@dataclass(frozen=True, slots=True)
class Tracing:
    provider: TracerProvider
    is_on: bool
    close: Callable[[], None]  # sends what is still here; blocks, at most some seconds

    @property
    def tracer(self) -> Tracer:
        return self.provider.get_tracer("service")


NO_TRACING = Tracing(NoOpTracerProvider(), is_on=False, close=lambda: None)


def open_tracing(endpoint: str | None, *, service: str) -> Tracing:
    """`service` is the process's name unless OTEL_SERVICE_NAME says otherwise. Raises ExporterMissingError."""
    if endpoint is None:
        return NO_TRACING
    try:
        # Imported here, because the default install has none of them.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider as SdkProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise ExporterMissingError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but this install cannot export traces: "
            "add the extra `otel` (pip install '.[otel]') or unset the variable"
        ) from error
    resource = Resource.create({"service.name": service}).merge(OTELResourceDetector().detect())
    provider = SdkProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))

    def close() -> None:
        ending = Thread(target=provider.shutdown, daemon=True)
        ending.start()
        ending.join(CLOSING_SECONDS)

    return Tracing(provider, is_on=True, close=close)


def in_span(
    tracer: Tracer, name: str, *, links: tuple[Link, ...] = (), attributes: Mapping[str, str | int] | None = None
) -> AbstractContextManager[object]:
    """A span around a piece of work. Of an error only its class is kept: its words may be a client's."""
    if isinstance(tracer, NoOpTracer):
        return nullcontext()  # Its own no-op span would be half of what a search pays for being measured.
    return made_span(tracer, name, links=links, attributes=attributes)


@contextmanager
def made_span(
    tracer: Tracer, name: str, *, links: tuple[Link, ...], attributes: Mapping[str, str | int] | None
) -> Iterator[None]:
    kind = SpanKind.CONSUMER if links else SpanKind.INTERNAL
    with tracer.start_as_current_span(
        name, kind=kind, links=links, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise


def traceparent() -> str | None:
    """The current span as the W3C header writes it; None outside of every span."""
    carrier: dict[str, str] = {}
    TRACE_CONTEXT.inject(carrier)
    return carrier.get("traceparent")


def link_to(traceparent: str) -> Link | None:
    """What a job's span points back to: the span of the request that made it."""
    context = trace.get_current_span(TRACE_CONTEXT.extract({"traceparent": traceparent})).get_span_context()
    return Link(context) if context.is_valid else None


def trace_id() -> str | None:
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None
