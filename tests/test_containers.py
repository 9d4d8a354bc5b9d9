"""docker-compose.yml, the image and the pooler fit the service, as far as that can be seen without Docker."""

import configparser
import fnmatch
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from service.db.roles import APPLICATION, MIGRATOR, SEARCHER
from service.settings import Settings

ROOT = Path(__file__).parents[1]
ONE_SHOT = {"roles", "migrate", "bucket"}
COMMANDS = {  # What `roles` reads beside the settings.
    "DATABASE_ADMIN_URL",
    "MIGRATOR_PASSWORD",
    "APPLICATION_PASSWORD",
    "SEARCHER_PASSWORD",
}
SETTINGS = {name.upper() for name in Settings.model_fields}

Service = Mapping[str, Any]


def interpolated(text: str) -> str:
    """As compose reads it with an empty environment."""
    return re.sub(r"\$\{\w+(?::-([^}]*))?\}", lambda match: match[1] or "", text)


@pytest.fixture(scope="module")
def compose() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = yaml.safe_load(interpolated((ROOT / "docker-compose.yml").read_text()))
    return loaded


@pytest.fixture(scope="module")
def services(compose: Mapping[str, Any]) -> Mapping[str, Service]:
    found: Mapping[str, Service] = compose["services"]
    return found


@pytest.fixture(scope="module")
def pooler() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "infra" / "pgbouncer" / "pgbouncer.ini")
    return parser


def own(services: Mapping[str, Service]) -> dict[str, Service]:
    """Those that run this repository's image."""
    return {name: service for name, service in services.items() if "build" in service}


class GivenSettings(Settings):
    """Of a container: the environment of the tests is not its."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  given by name
        init_settings: PydanticBaseSettingsSource,
        *_: object,
        **__: object,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def settings_of(service: Service) -> Settings:
    return GivenSettings(**{name.lower(): value for name, value in service["environment"].items()})


def secret(value: SecretStr | None) -> str:
    assert value is not None
    return value.get_secret_value()


def test_every_part_of_the_stack_is_there(services: Mapping[str, Service]) -> None:
    assert set(services) == {"postgres", "roles", "migrate", "pgbouncer", "minio", "bucket", "api", "worker", "neon"}
    assert [name for name, service in services.items() if "profiles" in service] == ["neon"]


def test_every_image_is_pinned(services: Mapping[str, Service]) -> None:
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]

        assert re.search(r"[0-9]", tag), name
        assert "latest" not in tag, name


def test_what_runs_on_has_a_health_check_and_what_ends_is_waited_for(services: Mapping[str, Service]) -> None:
    waited = {
        (needed, condition["condition"])
        for service in services.values()
        for needed, condition in service.get("depends_on", {}).items()
    }

    for name, service in services.items():
        if name in ONE_SHOT:
            assert (name, "service_completed_successfully") in waited, name
        else:
            assert service["healthcheck"]["test"], name
    assert waited <= {(name, "service_completed_successfully") for name in ONE_SHOT} | {
        (name, "service_healthy") for name in services
    }


def test_our_containers_are_given_nothing_that_nobody_reads(services: Mapping[str, Service]) -> None:
    for name, service in own(services).items():
        unknown = service["environment"].keys() - SETTINGS - (COMMANDS if name == "roles" else set())

        assert unknown == set(), name


def test_the_api_and_the_worker_have_all_that_is_required(services: Mapping[str, Service]) -> None:
    assert settings_of(services["api"]).host == "0.0.0.0"  # noqa: S104  of the container
    assert secret(settings_of(services["worker"]).database_direct_url)


def test_only_what_needs_a_session_goes_past_the_pooler(services: Mapping[str, Service]) -> None:
    worker, api = settings_of(services["worker"]), settings_of(services["api"])

    assert api.database_direct_url is None
    assert urlsplit(secret(worker.database_direct_url)).hostname == "postgres"
    for url in (api.database_url, api.search_database_url, worker.database_url, worker.search_database_url):
        assert urlsplit(secret(url)).netloc.endswith("@pgbouncer:6432")


def test_each_address_logs_in_as_its_own_role(services: Mapping[str, Service]) -> None:
    worker = settings_of(services["worker"])
    addresses = (worker.database_url, worker.search_database_url, worker.database_direct_url)

    assert [urlsplit(secret(url)).username for url in addresses] == [APPLICATION, SEARCHER, MIGRATOR]


def test_the_roles_get_the_passwords_that_the_addresses_use(services: Mapping[str, Service]) -> None:
    given, worker = services["roles"]["environment"], settings_of(services["worker"])

    assert urlsplit(secret(worker.database_url)).password == given["APPLICATION_PASSWORD"]
    assert urlsplit(secret(worker.search_database_url)).password == given["SEARCHER_PASSWORD"]
    assert urlsplit(secret(worker.database_direct_url)).password == given["MIGRATOR_PASSWORD"]


def test_the_pooler_knows_both_roles_and_tracks_their_statements(
    compose: Mapping[str, Any], services: Mapping[str, Service], pooler: configparser.ConfigParser
) -> None:
    worker = settings_of(services["worker"])
    users = dict(re.findall(r'^"(\w+)" "([^"]*)"$', compose["configs"]["pgbouncer_users"]["content"], re.MULTILINE))
    options = pooler["pgbouncer"]

    for url in map(urlsplit, (secret(worker.database_url), secret(worker.search_database_url))):
        assert users[str(url.username)] == url.password
        assert url.port == int(options["listen_port"])
        assert f"dbname={url.path[1:]}" in pooler["databases"][url.path[1:]]
    assert options["pool_mode"] == "transaction"
    assert worker.pg_statement_mode == "tracked"
    assert int(options["max_prepared_statements"]) > 0


def test_the_bucket_that_is_made_is_the_bucket_that_is_used(services: Mapping[str, Service]) -> None:
    bucket, minio = services["bucket"], services["minio"]["environment"]
    settings = settings_of(services["worker"])

    assert bucket["command"][-1] == f"local/{settings.s3_bucket}"
    assert (minio["MINIO_ROOT_USER"], minio["MINIO_ROOT_PASSWORD"]) == (
        secret(settings.s3_access_key_id),
        secret(settings.s3_secret_access_key),
    )


def test_nothing_is_open_to_the_network(services: Mapping[str, Service]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_our_containers_need_no_rights(services: Mapping[str, Service]) -> None:
    for name, service in own(services).items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name


def test_everything_that_compose_mounts_exists(compose: Mapping[str, Any], services: Mapping[str, Service]) -> None:
    for service in services.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]

            assert source in compose["volumes"] or (ROOT / source).is_file()


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", (ROOT / "infra" / "Dockerfile").read_text())
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word.isupper()]


def copied() -> Iterator[str]:
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            yield from rest.split()[:-1]


def test_the_image_is_small_in_rights_and_has_a_health_check() -> None:
    last = instructions()[max(i for i, (word, _) in enumerate(instructions()) if word == "FROM") :]
    words = dict(last)

    assert sum(word == "FROM" for word, _ in instructions()) > 1
    assert words["USER"] not in {"root", "0"}
    assert "infra/probe.py" in words["HEALTHCHECK"]
    assert all(re.search(r":.*[0-9]", rest.split()[0]) for word, rest in instructions() if word == "FROM")


def test_what_the_image_copies_exists_and_is_sent_to_the_builder() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]

    for path in copied():
        assert (ROOT / path).exists(), path
        deciding = [line for line in ignored if fnmatch.fnmatch(path, line.removeprefix("!"))]
        assert deciding[-1].startswith("!"), path


def test_docker_itself_can_read_it() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], check=False, capture_output=True).returncode:
        pytest.skip("docker compose is not installed")
    done = subprocess.run(
        [docker, "compose", "config", "--quiet"], cwd=ROOT, check=False, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
