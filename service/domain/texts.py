"""The text of a document, and the pieces of it that search indexes. All ranges count code points, the end exclusive."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PageSpan:
    """Where one page (counted from 1) lies in the extracted text."""

    number: int
    char_start: int
    char_end: int


@dataclass(frozen=True)
class ExtractedText:
    """What a file says: its text, the type its bytes proved to be, its pages (PDF only), its own title if it has one."""

    text: str
    content_type: str
    pages: tuple[PageSpan, ...] = ()
    title: str | None = None


@dataclass(frozen=True)
class ChunkText:
    """One indexed piece: `text` is `extracted.text[char_start:char_end]`, `page` the page on which it starts."""

    ordinal: int
    text: str
    char_start: int
    char_end: int
    page: int | None
