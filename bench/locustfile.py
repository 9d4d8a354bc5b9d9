"""For those who bring Locust: SERVICE_URL, SERVICE_API_KEY, and what `python -m bench prepare` has written.

SERVICE_URL=… SERVICE_API_KEY=… locust -f bench/locustfile.py --headless -u 8 -t 30s
"""

import itertools
import json
import os
import random
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant, task

PREPARED = json.loads(Path(os.environ.get("BENCH_QUERIES", ".bench/queries.json")).read_text(encoding="utf-8"))
QUERIES = itertools.cycle(random.Random(0).sample(PREPARED["queries"], len(PREPARED["queries"])))  # noqa: S311 - no secret


class Searcher(FastHttpUser):  # type: ignore[misc]  # Locust is installed where it runs, not here.
    """A closed loop: each user asks again when it has its answer. `-u` is the concurrency."""

    host = os.environ["SERVICE_URL"]
    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator]
    def search(self) -> None:
        body: dict[str, Any] = {"query": next(QUERIES), "mode": os.environ.get("BENCH_MODE", "hybrid"), "limit": 10}
        path = f"/v1/collections/{PREPARED['collection']}/search"
        headers = {"Authorization": f"Bearer {os.environ['SERVICE_API_KEY']}"}
        with self.client.post(path, json=body, headers=headers, name=body["mode"], catch_response=True) as response:
            if response.status_code != 200 or not response.json().get("hits"):  # noqa: PLR2004
                response.failure(f"HTTP {response.status_code}, or no hits")
