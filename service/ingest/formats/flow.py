"""A document's text while it is being collected: runs of words with gaps between, bounded in size."""

import re

from service.domain.errors import ExtractionError

SPACE, TAB, LINE, PARAGRAPH = range(1, 5)
_GAPS = ("", " ", "\t", "\n", "\n\n")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # Postgres refuses NUL, UTF-8 refuses a lone surrogate.


def storable(text: str) -> str:
    """Replace by U+FFFD, one for one, what no database column can hold."""
    return _UNSTORABLE.sub("\ufffd", text)


def tidy_title(title: str | None) -> str | None:
    """One line of at most 500 characters, or None when nothing is left."""
    return " ".join(storable(title or "").split())[:500].rstrip() or None


def check_size(text: str, limit: int) -> None:
    """Raise `too_large` when the text takes more than `limit` bytes of UTF-8."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if size > limit:
        raise too_much_text(limit)


def too_much_text(limit: int) -> ExtractionError:
    return ExtractionError("too_large", f"The file holds more than {limit // (1024 * 1024)} MB of text.")


class Flow:
    """Collects text in reading order. Of several gaps in a row the widest counts, and none leads or trails."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[str] = []
        self._bytes = 0
        self._gap = 0

    def gap(self, width: int) -> None:
        self._gap = max(self._gap, width)

    def write(self, text: str) -> None:
        if not text:
            return
        if self._gap and self._parts:
            if self._gap >= LINE:  # The gap is the line end: what a <pre> ends with is not a second one.
                self._parts[-1] = self._parts[-1].rstrip("\n")
            self._parts.append(_GAPS[self._gap])
            self._bytes += len(_GAPS[self._gap])
        self._gap = 0
        self._parts.append(text)
        self._bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if self._bytes > self._limit:
            raise too_much_text(self._limit)

    def text(self) -> str:
        return storable("".join(self._parts))
