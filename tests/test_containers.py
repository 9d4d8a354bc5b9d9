"""docker-compose.yml and the pooler fit the service, as far as that can be seen without Docker."""

import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from service.db.roles import APPLICATION, MIGRATOR, SEARCHER
from service.settings import Settings
from tests.compose_file import ROOT, Service, own, read_compose, secret, settings_of, variables

ONE_SHOT = {"roles", "migrate", "bucket"}
COMMANDS = {  # What `roles` reads beside the settings.
    "DATABASE_ADMIN_URL",
    "MIGRATOR_PASSWORD",
    "APPLICATION_PASSWORD",
    "SEARCHER_PASSWORD",
}
SETTINGS = {name.upper() for name in Settings.model_fields}


@pytest.fixture(scope="module")
def compose() -> Mapping[str, Any]:
    return read_compose()


@pytest.fixture(scope="module")
def services(compose: Mapping[str, Any]) -> Mapping[str, Service]:
    found: Mapping[str, Service] = compose["services"]
    return found


@pytest.fixture(scope="module")
def pooler() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "infra" / "pgbouncer" / "pgbouncer.ini")
    return parser


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
            assert service["healthcheck"] == {"disable": True}, name
        else:
            assert service["healthcheck"]["test"], name
    assert waited <= {(name, "service_completed_successfully") for name in ONE_SHOT} | {
        (name, "service_healthy") for name in services.keys() - ONE_SHOT
    }


def test_our_containers_are_given_nothing_that_nobody_reads(services: Mapping[str, Service]) -> None:
    for name, service in own(services).items():
        unknown = service["environment"].keys() - SETTINGS - (COMMANDS if name == "roles" else set())

        assert unknown == set(), name


def test_the_api_and_the_worker_have_all_that_is_required(services: Mapping[str, Service]) -> None:
    assert settings_of(services["api"]).host == "0.0.0.0"  # noqa: S104  of the container
    assert secret(settings_of(services["worker"]).database_direct_url)


def test_every_variable_of_the_file_is_in_the_example_environment_with_its_default() -> None:
    text = (ROOT / ".env.example").read_text()
    named = dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", text, re.MULTILINE))
    only_here = dict(
        re.findall(r"^#([A-Z0-9_]+)=(.*)$", text.partition("# Only for docker-compose.yml")[2], re.MULTILINE)
    )

    assert variables().keys() - named.keys() == set()
    assert only_here == {name: variables()[name] for name in only_here}
    assert variables()["EMBEDDING_MODEL"] == Settings.model_fields["embedding_model"].default


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


def test_every_address_leads_to_the_database_that_is_made(services: Mapping[str, Service]) -> None:
    addresses = [
        value for one in own(services).values() for name, value in one["environment"].items() if "DATABASE" in name
    ]
    databases = {urlsplit(value).path for value in addresses if "://" in value}

    assert databases == {f"/{services['postgres']['environment']['POSTGRES_DB']}"}


def test_a_password_that_is_chosen_reaches_everybody_who_needs_it() -> None:
    names = ("POSTGRES", "MIGRATOR", "APPLICATION", "SEARCHER")
    services = read_compose({f"{name}_PASSWORD": f"{name.lower()}-chosen" for name in names})["services"]
    given, pooler, worker = services["roles"]["environment"], services["pgbouncer"]["environment"], services["worker"]
    admin, migrator = given["DATABASE_ADMIN_URL"], services["migrate"]["environment"]["DATABASE_DIRECT_URL"]

    assert urlsplit(admin).password == services["postgres"]["environment"]["POSTGRES_PASSWORD"] == "postgres-chosen"
    assert urlsplit(migrator).password == given["MIGRATOR_PASSWORD"] == "migrator-chosen"
    assert migrator == worker["environment"]["DATABASE_DIRECT_URL"]
    for role, variable in (("APPLICATION", "DATABASE_URL"), ("SEARCHER", "SEARCH_DATABASE_URL")):
        chosen = urlsplit(worker["environment"][variable]).password
        assert chosen == given[f"{role}_PASSWORD"] == pooler[f"{role}_PASSWORD"] == f"{role.lower()}-chosen"


def test_the_pooler_listens_where_it_is_looked_for_and_tracks_statements(
    services: Mapping[str, Service], pooler: configparser.ConfigParser
) -> None:
    worker, options = settings_of(services["worker"]), pooler["pgbouncer"]

    for url in map(urlsplit, (secret(worker.database_url), secret(worker.search_database_url))):
        assert url.port == int(options["listen_port"])
        assert f"dbname={url.path[1:]}" in pooler["databases"][url.path[1:]]
    assert options["listen_port"] in services["pgbouncer"]["healthcheck"]["test"]
    assert options["pool_mode"] == "transaction"
    assert worker.pg_statement_mode == "tracked"
    assert int(options["max_prepared_statements"]) > 0


def test_the_pooler_starts_with_the_roles_and_their_passwords(tmp_path: Path) -> None:
    """The script itself, with a `pgbouncer` that shows what it was started with."""
    roles, program = tmp_path / "userlist.txt", tmp_path / "pgbouncer"
    shutil.copy(ROOT / "infra" / "pgbouncer" / "start.sh", tmp_path)
    settings = (ROOT / "infra" / "pgbouncer" / "pgbouncer.ini").read_text()
    (tmp_path / "pgbouncer.ini").write_text(re.sub("(?m)^auth_file = .*$", f"auth_file = {roles}", settings))
    program.write_text('#!/bin/sh\necho "$1" "${APPLICATION_PASSWORD-unset}"\n')
    program.chmod(0o755)
    passwords = {"APPLICATION_PASSWORD": 'a "b" $c \\d', "SEARCHER_PASSWORD": "s"}
    start = ["/bin/sh", str(tmp_path / "start.sh")]
    path = {"PATH": f"{tmp_path}:{os.defpath}"}
    done = subprocess.run(start, env=path | passwords, check=True, capture_output=True, text=True)
    mode, written = roles.stat().st_mode & 0o777, roles.read_text()
    refused = subprocess.run(start, env=path | {"SEARCHER_PASSWORD": "s"}, check=False, capture_output=True, text=True)

    assert mode == 0o600
    assert written == f'"{APPLICATION}" "a ""b"" $c \\d"\n"{SEARCHER}" "s"\n'
    assert done.stdout == f"{tmp_path / 'pgbouncer.ini'} unset\n"
    assert refused.returncode != 0


def test_the_bucket_that_is_made_is_the_bucket_that_is_used(services: Mapping[str, Service]) -> None:
    bucket, minio = services["bucket"], services["minio"]["environment"]
    settings = settings_of(services["worker"])

    assert f"/{settings.s3_bucket}\n" in bucket["entrypoint"][-1]
    assert f" {settings.s3_endpoint_url} " in bucket["entrypoint"][-1]
    assert bucket["environment"] == minio
    assert (minio["MINIO_ROOT_USER"], minio["MINIO_ROOT_PASSWORD"]) == (
        secret(settings.s3_access_key_id),
        secret(settings.s3_secret_access_key),
    )


def test_everything_that_compose_mounts_exists(compose: Mapping[str, Any], services: Mapping[str, Service]) -> None:
    for service in services.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]

            assert source in compose["volumes"] or (ROOT / source).is_file()


def compose_commands() -> list[list[str]]:
    """Docker's plugin and the command of its own, each where it works."""
    found = [["docker", "compose"], ["docker-compose"]]
    return [
        command
        for command in found
        if shutil.which(command[0])
        and not subprocess.run([*command, "version"], check=False, capture_output=True).returncode
    ]


def test_compose_itself_reads_the_file_as_the_tests_do(services: Mapping[str, Service], tmp_path: Path) -> None:
    commands = compose_commands()
    if not commands:
        pytest.skip(
            "neither `docker compose` nor `docker-compose` is installed; add it with: apt-get install docker-compose"
        )
    empty = tmp_path / "environment"
    empty.touch()
    for command in commands:
        done = subprocess.run(
            [*command, "--profile", "neon", "--env-file", empty, "config"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            check=False,
            capture_output=True,
            text=True,
        )

        assert done.returncode == 0, done.stderr
        read = yaml.safe_load(done.stdout)["services"]
        assert read.keys() == services.keys()
        for name, service in services.items():
            assert read[name]["image"] == service["image"]
            theirs = {key: str(value) for key, value in read[name].get("environment", {}).items()}
            assert theirs == {key: str(value) for key, value in service.get("environment", {}).items()}, name
