"""What to keep of each kind of part in a DOCX, as targets of a streaming XML parser."""

from collections.abc import Mapping

from service.domain.errors import ExtractionError
from service.ingest.formats.flow import LINE, PARAGRAPH, SPACE, TAB, Flow

# Transitional and strict files differ in namespace only, so elements go by their local names.
_SKIPPED = frozenset({"Fallback", "moveFrom", "numCache", "del"})
_BREAKS = {"br": "\n", "cr": "\n", "tab": "\t", "ptab": "\t", "noBreakHyphen": "-"}


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


class PartTarget:
    """The parser's protocol; a document type declaration, which the format forbids and bombs need, ends the reading."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002 (lxml's protocol)
        raise ExtractionError("corrupt", "A part of the file declares a document type, which DOCX forbids.")

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Nothing to keep."""

    def end(self, tag: str) -> None:
        """Nothing to keep."""

    def data(self, text: str) -> None:
        """Nothing to keep."""

    def comment(self, text: str) -> None:
        """Not part of the text."""

    def pi(self, target: str, data: str | None = None) -> None:
        """Not part of the text."""

    def close(self) -> None:
        """Nothing to build."""


class ContentTypes(PartTarget):
    """`types` maps the name of each part to its content type."""

    def __init__(self) -> None:
        self.types: dict[str, str] = {}

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if _local(tag) == "Override":
            self.types[attributes.get("PartName", "").lstrip("/")] = attributes.get("ContentType", "")


class CoreProperties(PartTarget):
    def __init__(self) -> None:
        self.title = ""
        self._inside = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:  # noqa: ARG002 (lxml's protocol)
        self._inside = _local(tag) == "title"

    def end(self, tag: str) -> None:  # noqa: ARG002 (lxml's protocol)
        self._inside = False

    def data(self, text: str) -> None:
        if self._inside:
            self.title += text


class BodyText(PartTarget):
    """Writes the words of a body, a note, a header, a chart or a diagram to `flow`. `title` is the paragraph in the
    style Title, if there is one.
    """

    def __init__(self, flow: Flow) -> None:
        self.title = ""
        self._flow = flow
        self._skipped = 0
        self._tables = 0
        self._captions = 0  # Open caches of a chart's category and series names.
        self._in_text = False
        self._in_title = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = _local(tag)
        if self._skipped or name in _SKIPPED:
            self._skipped += 1
        elif name == "t" or (name == "v" and self._captions):
            self._in_text = True
        elif name in _BREAKS:
            if name != "tab" or not attributes:  # One with attributes is a tab stop of the paragraph's style.
                self._flow.write(_BREAKS[name])
        elif name == "pStyle":
            self._in_title = not self.title and attributes.get(tag.replace("pStyle", "val")) == "Title"
        else:
            self._open(name)

    def _open(self, name: str) -> None:
        if name == "tbl":
            self._tables += 1
            self._flow.gap(PARAGRAPH)
        elif name == "tc":
            self._flow.gap(TAB)
        elif name == "txbxContent":
            self._flow.gap(PARAGRAPH)
        elif name == "strCache":
            self._captions += 1

    def end(self, tag: str) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        name = _local(tag)
        if name in {"t", "v"}:
            self._in_text = False
        elif name == "p":
            self._in_title = False
            self._flow.gap(SPACE if self._tables else PARAGRAPH)
        elif name in {"tr", "pt"}:
            self._flow.gap(LINE)
        elif name == "tbl":
            self._tables -= 1
            self._flow.gap(PARAGRAPH)
        elif name == "txbxContent":
            self._flow.gap(PARAGRAPH)
        elif name == "strCache":
            self._captions -= 1

    def data(self, text: str) -> None:
        if not self._in_text:
            return
        self._flow.write(text)
        if self._in_title:
            self.title += text
