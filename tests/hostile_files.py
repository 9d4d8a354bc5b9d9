"""Files that try to hurt their reader, each made in a moment and small on disk where the trick allows it."""

import zipfile
import zlib
from pathlib import Path

_TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.'
    'wordprocessingml.document.main+xml"/></Types>'
)
_OPEN = b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
_CLOSE = b"</w:body></w:document>"
_LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(10))


def docx(path: Path, body: bytes, *, prolog: bytes = b"", compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as package:
        package.writestr("[Content_Types].xml", _TYPES)
        package.writestr("word/document.xml", prolog + _OPEN + body + _CLOSE)
    return path


def zip_bomb_docx(folder: Path) -> Path:
    """Without text, so that nothing but its size gives it away."""
    return docx(folder / "bomb.docx", b"<w:p/>" * 10_000_000)


def laughing_docx(folder: Path) -> Path:
    prolog = f"<!DOCTYPE w [{_LAUGHS}]>".encode()
    return docx(folder / "laughs.docx", b"<w:p><w:r><w:t>&l9;</w:t></w:r></w:p>", prolog=prolog)


def prying_docx(folder: Path, secret: Path) -> Path:
    prolog = f'<!DOCTYPE w [<!ENTITY s SYSTEM "{secret.as_uri()}">]>'.encode()
    return docx(folder / "prying.docx", b"<w:p><w:r><w:t>&s;</w:t></w:r></w:p>", prolog=prolog)


def laughing_html(folder: Path) -> Path:
    path = folder / "laughs.html"
    path.write_text(f"<!DOCTYPE html [{_LAUGHS}]><p>&l9;</p><p>tail")
    return path


def deep_html(folder: Path) -> Path:
    path = folder / "deep.html"
    path.write_bytes(b"<html><body>" + b"<div>" * 1_000_000 + b"deep words")
    return path


def zeros(folder: Path, *, size: int = 200_000_000) -> Path:
    path = folder / "zeros.txt"
    with path.open("wb") as stream:
        stream.truncate(size)
    return path


def pdf(path: Path, objects: list[bytes]) -> Path:
    """Number the objects from 1, the catalogue first, and write the cross-reference table."""
    written, offsets = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(written))
        written += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    end = b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (size, len(written))
    path.write_bytes(written + b"xref\n0 %d\n0000000000 65535 f \n" % size + table + end)
    return path


def pdf_of_pages(path: Path, pages: list[bytes], *, filters: bytes = b"") -> Path:
    """One page for each content stream."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * index) for index in range(len(pages)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%b]/Count %d>>" % (kids, len(pages)),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for index, content in enumerate(pages):
        here = b"/Contents %d 0 R/Resources<</Font<</F 3 0 R>>>>" % (5 + 2 * index)
        objects.append(b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]%b>>" % here)
        objects.append(b"<<%b/Length %d>>\nstream\n%b\nendstream" % (filters, len(content), content))
    return pdf(path, objects)


def flate_bomb_pdf(folder: Path) -> Path:
    """Two kilobytes that unpack, twice, to a gigabyte."""
    unit = zlib.compressobj(9)
    once = b"".join(unit.compress(b" " * 50_000_000) for _ in range(20)) + unit.flush()
    twice = zlib.compress(once, 9)
    return pdf_of_pages(folder / "flate.pdf", [twice], filters=b"/Filter[/FlateDecode/FlateDecode]")


def many_pages_pdf(folder: Path, *, pages: int) -> Path:
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%b]/Count %d>>" % (b"3 0 R " * pages, pages),
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]>>",
    ]
    return pdf(folder / "pages.pdf", objects)


def endless_markdown(folder: Path) -> Path:
    """Takes minutes to render: each bracket may open a link, so each is compared with all that follow."""
    path = folder / "brackets.md"
    path.write_bytes(b"[" * 900_000)
    return path
