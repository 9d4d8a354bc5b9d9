"""What a file is: read from its bytes first, then from the client's header, then from its name."""

import codecs
import mimetypes
import re

from service.ingest.formats.charset import byte_order, looks_like_text

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
HTML = "text/html"
XHTML = "application/xhtml+xml"
MARKDOWN = "text/markdown"
PLAIN = "text/plain"
ZIP = "application/zip"
OLE = "application/x-ole-storage"  # Word before 2007, and the wrapper of an encrypted DOCX.
BINARY = "application/octet-stream"

HEAD_BYTES = 4096  # What `sniff` wants to see.

# A client that sends one of these has not said anything: the second is what curl adds by itself.
_SILENT = {BINARY, "application/x-www-form-urlencoded", "binary/octet-stream", "multipart/form-data"}
_MAGIC = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLE),
    (b"{\\rtf", "application/rtf"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\x89PNG\r\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"\x7fELF", "application/x-elf"),
    (b"%!PS", "application/postscript"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
)
_ZIP_FOLDERS = (
    (b"word/", DOCX),
    (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
)
_STORED_TYPE = re.compile(rb"mimetype(application/[\w.+-]+)")  # EPUB and ODF say it in their first, unpacked entry.
_MARKUP = re.compile(
    r"(?:<!--.*?-->|<\?xml.*?\?>|\s+)*(?:<(?P<doctype>!doctype\s+html)|<(?P<tag>[a-z][a-z0-9:]*)[\s/>])",
    re.IGNORECASE | re.DOTALL,
)
_HTML_TAGS = frozenset(
    "head body title meta link script style div p h1 h2 h3 h4 h5 h6 table ul ol a b br".split()  # noqa: SIM905 (a page)
)
# What the table of every supported Python lacks.
_NAMES = {
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd"), MARKDOWN),
    **dict.fromkeys((".docx", ".docm", ".dotx", ".dotm"), DOCX),
    ".xhtml": XHTML,
    ".rtf": "application/rtf",
    ".epub": "application/epub+zip",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    **dict.fromkeys((".tex", ".sh", ".js", ".json", ".sql", ".ts", ".yaml", ".yml"), PLAIN),
}
_TEXT_TYPES = re.compile(
    r"application/(?:x-)?(?:(?:[\w.-]+\+)?json|ndjson|jsonl|yaml|toml|javascript|sql|sh|python|(?:la)?tex)"
)


def sniff(head: bytes, *, declared: str | None, filename: str | None) -> str:
    """The type of the file whose first `HEAD_BYTES` these are; `application/octet-stream` when nothing tells.

    Text-like types that are read as they stand (CSV, JSON, source code) are `text/plain`.
    """
    claim = _claim(declared, filename)
    if found := _magic(head, claim):
        return found
    if head and not looks_like_text(head):
        return claim if claim not in {PLAIN, HTML, XHTML, MARKDOWN} else BINARY
    return _markup(head, claim) or claim


def _claim(declared: str | None, filename: str | None) -> str:
    said = (declared or "").split(";")[0].strip().lower()
    if not said or said in _SILENT:
        said = _type_of_name(filename or "")
    if said == "text/x-markdown":
        return MARKDOWN
    if _TEXT_TYPES.fullmatch(said) or (
        said.startswith("text/") and said not in {HTML, MARKDOWN, "text/rtf", "text/xml"}
    ):
        return PLAIN
    return said


def _type_of_name(filename: str) -> str:
    suffix = "." + filename.rpartition(".")[2].lower() if "." in filename else ""
    # The table that Python ships, not the machine's: the same name means the same type everywhere.
    return _NAMES.get(suffix) or mimetypes.MimeTypes().types_map[True].get(suffix) or PLAIN


def _magic(head: bytes, claim: str) -> str | None:
    start = head.lstrip(codecs.BOM_UTF8 + b" \t\r\n\x0c\x00")
    if start.startswith(b"%PDF-") or (b"%PDF-" in head[:1024] and not looks_like_text(head)):
        return PDF  # Readers accept up to a kilobyte of junk before the header.
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_type(head, claim)
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


def _zip_type(head: bytes, claim: str) -> str:
    if stored := _STORED_TYPE.search(head[:200]):
        return stored.group(1).decode("ascii")
    for folder, kind in _ZIP_FOLDERS:
        if folder in head:
            return kind
    return claim if claim == DOCX else ZIP


def _markup(head: bytes, claim: str) -> str | None:
    encoding = byte_order(head) or "utf-8"
    opening = _MARKUP.match(head.decode(encoding, "replace").lstrip("\ufeff"))
    if opening is None:
        return None
    tag = (opening.group("tag") or "").lower()
    if opening.group("doctype") or tag == "html":
        return XHTML if claim == XHTML else HTML
    if opening.group(0).lstrip().startswith("<?xml"):
        return "image/svg+xml" if tag == "svg" else "application/xml"
    # A fragment is HTML only where nobody says otherwise: Markdown may well begin with a <div>.
    return HTML if claim == PLAIN and tag in _HTML_TAGS else None
