"""One documented name of the standard library, and the document it becomes."""

import platform
import re
import sys
from dataclasses import dataclass
from typing import Literal

from service.cli.client import Json

Kind = Literal["module", "class", "function", "method"]

# What the collection declares: checked by the service, indexed, and the types by which `--filter` reads values.
ATTRIBUTES = {"module": "string", "kind": "string", "deprecated": "boolean", "line": "integer", "since": "string"}

SINCE = re.compile(r"(?:versionadded::|(?:New|Added) in (?:Python )?(?:version )?)\s*(\d\.\d+)", re.IGNORECASE)
DEPRECATED = re.compile(  # Of itself: elsewhere the word is mostly about a parameter.
    r"\.\. deprecated::|^\W*deprecated\b|\bdeprecated (?:since|in favor|alias)\b"
    r"|\A[^\n]*\bis deprecated\b|\bthis (?:class|function|method|module|property) (?:is|has been) (?:now )?deprecated\b",
    re.IGNORECASE | re.MULTILINE,
)
LONGEST_SIGNATURE = 120  # Characters; a longer one would drown the words of a short documentation.


@dataclass(frozen=True, kw_only=True)
class Entry:
    """`name` is how a program reaches it (`json.JSONDecoder.decode`); `line` is None for what is written in C."""

    name: str
    kind: Kind
    module: str
    signature: str
    text: str
    source: str
    line: int | None = None
    deprecated: bool = False
    tags: tuple[str, ...] = ()

    def to_document(self) -> Json:
        attributes = {
            "module": self.module,
            "kind": self.kind,
            "deprecated": self.deprecated,
            "line": self.line,
            "since": since(self.text),
        }
        return {
            "external_id": self.name,
            "title": self.name + (self.signature if len(self.signature) <= LONGEST_SIGNATURE else "(…)"),
            "text": self.text,
            "source": self.source,
            "tags": sorted(self.tags),
            "attributes": {name: value for name, value in attributes.items() if value is not None},
        }


def since(text: str) -> str | None:
    """The version that a documentation says its subject came with."""
    found = SINCE.search(text)
    return found[1] if found else None


def says_deprecated(text: str) -> bool:
    """Whether a documentation says so of its subject."""
    return bool(DEPRECATED.search(text))


def source_link(path: str, line: int) -> str:
    """Where the file of this Python's version can be read, at the line."""
    version = sys.version_info
    suffix = "" if version.releaselevel == "final" else f"{version.releaselevel[0]}{version.serial}".replace("c", "rc")
    tag = f"v{version.major}.{version.minor}.{version.micro}{suffix}"
    return f"https://github.com/python/cpython/blob/{tag}/Lib/{path}#L{line}"


def documentation_link(module: str) -> str:
    major, minor, _ = platform.python_version_tuple()
    return f"https://docs.python.org/{major}.{minor}/library/{module}.html"
