"""docker-compose.yml as Docker reads it, without Docker."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from service.settings import Settings

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\})")

Service = Mapping[str, Any]


def read_compose(environment: Mapping[str, str] | None = None) -> Mapping[str, Any]:
    """With these variables; every other one at its default."""
    given = environment or {}

    def value(match: re.Match[str]) -> str:
        return "$" if match["name"] is None else given.get(match["name"]) or match["default"] or ""

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(child) for key, child in node.items()}
        if isinstance(node, list):
            return [filled(child) for child in node]
        return VARIABLE.sub(value, node) if isinstance(node, str) else node

    loaded: Mapping[str, Any] = filled(yaml.safe_load(COMPOSE.read_text(encoding="utf-8")))
    return loaded


def variables() -> dict[str, str]:
    """What the file takes from its environment, with the default of each."""
    text = COMPOSE.read_text(encoding="utf-8")
    return {match["name"]: match["default"] or "" for match in VARIABLE.finditer(text) if match["name"]}


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


def size(words: str) -> int:
    """Bytes of `512m` or `1gb`."""
    number, unit = re.fullmatch(r"(\d+)([mg])b?", words.lower()).groups()  # type: ignore[union-attr]  # else the test fails
    return int(number) << {"m": 20, "g": 30}[unit]


def seconds(words: str) -> int:
    return int(words.removesuffix("s"))
