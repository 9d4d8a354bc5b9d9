"""Plain text in any encoding."""

from pathlib import Path

from service.domain.errors import ExtractionError
from service.domain.texts import ExtractedText
from service.ingest.formats.charset import decode
from service.ingest.formats.flow import check_size, storable, too_much_text
from service.ingest.formats.limits import Limits
from service.ingest.formats.sniff import PLAIN


def read_plain(path: Path, *, charset: str | None, limits: Limits) -> ExtractedText:
    """The text as written; only line ends are unified, and a byte order mark goes."""
    return ExtractedText(read_characters(path, charset=charset, limits=limits), PLAIN)


def read_characters(path: Path, *, charset: str | None, limits: Limits) -> str:
    """Decode a text file. Raises `too_large` before reading what cannot fit even in four bytes a character."""
    if path.stat().st_size > 4 * limits.text_bytes:
        raise too_much_text(limits.text_bytes)
    raw = path.read_bytes()
    text = storable(decode(raw, declared=charset).removeprefix("\ufeff"))
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    check_size(text, limits.text_bytes)
    if raw and not text.strip("\ufffd"):
        raise ExtractionError("corrupt", "None of the bytes can be read as text.")
    return text
