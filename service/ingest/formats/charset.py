"""From bytes to characters: byte order marks, UTF-8 and UTF-16/32 by their patterns, legacy code pages by detection."""

import codecs

import chardet
from chardet.enums import EncodingEra

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # Before UTF-16: its mark begins with the mark of UTF-16.
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What pages call an encoding and what browsers read it as (WHATWG): the right one contains the left one.
_WIDER = {"ascii": "cp1252", "iso8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}
_CONTROLS = frozenset(range(32)) - {0x09, 0x0A, 0x0C, 0x0D, 0x1B}
_SAMPLE = 64 * 1024  # What detection looks at: 8 ms, and no case was found where more decides otherwise.
_SHORT = 60  # Bytes. Below, guesses beyond the encodings of today's web are more often wrong than right.
_FEW = 5  # Bytes beyond ASCII. Fewer are accents or typographic quotes of a Western text, whatever statistics say.


def decode(raw: bytes, *, declared: str | None) -> str:
    """The characters of `raw`; what its encoding cannot say becomes U+FFFD. `declared` is the charset label of a
    header or a page, believed when the bytes themselves leave the question open.
    """
    return raw.decode(_encoding(raw, declared), "replace")


def byte_order(head: bytes) -> str | None:
    """The encoding that a byte order mark or the pattern of NUL bytes proves, if one does."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    return _zero_pattern(head[:4096])


def looks_like_text(head: bytes) -> bool:
    """Whether the first bytes of a file can be text in some encoding."""
    if byte_order(head):
        return True
    controls = sum(head.count(byte) for byte in _CONTROLS)
    # Valid UTF-8 is hardly ever chance, so a stray NUL does not make it binary; in a legacy code page one in a hundred does.
    tolerated = 0.1 if _is_utf8(head, final=False) else 0.01
    return controls <= len(head) * tolerated


def _encoding(raw: bytes, declared: str | None) -> str:
    label = _codec(declared)
    if proven := byte_order(raw):
        return proven
    if label and label.startswith(("utf-16", "utf-32")):
        return label
    if b"\x1b$" in raw and _decodes(raw, "iso2022_jp_ext"):
        return "iso2022_jp_ext"  # Seven-bit, so it would pass for UTF-8.
    if _is_utf8(raw, final=True):
        return "utf-8"
    if label and _decodes(raw, label):
        return label
    return _detected(raw[:_SAMPLE])


def _detected(raw: bytes) -> str:
    # Nearly all UTF-8 with a few broken bytes reads best as UTF-8 with a few replacements.
    broken, beyond = raw.decode("utf-8", "replace"), sum(byte >= 0x80 for byte in raw)  # noqa: PLR2004 (ASCII ends)
    if beyond > _FEW and broken.count("\ufffd") * 20 < beyond:
        return "utf-8"
    if beyond < _FEW and beyond * 3 < len(raw) and _decodes(raw, "cp1252"):
        return "cp1252"
    era = EncodingEra.MODERN_WEB if len(raw) < _SHORT else EncodingEra.ALL
    return _codec(chardet.detect(raw, encoding_era=era)["encoding"]) or "cp1252"


def _zero_pattern(head: bytes) -> str | None:
    if len(head) < 4 or 0 not in head:  # noqa: PLR2004 (two characters of UTF-16)
        return None
    zeros = [head[offset::4].count(0) / len(head[offset::4]) for offset in range(4)]
    many, few = 0.7, 0.05
    shapes = {
        "utf-32-be": (1, 1, 1, 0),
        "utf-32-le": (0, 1, 1, 1),
        "utf-16-be": (1, 0, 1, 0),
        "utf-16-le": (0, 1, 0, 1),
    }
    for encoding, shape in shapes.items():
        if all(zero > many if wanted else zero < few for zero, wanted in zip(zeros, shape, strict=True)):
            return encoding
    return None


def _codec(label: str | None) -> str | None:
    try:
        name = codecs.lookup((label or "").strip().strip("\"'")).name
        b"".decode(name)  # Refuses codecs that are no text encodings, such as zlib.
    except (LookupError, ValueError):
        return None
    return _WIDER.get(name, name)


def _decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeError:
        return False
    return True


def _is_utf8(raw: bytes, *, final: bool) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(raw, final)
    except UnicodeDecodeError:
        return False
    return True
