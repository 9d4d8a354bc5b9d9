"""Markdown: rendered, then read like a page, so that link targets, data URIs and table rules do not count as words."""

import re
from pathlib import Path

from markdown_it import MarkdownIt

from service.domain.texts import ExtractedText
from service.ingest.formats.html import text_of_html
from service.ingest.formats.limits import MEBIBYTE, Limits
from service.ingest.formats.plain import read_characters
from service.ingest.formats.sniff import MARKDOWN

_RENDERED = MEBIBYTE  # Three seconds of rendering. What is longer is a dump, and indexed as written.
_FRONT_MATTER = re.compile(r"\A---\n(.*?\n)---\n", re.DOTALL)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


def read_markdown(path: Path, *, charset: str | None, limits: Limits) -> ExtractedText:
    """Title from the first heading."""
    source = read_characters(path, charset=charset, limits=limits)
    if len(source) > _RENDERED:
        heading = _HEADING.search(source)
        return ExtractedText(source, MARKDOWN, title=heading.group(1)[:500] if heading else None)
    # YAML in front is text worth finding, but its closing rule would make a heading of it.
    source = _FRONT_MATTER.sub(r"```\n\1```\n", source)
    renderer = MarkdownIt("commonmark", {"maxNesting": 100}).enable(["table", "strikethrough"])
    return text_of_html(renderer.render(source), content_type=MARKDOWN, limits=limits)
