"""HTTP as uvicorn speaks it, with a problem where the bytes are no HTTP: no request gets far enough for the application."""

from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.answers import to_json
from service.api.problems import Trouble
from service.domain.ids import new_id


class ProblemProtocol(HttpToolsProtocol):
    def send_400_response(self, msg: str) -> None:
        request_id = str(new_id())
        trouble = Trouble(HTTPStatus.BAD_REQUEST, "malformed", msg)
        body = to_json(trouble.to_problem(request_id))
        headers = {
            "content-type": "application/problem+json",
            "content-length": str(len(body)),
            "x-request-id": request_id,
            "cache-control": "no-store",
            "connection": "close",
        }
        lines = ["HTTP/1.1 400 Bad Request", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self.transport.write("\r\n".join(lines).encode() + body)
        self.transport.close()
