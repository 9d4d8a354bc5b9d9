"""Routes without FastAPI's dependency injection and routing, for what is asked a thousand times a second.

Solving the dependencies of a search, each time anew, took a third of the processor time that it costs this process beside
its statement, and routing it a tenth of the rest. The parameters that the endpoint declares still make its page in
/openapi.json.
"""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.auth import authenticate, bearer
from service.api.deps import refuse_unknown_query
from service.api.problems import EXPECTED, answer_error


class DirectRoute(APIRoute):
    """A POST under `/{name}`; the endpoint takes that name, the request and the tenant, and is asked with a key, as every route."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint = self.endpoint

        async def handle(request: Request) -> Response:
            tenant_id = await authenticate(request, await bearer(request))
            await refuse_unknown_query(request)
            answer: Response = await endpoint(request.path_params["name"], request, tenant_id)
            return answer

        return handle


class ShortWay:
    """Pure ASGI, just outside of the framework's routing: answers for the direct routes among `routes`, and lets the rest pass."""

    def __init__(self, app: ASGIApp, *, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._direct = [
            (route.path_regex, route, route.get_route_handler()) for route in routes if isinstance(route, DirectRoute)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            for path, route, handle in self._direct:
                if (found := path.match(scope["path"])) is not None:
                    scope["route"], scope["path_params"] = route, found.groupdict()
                    request = Request(scope, receive, send)
                    try:
                        response = await handle(request)
                    except EXPECTED as error:
                        response = await answer_error(request, error)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)
