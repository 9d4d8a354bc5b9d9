"""PDF, page by page, through PDFium."""

import ctypes
from pathlib import Path

import pypdfium2
import pypdfium2.raw as pdfium

from service.domain.errors import ExtractionError
from service.domain.texts import ExtractedText, PageSpan
from service.ingest.formats.flow import storable, tidy_title, too_much_text
from service.ingest.formats.limits import Limits
from service.ingest.formats.pdf_spacing import is_spaced_out, respaced
from service.ingest.formats.sniff import PDF

_BETWEEN_PAGES = "\n\n"
_LINE_END_HYPHEN = "\ufffe"  # PDFium's mark for a word that goes on in the next line.
_ANNOTATIONS = 1_000  # Read on one page.
_LINK, _POPUP = 2, 16  # Subtypes whose text is a duplicate or an address.
_UNTITLED = ("untitled", "microsoft word - ", "powerpoint presentation", "slide 1")
_FILE_ENDINGS = (
    ".doc",
    ".docx",
    ".dvi",
    ".indd",
    ".odt",
    ".pdf",
    ".ppt",
    ".pptx",
    ".ps",
    ".qxd",
    ".rtf",
    ".tex",
    ".txt",
)


def read_pdf(path: Path, *, limits: Limits) -> ExtractedText:
    """Text in the order of the page's content, then what its annotations and form fields say. Encryption that opens
    with an empty password is opened. Raises `encrypted`, `corrupt`, `too_large`.
    """
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise _refusal(str(error)) from error
    try:
        if len(document) > limits.pages:
            raise ExtractionError("too_large", f"The file has more than {limits.pages} pages.")
        if len(document) == 0:
            raise ExtractionError("corrupt", "The file has no page.")
        title = document.get_metadata_dict().get("Title")
        text, pages = _pages(document, limits)
    finally:
        document.close()
    return ExtractedText(text, PDF, pages, title=_title(title))


def _pages(document: pypdfium2.PdfDocument, limits: Limits) -> tuple[str, tuple[PageSpan, ...]]:
    parts: list[str] = []
    spans: list[PageSpan] = []
    position = size = unreadable = 0
    for number in range(1, len(document) + 1):
        try:
            words = storable(_page_text(document[number - 1]))
        except pypdfium2.PdfiumError:
            words, unreadable = "", unreadable + 1  # One broken page does not hide the others.
        if parts:
            parts.append(_BETWEEN_PAGES)
            position += len(_BETWEEN_PAGES)
        parts.append(words)
        spans.append(PageSpan(number, position, position + len(words)))
        position += len(words)
        size += len(words.encode()) + len(_BETWEEN_PAGES)
        if size > limits.text_bytes:
            raise too_much_text(limits.text_bytes)
    if unreadable == len(spans):
        raise ExtractionError("corrupt", "No page of the file can be read.")
    return "".join(parts), tuple(spans)


def _page_text(page: pypdfium2.PdfPage) -> str:
    textpage = page.get_textpage()
    try:
        words: str = textpage.get_text_range()
        if is_spaced_out(words):
            words = respaced(textpage)
    finally:
        textpage.close()
    words = words.replace("\r\n", "\n").replace("\r", "\n").replace(_LINE_END_HYPHEN, "")
    notes = _annotations(page)
    page.close()
    return "\n\n".join(part for part in (words.strip(), *notes) if part)


def _annotations(page: pypdfium2.PdfPage) -> list[str]:
    said: dict[str, None] = {}
    for index in range(min(pdfium.FPDFPage_GetAnnotCount(page), _ANNOTATIONS)):
        annotation = pdfium.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        if pdfium.FPDFAnnot_GetSubtype(annotation) not in {_LINK, _POPUP}:
            for key in (b"Contents", b"V"):  # A comment, and the value of a form field.
                said[_annotation_string(annotation, key).replace("\r\n", "\n").replace("\r", "\n").strip()] = None
        pdfium.FPDFPage_CloseAnnot(annotation)
    return [words for words in said if words not in {"", "Off", "On", "Yes"}]  # Check boxes.


def _annotation_string(annotation: object, key: bytes) -> str:
    size = pdfium.FPDFAnnot_GetStringValue(annotation, key, None, 0)
    buffer = ctypes.create_string_buffer(size)
    pdfium.FPDFAnnot_GetStringValue(annotation, key, ctypes.cast(buffer, ctypes.POINTER(pdfium.FPDF_WCHAR)), size)
    return buffer.raw[: max(size - 2, 0)].decode("utf-16-le", "replace")


def _title(said: str | None) -> str | None:
    """The title the file claims, unless it is the name of a file or of the program that made it."""
    title = tidy_title(said)
    if title is None or title.lower().startswith(_UNTITLED) or title.lower().endswith(_FILE_ENDINGS):
        return None
    return title


def _refusal(message: str) -> ExtractionError:
    if "password" in message.lower() or "security" in message.lower():
        return ExtractionError("encrypted", "The file is encrypted and does not open without a password.")
    return ExtractionError("corrupt", "The file is not a readable PDF.")
