"""A search as the command line has it: what `search` asks, and what `sample` asks and prints to be asked again."""

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.cli.asking import choose_collection
from service.cli.client import Json, ServiceClient
from service.cli.conditions import read_condition, to_filter

Mode = Literal["hybrid", "lexical", "semantic"]
GroupBy = Literal["document", "none"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """`collection` is None for the only one there is; `conditions` as they were written."""

    query: str
    collection: str | None = None
    conditions: tuple[str, ...] = ()
    mode: Mode = "hybrid"
    limit: int = 10
    group_by: GroupBy = "document"

    async def ask(self, client: ServiceClient) -> Json:
        """Send it; raises UnclearError for a condition that cannot be read."""
        read = [read_condition(written) for written in self.conditions]
        chosen = await choose_collection(client, self.collection)
        request: Json = {"query": self.query, "mode": self.mode, "limit": self.limit}
        if self.group_by == "none":
            request["group_by"] = None
        if wanted := to_filter(read, declared=chosen["attributes"]):
            request["filter"] = wanted
        return await client.search(chosen["name"], request)

    def to_command(self) -> str:
        """The line to paste, with what differs from the defaults."""
        words = ["search", self.query]
        words += ["--collection", self.collection] if self.collection else []
        for condition in self.conditions:
            words += ["--filter", condition]
        words += ["--mode", self.mode] if self.mode != "hybrid" else []
        words += ["--group-by", self.group_by] if self.group_by != "document" else []
        words += ["--limit", str(self.limit)] if self.limit != type(self).limit else []
        return f"{invocation()} {shlex.join(words)}"


def invocation() -> str:
    """How this program was started, so that a line with it can be pasted into the same shell."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{shlex.quote(_from_here(Path(sys.executable)))} -m service"
    found = shutil.which(started.name)
    return started.name if found and Path(found) == started.absolute() else shlex.quote(_from_here(started))


def _from_here(path: Path) -> str:
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else os.fspath(absolute)
