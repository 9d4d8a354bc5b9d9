"""A stand-in for the service, as small as the contract allows: the commands are tried against it through real HTTP."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

KEY = "a-key"
CREATED_AT = "2026-01-01T00:00:00Z"


@dataclass
class StandIn:
    """What it holds and what it was asked; `busy` answers are 503 before the next batch is taken."""

    url: str = ""
    collections: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    created_at: str = CREATED_AT
    busy: int = 0
    settled: bool = True
    stop_after_batches: int | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    batches: list[list[str]] = field(default_factory=list)
    uploads: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)

    async def collections_route(self, request: Request) -> Response:
        name = (await request.json())["name"]
        if name in self.collections:
            return problem(409, "collection_exists", "It exists.")
        self.collections[name] = {}
        return JSONResponse({"name": name}, status_code=201)

    async def collection_route(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.collections:
            return problem(404, "not_found", "There is no such collection.")
        if request.method == "DELETE":
            del self.collections[name]
            return Response(status_code=204)
        return JSONResponse({"name": name, "created_at": self.created_at})

    async def status_route(self, request: Request) -> Response:
        documents = self.collections[request.path_params["name"]].values()
        failed = sum(document["status"] == "failed" for document in documents)
        counts = {"pending": 0, "processing": 0, "indexed": len(documents) - failed, "failed": failed}
        return JSONResponse(
            {"documents": counts, "jobs": {"queued": 0, "running": 0, "dead": 0}, "settled": self.settled}
        )

    async def put_route(self, request: Request) -> Response:
        body = await request.body()
        external_id = unquote(request.scope["raw_path"].decode().rsplit("/", 1)[1])
        self.uploads.append((external_id, request.query_params["filename"], request.headers["content-type"], body))
        if len(body) > 1_000_000:
            return problem(413, "too_large", "More than the limit of 1 MB.")
        status = "failed" if body.startswith(b"BROKEN") else "indexed"
        return JSONResponse({}, status_code=self._put(request.path_params["name"], external_id, body, status=status))

    def _put(self, name: str, external_id: str, body: object, *, status: str = "indexed") -> int:
        documents = self.collections[name]
        before = documents.get(external_id)
        error = {"code": "corrupt", "message": "It cannot be read."} if status == "failed" else None
        documents[external_id] = {
            "id": external_id,
            "external_id": external_id,
            "body": body,
            "status": status,
            "error": error,
        }
        return 200 if before and before["body"] == body else 202

    async def batch_route(self, request: Request) -> Response:
        if self.busy:
            self.busy -= 1
            self.asked.set()
            return problem(503, "overloaded", "Too much at once.", headers={"Retry-After": "0"})
        if self.stop_after_batches is not None and len(self.batches) >= self.stop_after_batches:
            return problem(403, "forbidden", "No more today.")
        answers, names = [], []
        for number, line in enumerate((await request.body()).split(b"\n")[:-1], start=1):
            answer: dict[str, Any] = {"line": number}
            try:
                document = json.loads(line)
                assert set(document) <= {"external_id", "title", "text", "attributes", "tags"}, document
                names.append(document["external_id"])
                answer["status"] = self._put(request.path_params["name"], document["external_id"], document)
            except ValueError:
                refusal = {"code": "malformed", "detail": "This line is not JSON."}
                answer |= {"status": 400, "problem": refusal}
            answers.append(answer)
        self.batches.append(names)
        return Response("\n".join(map(json.dumps, answers)) + "\n", media_type="application/x-ndjson")

    async def list_route(self, request: Request) -> Response:
        wanted, after = request.query_params["status"], int(request.query_params.get("cursor", 0))
        found = [one for one in self.collections[request.path_params["name"]].values() if one["status"] == wanted]
        page = [{key: one[key] for key in ("id", "external_id", "error")} for one in found[after : after + 2]]
        more = str(after + 2) if after + 2 < len(found) else None
        return JSONResponse({"documents": page, "next_cursor": more})

    async def search_route(self, request: Request) -> Response:
        """Rank by words in common, with the quotes and minuses of the contract."""
        question = await request.json()
        self.questions.append(question)
        query = question["query"].lower()
        if "fail" in query:
            return problem(422, "invalid", "This cannot be asked.", errors=[{"field": "query", "message": "too odd"}])
        phrases, banned = re.findall(r'"([^"]+)"', query), re.findall(r"(?<!\S)-([^\W\d_]+)", query)
        words = set(re.findall(r"\w+", query))
        hits = []
        for external_id, document in self.collections[request.path_params["name"]].items():
            text = document["body"]["text"].lower()
            common = len(words & set(text.split()))
            if common and all(one in text for one in phrases) and not any(one in text.split() for one in banned):
                hits.append((-common, external_id))
        return JSONResponse({"hits": [{"external_id": name} for _, name in sorted(hits)[: question["limit"]]]})


def problem(status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> Response:
    body = {"type": "about:blank", "title": code, "status": status, "detail": detail, "code": code, **more}
    return JSONResponse(body, status_code=status, headers=headers, media_type="application/problem+json")


def authorized(route: Any) -> Any:
    async def check(request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return problem(401, "unauthorized", "The key is unknown.")
        answer: Response = await route(request)
        return answer

    return check


@asynccontextmanager
async def open_stand_in() -> AsyncIterator[StandIn]:
    service = StandIn()
    base = "/v1/collections/{name}"
    app = Starlette(
        routes=[
            Route("/v1/collections", authorized(service.collections_route), methods=["POST"]),
            Route(base, authorized(service.collection_route), methods=["GET", "DELETE"]),
            Route(f"{base}/status", authorized(service.status_route)),
            Route(f"{base}/search", authorized(service.search_route), methods=["POST"]),
            Route(f"{base}/documents:batch", authorized(service.batch_route), methods=["POST"]),
            Route(f"{base}/documents", authorized(service.list_route)),
            Route(f"{base}/documents/{{rest:path}}", authorized(service.put_route), methods=["PUT"]),
        ]
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield service
        finally:
            server.should_exit = True
            await serving
