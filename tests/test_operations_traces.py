"""Traces when they are off, when their packages are not there, and when nobody takes them."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from service.app import create_app
from service.settings import Settings
from service.telemetry.telemetry import Telemetry
from service.telemetry.traces import in_span, link_to, open_tracing
from tests.api_calls import Api
from tests.operations_calls import Collector, attributes, collecting, process
from tests.worker_calls import environment_of

ROOT = Path(__file__).parents[1]
NOBODY = "http://127.0.0.1:9"
# As an install without the extra: the packages of the SDK and of the exporter cannot be imported.
WITHOUT_THE_EXTRA = (
    "import sys\nfor name in ('opentelemetry.sdk', 'opentelemetry.exporter'):\n    sys.modules[name] = None\n"
)


def run(code: str, environment: Mapping[str, str], *, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def without_the_extra(tmp_path: Path) -> Path:
    """A folder to put first on the path of another Python."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_THE_EXTRA)
    return tmp_path


def test_without_an_endpoint_nothing_of_the_exporter_is_even_imported(settings: Settings) -> None:
    code = (
        "import sys; from service.app import app; app();"
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter', 'google.protobuf'))])"
    )
    ended = run(code, environment_of(settings))

    assert (ended.stdout, ended.returncode) == ("[]\n", 0), ended.stderr


def test_the_default_install_serves_without_the_extra(settings: Settings, without_the_extra: Path) -> None:
    ended = run("from service.app import app; app(); print('made')", environment_of(settings), path=without_the_extra)

    assert (ended.stdout, ended.returncode) == ("made\n", 0), ended.stderr


@pytest.mark.parametrize("door", ["serve", "worker"])
def test_an_endpoint_without_the_extra_is_one_sentence_that_says_what_to_do(
    settings: Settings, without_the_extra: Path, door: str
) -> None:
    environment = environment_of(settings) | {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY, "PORT": "0"}
    ended = run(
        f"import sys; sys.argv[1:] = ['{door}']; import runpy; runpy.run_module('service', run_name='__main__')",
        environment,
        path=without_the_extra,
    )

    assert ended.returncode == 1
    assert ended.stdout == ""
    [sentence] = ended.stderr.splitlines()
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in sentence
    assert ".[otel]" in sentence


@pytest.mark.parametrize("wrong", ["collector", "ftp://collector:1", ""])
def test_an_endpoint_that_is_no_http_address_is_refused_by_its_name(settings: Settings, wrong: str) -> None:
    environment = environment_of(settings) | {"OTEL_EXPORTER_OTLP_ENDPOINT": wrong}
    ended = run(
        "import sys; sys.argv[1:] = ['serve']; import runpy; runpy.run_module('service', run_name='__main__')",
        environment,
    )

    assert ended.returncode == 1
    [sentence] = ended.stderr.splitlines()
    assert sentence.startswith("Error: OTEL_EXPORTER_OTLP_ENDPOINT: ")


async def test_a_worker_without_its_collector_works_and_ends_in_good_time(
    settings: Settings, api: Api, tmp_path: Path
) -> None:
    environment = environment_of(settings) | {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY}
    collection = await api.make_collection()
    async with process(["worker"], environment, log=tmp_path / "log") as worker:
        assert (await api.make_document(collection, wait=40))["status"] == "indexed"
        begun = time.monotonic()
        status = await worker.end()

        took = time.monotonic() - begun

    assert status == 0
    assert took < 10


async def test_answers_do_not_wait_for_a_collector(settings: Settings, api: Api) -> None:
    app = create_app(settings.model_copy(update={"otel_exporter_otlp_endpoint": NOBODY}))
    headers = {"Authorization": api.client.headers["Authorization"]}
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://service", headers=headers
        ) as client:
            begun = time.monotonic()
            answers = [(await client.get("/v1/collections")).status_code for _ in range(50)]
            took = time.monotonic() - begun
        ending = time.monotonic()

    assert set(answers) == {200}
    assert took < 10  # Fifty that waited would take minutes.
    assert time.monotonic() - ending < 6


@pytest.fixture
def sent() -> Collector:
    """One span of work that failed, and one that points back."""
    with collecting() as collector:
        tracing = open_tracing(collector.url, service="test")
        link = link_to("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        assert link is not None
        with pytest.raises(ValueError, match="secret"), in_span(tracing.tracer, "failed"):
            raise ValueError("a client's secret")
        with Telemetry(tracer=tracing.tracer).job_attempt("index_text", count=3, links=(link,)):
            pass
        tracing.close()
    return collector


def test_of_an_error_a_span_keeps_the_class_and_not_the_words(sent: Collector) -> None:
    [failed] = sent.named("failed")

    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert attributes(failed) == {"error.type": "ValueError"}
    assert "secret" not in str(failed)


def test_a_job_points_back_to_every_request_that_made_it(sent: Collector) -> None:
    [job] = sent.named("job")

    assert [link.trace_id.hex() for link in job.links] == ["4bf92f3577b34da6a3ce929d0e0e4736"]
    assert attributes(job) == {"job.kind": "index_text", "job.count": 3}


def test_a_damaged_traceparent_is_no_link() -> None:
    assert link_to("00-nonsense") is None
    assert link_to("") is None


def test_the_name_of_the_service_is_the_environments_where_it_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    with collecting() as collector:
        tracing = open_tracing(collector.url, service="test")
        with in_span(tracing.tracer, "work"):
            pass
        tracing.close()

    assert [service for service, _ in collector.spans] == ["ours"]
