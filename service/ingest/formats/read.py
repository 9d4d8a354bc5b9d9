"""One file in, its text out: sniff, then the reader of that format."""

from email.message import EmailMessage
from pathlib import Path

from service.domain.errors import ExtractionError
from service.domain.texts import ExtractedText
from service.ingest.formats.docx import read_docx
from service.ingest.formats.html import read_html
from service.ingest.formats.limits import Limits
from service.ingest.formats.markdown import read_markdown
from service.ingest.formats.pdf import read_pdf
from service.ingest.formats.plain import read_plain
from service.ingest.formats.sniff import DOCX, HEAD_BYTES, HTML, MARKDOWN, OLE, PDF, PLAIN, XHTML, ZIP, sniff

_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")  # The stream in which Office keeps an encrypted DOCX.


def read_file(path: Path, *, content_type: str | None, filename: str | None, limits: Limits) -> ExtractedText:
    """Read the file in this process: only for files that are trusted, or in a child that may die. `content_type` is the
    client's header, parameters included. Raises ExtractionError.
    """
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if not head:
        raise ExtractionError("empty", "The file has no bytes.")
    charset = _charset(content_type)
    kind = sniff(head, declared=content_type, filename=filename)
    if kind == PDF:
        return read_pdf(path, limits=limits)
    if kind in {DOCX, ZIP}:
        return _read_zip(path, kind, limits)
    if kind in {HTML, XHTML}:
        return read_html(path, charset=charset, content_type=kind, limits=limits)
    if kind == MARKDOWN:
        return read_markdown(path, charset=charset, limits=limits)
    if kind == PLAIN:
        return read_plain(path, charset=charset, limits=limits)
    if kind == OLE and _ENCRYPTED_PACKAGE in path.read_bytes():
        raise ExtractionError("encrypted", "The file is encrypted.")
    raise ExtractionError("unsupported_type", f"Files of type {kind} are not read.")


def _read_zip(path: Path, kind: str, limits: Limits) -> ExtractedText:
    try:
        return read_docx(path, limits=limits)
    except ExtractionError as error:
        if kind == ZIP and error.code != "encrypted":  # Damaged or not, it never claimed to be a document.
            raise ExtractionError("unsupported_type", "Zip archives are not unpacked.") from error
        raise


def _charset(content_type: str | None) -> str | None:
    header = EmailMessage()
    try:
        header["Content-Type"] = content_type or ""
    except ValueError:  # Line breaks in it.
        return None
    return header.get_content_charset()
