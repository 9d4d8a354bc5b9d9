"""The command lines of the documents: which there are, what marks say of them, and what they should print.

A mark is an HTML comment directly before a block, which GitHub does not show:

    <!-- not run: reason -->      nobody follows it here; the reason is printed at the end of the test run
    <!-- until Ctrl-C -->         it goes on while the rest of the page is followed, and is then interrupted
    <!-- ends with 22: reason --> its last command fails with this status

A `json` or `text` block directly after a block is what it prints, with … for what differs from time to time. In JSON,
members that are not shown do not matter; in text, lines that are not shown.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
COMMANDS, OUTPUT = {"sh", "bash", "console"}, {"json", "text"}
MARK = re.compile(r"<!-- (not run: (?P<reason>.+)|(?P<endless>until Ctrl-C)|ends with (?P<status>\d+): .+) -->\n?")
NOTHING_ELSE = "…"


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    commands: str
    shown: str = ""
    shown_as: str = "text"
    reason: str | None = None
    endless: bool = False
    status: int = 0

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [str(page.relative_to(ROOT)) for page in found]


def blocks(page: str) -> Iterator[Block]:
    """Every fenced block of commands, in order; raises ValueError for a mark that means nothing."""
    tokens = MarkdownIt().parse((ROOT / page).read_text(encoding="utf-8"))
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        kind = token.info.strip() if token.type == "fence" else ""
        if kind not in COMMANDS or token.map is None:
            continue
        comment = before.content if before is not None and before.type == "html_block" else ""
        mark = MARK.fullmatch(comment)
        if comment and mark is None:
            raise ValueError(f"{page}:{token.map[0]}: no such mark: {comment.strip()}")
        commands, shown, shown_as = token.content, "", "text"
        if kind == "console":
            commands, shown = from_console(commands)
        elif after is not None and after.type == "fence" and after.info.strip() in OUTPUT:
            shown, shown_as = after.content, after.info.strip()
        said = mark.groupdict() if mark else {"reason": None, "endless": None, "status": None}
        status = int(said["status"] or 0)
        yield Block(page, token.map[0] + 1, commands, shown, shown_as, said["reason"], bool(said["endless"]), status)


def from_console(text: str) -> tuple[str, str]:
    """The commands behind `$ ` (and `> `), and the lines between them, which are what they print."""
    lines = text.splitlines(keepends=True)
    commands = [line[2:] for line in lines if line.startswith(("$ ", "> "))]
    return "".join(commands), "".join(line for line in lines if not line.startswith(("$ ", "> ")))


def prints(block: Block, output: str) -> bool:
    """Whether what the page shows is what was printed, as far as it is shown."""
    if block.shown_as == "json":
        return same_json(json.loads(block.shown), last_json(output))
    return re.search(".*".join(map(loose, block.shown.splitlines())), squeeze(output), re.DOTALL) is not None


def loose(line: str) -> str:
    return ".*?".join(map(re.escape, squeeze(line).split(NOTHING_ELSE)))


def squeeze(text: str) -> str:
    return " ".join(text.split())


def same_json(shown: object, real: object) -> bool:
    if isinstance(shown, str) and NOTHING_ELSE in shown:
        return shown == NOTHING_ELSE or (isinstance(real, str) and bool(re.fullmatch(loose(shown), squeeze(real))))
    if isinstance(shown, dict):
        return isinstance(real, dict) and all(name in real and same_json(shown[name], real[name]) for name in shown)
    if isinstance(shown, list):
        if not isinstance(real, list):
            return False
        open_end = shown[-1:] == [NOTHING_ELSE]
        first = shown[:-1] if open_end else shown
        enough = len(real) >= len(first) if open_end else len(real) == len(first)
        return enough and all(map(same_json, first, real))
    return shown == real and type(shown) is type(real)


def last_json(output: str) -> Any:
    """The last JSON object or list in it, None without."""
    found, at, decoder = None, 0, json.JSONDecoder()
    while match := re.compile(r"[{\[]").search(output, at):
        at = match.end()
        with suppress(ValueError):
            found, at = decoder.raw_decode(output, match.start())
    return found


def named_in_passing(page: str) -> Iterator[str]:
    """What stands in the running text as code."""
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse((ROOT / page).read_text(encoding="utf-8")):
        yield from (child.content for child in token.children or () if child.type == "code_inline")
