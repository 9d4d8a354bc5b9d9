"""HTML and XHTML: the whole visible text, with block structure as line breaks. Nothing is rendered and nothing fetched."""

import re
from pathlib import Path

from lxml import etree

from service.domain.texts import ExtractedText
from service.ingest.formats.charset import decode
from service.ingest.formats.flow import LINE, PARAGRAPH, SPACE, TAB, Flow, tidy_title
from service.ingest.formats.limits import Limits

_UNSEEN = frozenset(
    "script style noscript template iframe object audio video canvas noembed datalist".split()  # noqa: SIM905 (a page)
)
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_VERBATIM = frozenset({"pre", "textarea", "listing", "xmp"})
_GAPS = {
    **dict.fromkeys(
        "address article aside blockquote body details dl fieldset figure footer form frameset header hgroup hr main "  # noqa: SIM905 (a page)
        "nav ol p pre section table textarea ul".split(),
        PARAGRAPH,
    ),
    **dict.fromkeys(_HEADINGS, PARAGRAPH),
    **dict.fromkeys(
        "br caption center dd div dt figcaption legend li option select summary tr".split(),  # noqa: SIM905 (a page)
        LINE,
    ),
    **dict.fromkeys(("td", "th"), TAB),
    **dict.fromkeys(("button", "img", "input"), SPACE),
}
_META_CHARSET = re.compile(rb"<meta[^>]+?charset\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE)
_XML_CHARSET = re.compile(rb"<\?xml[^>]+?encoding\s*=\s*[\"']([\w:.-]+)")
_META_WITHIN = 64 * 1024  # Pages with tens of kilobytes of head before their meta element exist.
_FEED = 64 * 1024


def read_html(path: Path, *, charset: str | None, content_type: str, limits: Limits) -> ExtractedText:
    """Title from `<title>`, else from the first heading."""
    raw = path.read_bytes()
    said = _META_CHARSET.search(raw[:_META_WITHIN]) or _XML_CHARSET.search(raw[:1024])
    label = charset or (said.group(1).decode("ascii", "replace") if said else None)
    if label and label.lower().startswith(("utf-16", "utf-32")) and not charset:
        label = None  # A meta element that could be read as ASCII cannot be telling the truth.
    return text_of_html(decode(raw, declared=label), content_type=content_type, limits=limits)


def text_of_html(markup: str, *, content_type: str, limits: Limits) -> ExtractedText:
    """The visible text of markup that is already decoded."""
    visible = _VisibleText(limits.text_bytes)
    # A target parser builds no tree: memory stays flat and nesting of any depth costs nothing.
    parser = etree.HTMLParser(target=visible, encoding="utf-8", huge_tree=True, no_network=True)
    encoded = markup.removeprefix("\ufeff").encode("utf-8", "replace")
    for start in range(0, len(encoded), _FEED):
        parser.feed(encoded[start : start + _FEED])
    if encoded:
        parser.close()
    return ExtractedText(
        visible.flow.text(), content_type, title=tidy_title("".join(visible.title) or "".join(visible.heading))
    )


class _VisibleText:
    """Receives parser events (lxml's target protocol) and keeps what a reader of the page would see."""

    def __init__(self, limit: int) -> None:
        self.flow = Flow(limit)
        self.title: list[str] = []
        self.heading: list[str] = []
        self._unseen = 0
        self._verbatim = 0
        self._titles = 0
        self._headings = 0
        self._inside: str | None = None  # "title" or the first heading, while it is open.

    def start(self, tag: str, attributes: dict[str, str]) -> None:  # noqa: ARG002 (lxml's protocol)
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag == "title":
            self._titles += 1
            self._inside = tag
        elif tag in _VERBATIM:
            self._verbatim += 1
        elif tag in _HEADINGS and not self._unseen:
            self._headings += 1
            self._inside = tag if self._headings == 1 else self._inside
        self.flow.gap(_GAPS.get(tag, 0))

    def end(self, tag: str) -> None:
        if tag in _UNSEEN:
            self._unseen -= 1
        elif tag in _VERBATIM:
            self._verbatim -= 1
        if tag == self._inside:
            self._inside = None
        if tag not in {"td", "th"}:  # The next cell makes the gap; the last of a row needs none.
            self.flow.gap(_GAPS.get(tag, 0))

    def data(self, text: str) -> None:
        if self._unseen:
            return
        if self._inside == "title":
            if self._titles == 1:  # Later ones name the pictures of inline SVG.
                self.title.append(text)
            return
        if self._inside:
            self.heading.append(text)
        if self._verbatim:
            self.flow.write(text.replace("\r\n", "\n").replace("\r", "\n"))
            return
        words = " ".join(text.split())
        if words != text and text[0].isspace():
            self.flow.gap(SPACE)
        self.flow.write(words)
        if text[-1].isspace():
            self.flow.gap(SPACE)

    def comment(self, text: str) -> None:
        """Not seen by readers."""

    def pi(self, target: str, data: str | None = None) -> None:
        """Not seen by readers."""

    def close(self) -> None:
        """Nothing to build."""
