"""DOCX: the body, then drawings and charts, footnotes, endnotes, comments, headers and footers.

Libraries for the format read paragraphs and tables only; the text of boxes, notes and charts is what users miss. So the
XML is read as a stream: flat in memory, whatever the size.
"""

import zipfile
import zlib
from pathlib import Path
from typing import TypeVar

from lxml import etree

from service.domain.errors import ExtractionError
from service.domain.texts import ExtractedText
from service.ingest.formats.docx_parts import BodyText, ContentTypes, CoreProperties, PartTarget
from service.ingest.formats.flow import PARAGRAPH, Flow, tidy_title
from service.ingest.formats.limits import Limits
from service.ingest.formats.sniff import DOCX

_CONTENT_TYPES = "[Content_Types].xml"
_CORE = "application/vnd.openxmlformats-package.core-properties+xml"
# By the last word of their content type, in reading order; transitional, strict, template and macro files share them.
_MAIN = (
    "document.main+xml",
    "document.macroEnabled.main+xml",
    "template.main+xml",
    "template.macroEnabledTemplate.main+xml",
)
_WORD = ("wordprocessingml", "vnd.ms-word")
_PARTS = ("diagramData+xml", "chart+xml", "footnotes+xml", "endnotes+xml", "comments+xml", "header+xml", "footer+xml")
_ENCRYPTED = 0x1  # Bit of a zip entry's flags.
_READ = 64 * 1024

Target = TypeVar("Target", bound=PartTarget)


def read_docx(path: Path, *, limits: Limits) -> ExtractedText:
    """Everything a reader of the document sees. Raises `unsupported_type` for any other kind of zip."""
    try:
        with zipfile.ZipFile(path) as package:
            _check_sizes(package, path.stat().st_size, limits)
            return _read_package(package, limits)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, zlib.error, etree.XMLSyntaxError) as error:
        raise ExtractionError("corrupt", "The file is damaged: its parts cannot be unpacked.") from error
    except RuntimeError as error:  # What zipfile raises for a password.
        raise ExtractionError("encrypted", "The file is encrypted.") from error


def _check_sizes(package: zipfile.ZipFile, packed: int, limits: Limits) -> None:
    entries = package.infolist()
    unpacked = sum(entry.file_size for entry in entries)
    if len(entries) > limits.zip_entries:
        raise ExtractionError("too_large", f"The file has more than {limits.zip_entries} parts.")
    if unpacked > limits.zip_bytes or unpacked > limits.zip_ratio * packed:
        raise ExtractionError("too_large", "The file unpacks to more than a document can be.")
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise ExtractionError("encrypted", "The file is encrypted.")


def _read_package(package: zipfile.ZipFile, limits: Limits) -> ExtractedText:
    names = set(package.namelist())
    if _CONTENT_TYPES not in names:
        raise ExtractionError("unsupported_type", "Zip archives are not unpacked; of their kind only DOCX is read.")
    types = _parse(package, _CONTENT_TYPES, ContentTypes()).types
    main = [name for name, kind in types.items() if kind.endswith(_MAIN) and any(word in kind for word in _WORD)]
    if not main:
        raise ExtractionError("unsupported_type", "Of the Office formats only DOCX is read.")
    if main[0] not in names:
        raise ExtractionError("corrupt", "The part that holds the document's body is missing.")
    flow = Flow(limits.text_bytes)
    body = _parse(package, main[0], BodyText(flow))
    seen: set[str] = set()
    for wanted in _PARTS:
        for name in sorted(name for name, kind in types.items() if kind.endswith("." + wanted) and name in names):
            _read_side_part(package, name, flow, seen, limits)
    core = next((name for name, kind in types.items() if kind == _CORE and name in names), None)
    title = _core_title(package, core) if core else None
    return ExtractedText(flow.text(), DOCX, title=title or tidy_title(body.title))


def _read_side_part(package: zipfile.ZipFile, name: str, flow: Flow, seen: set[str], limits: Limits) -> None:
    part = Flow(limits.text_bytes)
    try:
        _parse(package, name, BodyText(part))
    except (etree.XMLSyntaxError, zipfile.BadZipFile, zlib.error):
        return  # A broken footer does not hide the body.
    text = part.text().strip()
    if text and text not in seen:  # First-page, odd and even headers tend to say the same.
        seen.add(text)
        flow.gap(PARAGRAPH)
        flow.write(text)


def _core_title(package: zipfile.ZipFile, name: str) -> str | None:
    try:
        return tidy_title(_parse(package, name, CoreProperties()).title)
    except (etree.XMLSyntaxError, zipfile.BadZipFile, zlib.error):
        return None


def _parse(package: zipfile.ZipFile, name: str, target: Target) -> Target:
    parser = etree.XMLParser(target=target, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    with package.open(name) as stream:
        while block := stream.read(_READ):
            parser.feed(block)
    parser.close()
    return target
