from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from fastapi import FastAPI

from service.rerankers.overlap import OverlapReranker
from tests.api_calls import Api
from tests.openapi.rounds import play
from tests.serving import serving

CASES = 300


@pytest.mark.usefixtures("worker")
async def test_the_service_keeps_what_its_document_promises(
    app: FastAPI, connect: Callable[[str], Awaitable[Api]]
) -> None:
    """The short form of `make schemathesis`: all checks, without the phase that tries every border of every value."""
    api = await connect("schemathesis")
    key = api.client.headers["Authorization"].removeprefix("Bearer ")
    phases = "examples,fuzzing,stateful"
    desk = app.state.search_desk
    app.state.search_desk = replace(desk, tools=replace(desk.tools, reranker=OverlapReranker()))

    async with serving(app) as port:
        findings = await play(f"http://127.0.0.1:{port}", key, examples=6, seed=20_261_122, seconds=120, phases=phases)
    app.state.search_desk = desk

    assert findings.is_clean, f"{findings.trouble}\n{findings.story}"
    assert findings.cases >= CASES, str(findings)
    assert len(findings.accepted) >= 20
