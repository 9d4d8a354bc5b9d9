"""The examples: every request is sent and gets what the document says, every answer fits its schema and the real one."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from openapi_schema_validator import OAS31Validator

from service.api.openapi import examples
from tests.api_calls import Api, Json
from tests.api_calls import path as path_of

FORM = "multipart/form-data"
Connect = Callable[[str], Awaitable[Api]]

UNREADABLE = b"%PDF-1.4 nothing that can be read"


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


@pytest.fixture
async def world(connect: Connect, request: pytest.FixtureRequest) -> tuple[Api, dict[str, str]]:
    """A tenant with what the examples of paths name, and the ids that only the service can give."""
    api: Api = await connect(request.node.name)
    await api.make_collection("books")
    kept = await api.put("books", "what every search example finds", examples.DOCUMENT_BODY["every field"], wait=20)
    assert kept.status_code == 201, kept.text
    put = await api.put("books", "moby-dick", examples.DOCUMENT_BODY["every field"], wait=20)
    assert put.status_code == 201, put.text
    unlike = await api.put("books", "walden", {"text": "I went to the woods to live deliberately."}, wait=20)
    assert unlike.status_code == 201, unlike.text
    failed = await api.make_file("books", UNREADABLE, filename="a.pdf", wait=20)
    assert failed["status"] == "failed"
    return api, {"document": put.json()["id"], "failed": failed["id"]}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    found: Any = document
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def check(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    whole = {**schema, "components": document["components"]}
    validator = OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER)
    errors = [error.message for error in validator.iter_errors(value)]
    assert not errors, (errors, value)


def test_every_answer_and_every_body_has_an_example(document: dict[str, Any]) -> None:
    wordless = {"get_content", "metrics"}  # Bytes of the client's, and a text of its own format.
    for _, _, operation in operations(document):
        for status, answer in operation["responses"].items():
            shown = resolved(document, answer)
            for content in shown.get("content", {}).values():
                has_examples = bool(content.get("examples"))
                assert has_examples or operation["operationId"] in wordless, (operation["operationId"], status)
        contents = operation.get("requestBody", {}).get("content", {})
        assert not contents or any(content.get("examples") for content in contents.values())


def test_every_example_fits_its_schema(document: dict[str, Any]) -> None:
    checked = 0
    for _, _, operation in operations(document):
        answers = [resolved(document, answer) for answer in operation["responses"].values()]
        for part in (operation.get("requestBody", {}), *answers):
            for content in part.get("content", {}).values():
                for example in content.get("examples", {}).values():
                    check(document, content["schema"], example["value"])
                    checked += 1
    assert checked > 150


def test_a_line_of_the_batch_example_is_a_document_and_its_answer(document: dict[str, Any]) -> None:
    for line in examples.BATCH.splitlines():
        check(document, {"$ref": "#/components/schemas/TextDocument"}, json.loads(line))
    for line in examples.BATCH_ANSWER.splitlines():
        check(document, {"$ref": "#/components/schemas/BatchAnswer"}, json.loads(line))


def url_of(path: str, operation: dict[str, Any], ids: dict[str, str]) -> str:
    """The path of the operation's own examples; an id, which no example can know, is of the world."""
    for parameter in operation["parameters"]:
        if parameter.get("in") == "path":
            (example,) = parameter["examples"].values()
            value = example["value"]
            if parameter["name"] == "id":
                value = ids["failed" if operation["operationId"] == "retry_document" else "document"]
            path = path.replace("{" + parameter["name"] + "}", quote(value, safe=""))
    return path


def requests_of(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What to send, as httpx has it, by the name of the example."""
    contents = operation.get("requestBody", {}).get("content", {})
    if not contents:
        yield "without a body", {}
    for media_type, content in contents.items():
        for name, example in content.get("examples", {}).items():
            value = example["value"]
            if media_type == FORM:
                form = {"document": (None, json.dumps(value["document"]), "application/json")}
                yield name, {"files": {"file": ("moby-dick.md", value["file"]), **form}}
            else:
                body = value if isinstance(value, str) else json.dumps(value)
                yield name, {"content": body, "headers": {"Content-Type": media_type}}


async def check_answer(document: dict[str, Any], operation: dict[str, Any], answer: httpx.Response) -> None:
    documented = operation["responses"][str(answer.status_code)]
    for header, reference in documented.get("headers", {}).items():
        spelled = resolved(document, reference)
        if header not in answer.headers:
            assert not spelled["required"], header
            continue
        check(document, {**spelled["schema"], "type": "string"}, answer.headers[header])
    for media_type, content in documented.get("content", {}).items():
        received = answer.headers["content-type"].partition(";")[0]
        assert media_type in {received, "*/*"}
        if received != "application/json":
            continue
        check(document, content["schema"], answer.json())
        for example in content["examples"].values():
            assert keys_of(example["value"]) == keys_of(answer.json()), answer.request.content


def keys_of(shown: Json) -> set[str]:
    """And of the first of a list of objects within."""
    lists = {name: value[0] for name, value in shown.items() if isinstance(value, list) and value}
    return {*shown, *(f"{name}.{key}" for name, first in lists.items() if isinstance(first, dict) for key in first)}


@pytest.mark.usefixtures("worker")
async def test_every_request_is_answered_as_documented(
    document: dict[str, Any], world: tuple[Api, dict[str, str]], connect: Connect
) -> None:
    (api, ids), newcomer = world, await connect("newcomer")
    sent: set[str] = set()
    # What deletes comes last: documents first, and the collection at the very end.
    last = "delete_collection"
    ordered = sorted(
        operations(document),
        key=lambda each: (each[0] == "delete", "documents" not in each[1], each[2]["operationId"] == last),
    )
    for method, path, operation in ordered:
        name = operation["operationId"]
        url = url_of(path, operation, ids)
        for example, request in requests_of(operation):
            if name == "add_document":
                taken = examples.NEW_DOCUMENT["every field"]["external_id"]
                await api.client.delete(path_of("books", taken), headers={"If-Match": "*"})
            if name.startswith("delete_document"):
                put = await api.put("books", "moby-dick", {"text": "again"}, wait=20)
                url = url_of(path, operation, {**ids, "document": put.json()["id"]})
            headers = {"X-Request-Id": "nightly-import:17", "If-Match": "*", **request.pop("headers", {})}
            client = newcomer.client if name == "create_collection" else api.client
            answer = await client.request(method, url, headers=headers, **request)

            assert answer.status_code < 400, (name, example, answer.text)
            assert str(answer.status_code) in operation["responses"], (name, example)
            assert answer.headers["x-request-id"] == "nightly-import:17"
            await check_answer(document, operation, answer)
        sent.add(name)
    assert len(sent) == len(list(operations(document)))
