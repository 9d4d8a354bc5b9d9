"""What the containers of docker-compose.yml may do and use, and that its passwords stay on one machine."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping

import pytest
from pydantic import ValidationError

from service.settings import PUBLISHED
from tests.compose_file import ROOT, Service, read_compose, seconds, settings_of, size, variables

ONE_SHOT = {"roles", "migrate", "bucket"}
SECRETS = {"DATABASE_URL", "SEARCH_DATABASE_URL", "DATABASE_DIRECT_URL", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"}

# What another maker's image needs, and why.
NOT_HARDENED = {"neon": "it writes its own configuration at start"}
ROOT_INSIDE = {"minio": "a new volume belongs to root", "bucket": "the same image", "neon": "as its image says"}


@pytest.fixture(scope="module")
def services() -> Mapping[str, Service]:
    found: Mapping[str, Service] = read_compose()["services"]
    return found


def test_nothing_is_open_to_the_network(services: Mapping[str, Service]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_no_container_has_rights_that_it_does_not_need(services: Mapping[str, Service]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.keys() & {"privileged", "cap_add", "network_mode", "pid", "devices"} == set(), name
        assert service.get("read_only", False) == (name not in NOT_HARDENED), name
        assert name in NOT_HARDENED or service["tmpfs"][0].startswith("/tmp:"), name  # noqa: S108  of the container
        image_decides = name in ROOT_INSIDE or "build" in service
        assert image_decides or not service["user"].startswith("0"), name


def test_every_container_has_limits_that_leave_room_for_what_counts_as_memory(services: Mapping[str, Service]) -> None:
    for name, service in services.items():
        shared = [size(found[1]) for mount in service.get("tmpfs", []) if (found := re.search(r"size=(\w+)", mount))]
        shared.append(size(service.get("shm_size", "64m")))

        assert size(service["mem_limit"]) >= sum(shared) + (128 << 20) or name in ONE_SHOT, name
        assert float(service["cpus"]) <= 2, name
        assert service["pids_limit"] >= 100, name
    for name in ("api", "worker"):
        assert settings_of(services[name]).embedding_threads == int(services[name]["cpus"]), name


def test_who_is_told_to_stop_has_the_time_for_it(services: Mapping[str, Service]) -> None:
    assert seconds(services["api"]["stop_grace_period"]) > 10  # uvicorn's own patience
    assert seconds(services["worker"]["stop_grace_period"]) > settings_of(services["worker"]).lease_seconds


@pytest.mark.parametrize("name", ["api", "worker"])
def test_outside_of_dev_every_published_secret_is_refused(name: str) -> None:
    environment = read_compose({"DEPLOYMENT": "production"})["services"][name]["environment"]
    with pytest.raises(ValidationError) as refusal:
        settings_of({"environment": environment})

    refused = {str(error["loc"][0]).upper() for error in refusal.value.errors() if error["type"] == "published"}
    assert refused == SECRETS & environment.keys()


def test_what_is_published_is_what_compose_and_the_example_show() -> None:
    shown = {value for name, value in variables().items() if re.search("PASSWORD|S3_.*KEY", name)}

    assert shown | {"change-me"} == PUBLISHED
    assert "=change-me\n" in (ROOT / ".env.example").read_text()


def test_outside_of_dev_roles_with_published_passwords_are_not_made(services: Mapping[str, Service]) -> None:
    given = {key: value for key, value in services["roles"]["environment"].items() if key != "DEPLOYMENT"}
    done = subprocess.run(
        [sys.executable, "-m", "service", "roles"],
        cwd=ROOT,
        env={"PATH": os.defpath, **given},
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    refused = re.findall(r"^Error: (\w+): everybody knows", done.stderr, re.MULTILINE)
    assert refused == [name for name in given if re.search("ADMIN_URL|PASSWORD", name)]
