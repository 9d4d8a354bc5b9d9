"""A peer that is a library, in a process of its own venv: one command a line on stdin, one answer a line on stdout.

It times itself, so the pipe is not measured. Imports the standard library and numpy only, which every venv has.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Given:
    """The dataset, as `bench.peers.given` wrote it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vectors: NDArray[np.float32] = np.load(folder / "vectors.npy")
        self.query_vectors: NDArray[np.float32] = np.load(folder / "query_vectors.npy")
        self.uniform: NDArray[np.int32] = np.load(folder / "uniform.npy")
        written = json.loads((folder / "texts.json").read_bytes())
        self.ids: list[str] = written["ids"]
        self.texts: list[str] = written["texts"]
        self.queries: list[str] = written["queries"]


class Library(Protocol):
    def load(self) -> dict[str, Any]:
        """Fill it, until everything can be searched; what the report should know about how."""

    def search(self, query: int, *, limit: int, effort: int | None) -> list[str]:
        """The ids of the best documents, best first, their texts having been fetched with them."""


def serve(make: Callable[[Given, str], Library]) -> None:
    """Until stdin ends. Arguments: the folder with the dataset, and an address for those that need one."""
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    library: Library | None = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if command["do"] == "load":
                library = make(Given(Path(sys.argv[1])), sys.argv[2])
                begun = time.perf_counter()
                answer = {**library.load(), "seconds": time.perf_counter() - begun}
            else:
                answer = timed(library, command["queries"], limit=command["limit"], effort=command["effort"])
        except Exception as error:  # noqa: BLE001 - whatever a library raises belongs into the report
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def timed(library: Library | None, queries: Sequence[int], *, limit: int, effort: int | None) -> dict[str, Any]:
    if library is None:
        raise RuntimeError("nothing is loaded yet")
    seconds, found = [], []
    for query in queries:
        begun = time.perf_counter()
        ids = library.search(query, limit=limit, effort=effort)
        seconds.append(time.perf_counter() - begun)
        found.append(ids)
    return {"seconds": seconds, "found": found}
