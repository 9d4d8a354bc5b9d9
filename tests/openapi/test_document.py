"""The document as a document: valid, complete, and true to what the routes do."""

from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from fastapi import FastAPI
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import BaseRoute

from service.api.languages import LANGUAGES
from service.api.problems import HTTP_CODES, STATUS

Operation = dict[str, Any]

OPEN = {"/livez", "/readyz", "/metrics"}
WITH_BODIES = {
    *("create_collection", "declare_attributes", "add_document", "put_document", "add_documents", "search"),
    *("patch_document", "patch_document_by_key", "recommend", "search_batch"),
}
CONFLICTING = {"create_collection", "add_document", "retry_document", "find_similar", "recommend"}
FROM_A_REPLICA = {"search", "search_batch", "recommend", "find_similar", "list_documents"}
CONDITIONAL = {"patch_document", "patch_document_by_key", "delete_document", "delete_document_by_key"}


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, Operation]:
    found = {
        operation["operationId"]: {**operation, "path": path, "method": method}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert len(found) == sum(len(methods) for methods in document["paths"].values())
    return found


def test_it_is_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_whatever_it_refers_to_is_there(document: dict[str, Any]) -> None:
    references = set(references_in(document))

    assert len(references) > 40
    for reference in references:
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in found, reference
            found = found[part]


def references_in(node: object) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from references_in(each)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for member in node.values():
            yield from references_in(member)


def test_every_operation_has_a_name_a_sentence_and_one_tag(
    document: dict[str, Any], operations: dict[str, Operation]
) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for name, operation in operations.items():
        assert name.isidentifier()
        assert operation["summary"], name
        assert operation["description"].rstrip().endswith("."), name
        assert len(operation["tags"]) == 1
        assert operation["tags"][0] in tags


def test_every_operation_but_the_probes_wants_a_key(operations: dict[str, Operation], document: dict[str, Any]) -> None:
    scheme = document["components"]["securitySchemes"]["HTTPBearer"]

    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for name, operation in operations.items():
        keyed = operation["path"] not in OPEN
        assert operation.get("security", []) == ([{"HTTPBearer": []}] if keyed else []), name
        assert ({"401", "422", "503"} <= operation["responses"].keys()) is keyed, name


def test_every_problem_has_its_own_media_type_and_a_request_id(
    document: dict[str, Any], operations: dict[str, Operation]
) -> None:
    for name, operation in operations.items():
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert answer["$ref"] == f"#/components/responses/{status}", name
            else:
                assert "X-Request-Id" in answer["headers"], name
    for status, answer in document["components"]["responses"].items():
        assert list(answer["content"]) == ["application/problem+json"]
        assert "X-Request-Id" in answer["headers"]
        codes = {each["value"]["code"] for each in answer["content"]["application/problem+json"]["examples"].values()}
        raised = {code for number, code in (*STATUS.values(), *HTTP_CODES.items()) if number == int(status)}
        assert codes == raised, status


def test_a_status_is_there_where_it_can_happen(operations: dict[str, Operation]) -> None:
    for name, operation in operations.items():
        statuses = {int(status) for status in operation["responses"]}
        parameters = {parameter.get("name") for parameter in operation["parameters"]}
        reads = name in WITH_BODIES
        keyed = operation["path"] not in OPEN
        assert (404 in statuses) is (keyed and "{" in operation["path"]), name
        assert ({413, 415} <= statuses) is reads, name
        assert (400 in statuses) is (
            (reads and name != "add_documents") or "cursor" in parameters or name in FROM_A_REPLICA
        ), name
        assert (409 in statuses) is (name in CONFLICTING), name
        assert (412 in statuses) is (name in {*CONDITIONAL, "put_document"}), name
        assert (428 in statuses) is (name in CONDITIONAL), name
        assert (503 in statuses) is (keyed or name == "readyz"), name
        assert sum(status < 300 for status in statuses) == {"add_document": 2, "put_document": 3}.get(name, 1), name


def test_headers_are_parameters_where_they_are_read(operations: dict[str, Operation]) -> None:
    for name, operation in operations.items():
        named = {parameter["$ref"].rpartition("/")[2] for parameter in operation["parameters"] if "$ref" in parameter}
        expected = {"X-Request-Id"}
        if name in CONDITIONAL:
            expected |= {"If-Match-required"}
        if name == "put_document":
            expected |= {"If-Match", "If-None-Match"}
        if name in FROM_A_REPLICA:
            expected |= {"X-Commit-Token"}
        assert named == expected, name


def test_a_document_comes_in_three_forms(operations: dict[str, Operation]) -> None:
    for name in ("add_document", "put_document"):
        content = operations[name]["requestBody"]["content"]
        assert {
            "application/json",
            "multipart/form-data",
            "application/pdf",
            "application/octet-stream",
        } <= content.keys()
    assert list(operations["add_documents"]["requestBody"]["content"]) == ["application/x-ndjson"]


def test_every_route_is_in_it(app: FastAPI, operations: dict[str, Operation]) -> None:
    hidden = {"/openapi.json", "/docs", "/docs/oauth2-redirect"}
    shown = {operation["path"] for operation in operations.values()}
    routes: list[BaseRoute] = list(app.routes)

    assert routes
    assert hidden.isdisjoint(shown)
    assert len(shown) >= 13


async def test_the_languages_are_those_of_postgres(admin: asyncpg.Connection) -> None:
    rows = await admin.fetch("select cfgname from pg_ts_config")

    assert {row["cfgname"] for row in rows} == set(LANGUAGES)


def test_the_dimension_of_a_vector_is_the_profiles(document: dict[str, Any]) -> None:
    for model in ("TextDocument", "SearchRequest"):
        (vector,) = (
            option
            for option in document["components"]["schemas"][model]["properties"]["vector"]["anyOf"]
            if option["type"] == "array"
        )
        assert (vector["minItems"], vector["maxItems"]) == (384, 384)
