"""Repairs pages whose every glyph is placed by itself, where PDFium sees a space after every letter or two."""

import pypdfium2
import pypdfium2.raw as pdfium

_SHORT = 2.0  # Letters a word, on average over the page; prose in alphabetic scripts has 4 to 6.
_LETTERS = 20  # Fewer decide nothing.
_GAP = 0.25  # Of the line's height: less is space between letters, more is space between words.
_ALPHABETIC_BELOW = 0x2E80  # From here on writing systems have words of one or two characters.


def is_spaced_out(text: str) -> bool:
    """Whether the words of a page are too short to be words."""
    words = text.split()
    letters = sum(map(len, words))
    if letters < _LETTERS or letters > _SHORT * len(words):
        return False
    shown = "".join(words)
    alphabetic = sum(character.isalpha() and ord(character) < _ALPHABETIC_BELOW for character in shown)
    return alphabetic * 2 > letters


def respaced(textpage: pypdfium2.PdfTextPage) -> str:
    """The text of the page without the spaces that PDFium added in gaps too narrow for one."""
    characters: list[str] = []
    count = textpage.count_chars()
    for index in range(count):
        character = chr(pdfium.FPDFText_GetUnicode(textpage, index))
        added = character == " " and pdfium.FPDFText_IsGenerated(textpage, index) == 1
        if not (added and 0 < index < count - 1 and _is_narrow(textpage, index)):
            characters.append(character)
    return "".join(characters)


def _is_narrow(textpage: pypdfium2.PdfTextPage, index: int) -> bool:
    _, bottom, right, top = textpage.get_charbox(index - 1, loose=True)
    left, *_ = textpage.get_charbox(index + 1, loose=True)
    return bool(0 <= left - right < _GAP * (top - bottom))
