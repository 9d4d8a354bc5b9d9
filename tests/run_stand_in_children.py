"""Stand-ins for `service serve` and `service worker`; WORKER says how the worker behaves.

`steady`, `dies` at once, is `stubborn` and does not hear SIGTERM, or `slow` and says when it has finished its work.
"""

import http.server
import os
import signal
import sys
import time


class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


def serve() -> None:
    http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Ready).serve_forever()


def finish(*_: object) -> None:
    time.sleep(1.5)
    sys.exit("worker: finished")


def work() -> None:
    behaviour = os.environ.get("WORKER", "steady")
    if behaviour == "dies":
        sys.exit("worker: there is nothing to live for")
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour == "slow":
        signal.signal(signal.SIGTERM, finish)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    {"serve": serve, "worker": work}[sys.argv[1]]()
