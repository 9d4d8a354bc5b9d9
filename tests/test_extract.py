"""Extraction: what each format gives, and what hostile files do not take."""
# ruff: noqa: RUF001 (text in many scripts is the subject here)

import asyncio
import csv
import os
import signal
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from service.domain.errors import ExtractionError
from service.domain.texts import ExtractedText
from service.ingest.extract import Extractor
from service.ingest.formats.limits import Limits
from tests import hostile_files as hostile

DATA = Path(os.environ.get("DATA", Path(__file__).parents[2] / "shared" / "data"))
FILES = DATA / "files"
CODES = {"unsupported_type", "encrypted", "corrupt", "empty", "too_large", "timeout"}
WITHOUT_TEXT = {"docx/headerPic.docx", "docx/testWORD_multi_authors.docx"}  # A picture; empty paragraphs.

needs_files = pytest.mark.skipif(
    not FILES.exists(), reason="the folder that DATA names has no files/; add it with: DATA=/folder/of/data make test"
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def extractor() -> AsyncIterator[Extractor]:
    async with Extractor() as shared:
        yield shared


def rows() -> list[dict[str, str]]:
    if not FILES.exists():
        return []
    with (FILES / "MANIFEST.tsv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


async def read(extractor: Extractor, path: Path, *, content_type: str | None = None) -> ExtractedText:
    return await extractor.extract(path, content_type=content_type, filename=path.name)


async def code_of(extractor: Extractor, path: Path, *, content_type: str | None = None) -> str:
    with pytest.raises(ExtractionError) as caught:
        await read(extractor, path, content_type=content_type)
    return caught.value.code


async def read_bytes(
    extractor: Extractor, folder: Path, raw: bytes, name: str, content_type: str | None = None
) -> ExtractedText:
    path = folder / "upload"
    path.write_bytes(raw)
    return await extractor.extract(path, content_type=content_type, filename=name)


@needs_files
@pytest.mark.parametrize("row", rows(), ids=lambda row: row["path"])
async def test_each_real_file_ends_as_the_manifest_says(extractor: Extractor, row: dict[str, str]) -> None:
    try:
        ending: ExtractedText | ExtractionError = await read(extractor, FILES / row["path"])
    except ExtractionError as error:
        ending = error

    if isinstance(ending, ExtractionError):
        assert row["outcome"] in {"failed", "either"}, str(ending)
        assert ending.code in CODES
    else:
        assert row["outcome"] in {"indexed", "either"}
        assert ending.text.strip() or row["path"] in WITHOUT_TEXT or row["outcome"] == "either"
        assert "\x00" not in ending.text
        assert ending.text.encode()[:1] is not None, "it can be stored as UTF-8"


@needs_files
@pytest.mark.parametrize(
    ("path", "phrases"),
    [
        ("docx/footnotes.docx", ["text so snoskoy", "snoska"]),
        ("docx/testComment.docx", ["Here is some text.", "Here is a comment"]),
        ("docx/testWORD_text_box.docx", ["inside of a text box in the body", "inside of a text box in the header"]),
        ("docx/testWORD_charts.docx", ["wants a peach", "January\nFebruary"]),
        ("docx/testWORD_missing_text.docx", ["BigCompany", "Cell0\tRich_text_in_cell\tCell2"]),
        ("docx/testOptionalHyphen.docx", ["optionalhyphen"]),
        ("docx/testWORD_2006ml.docx", ["The quick brown fox jumped over", "This is an endnote", "Odd page footer"]),
        ("docx/testWORD_2006ml.docx", ["This is the chart title", "And this is the footnote", "This is a comment"]),
        ("docx/testWORD_signed.docx", ["signed"]),
        ("nasty/NullHeader.docx", ["snipers had also shot at protesters"]),
        ("html/testHTML.html", ["Test Indexation Html\n\nIndexation du fichier"]),
        ("html/testXHTML.html", ["ability of Apache Tika to extract content from an XHTML document."]),
        ("html/resume.html", ["Предлагаем Вам ознакомиться со списком"]),
        ("html/big-preamble.html", ["Континент-Недвижимость"]),
        ("html/tika434.html", ["Easy Way to Find Vacation Rentals"]),
        ("markdown/arxiv_archive_README.md", ["full archive of metadata about papers"]),
        ("markdown/tika_README.md", ["detects and extracts metadata and text"]),
        ("text/lang_th.txt", ["สงครามอังกฤษ–แซนซิบาร์"]),
        ("text/russian.cp866.txt", ["Однажды, в студеную зимнюю пору"]),
        ("nasty_derived/cr_only_newlines.txt", ["Resumption of the session\nI declare resumed"]),
        ("pdf/testPDF.pdf", ["Apache Tika is a toolkit for detecting and extracting metadata"]),
        ("pdf/testPDF_rotated.pdf", ["Apache Tika is a toolkit for detecting and extracting metadata"]),
        ("pdf/testPDFTwoTextBoxes.pdf", ["Left column line 2\nRight column line 1"]),
        ("pdf/testAnnotations.pdf", ["Here is a comment"]),
        ("pdf/testPDF_acroform3.pdf", ["a form with a signature field", "TIKA-1226"]),
        ("pdf/testExtraSpaces.pdf", ["Here is some formatted text"]),
        ("pdf/testPDF_incrementalUpdates.pdf", ["Testing Incremental"]),
        ("nasty/testPDF_JBIG2.pdf", ["images compressed using JBIG2"]),
    ],
)
async def test_text_is_found_wherever_a_format_hides_it(extractor: Extractor, path: str, phrases: list[str]) -> None:
    extracted = await read(extractor, FILES / path)

    for phrase in phrases:
        assert phrase in extracted.text


@needs_files
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("nasty/testUnicodePassword.pdf", "encrypted"),
        ("nasty/quine.gz", "unsupported_type"),
        ("nasty/test-zip-of-zip.zip", "unsupported_type"),
        ("nasty/testODTnotaZipFile.odt", "unsupported_type"),
        ("nasty_derived/header_only.pdf", "corrupt"),
        ("nasty_derived/truncated_60pct.docx", "corrupt"),
        ("nasty_derived/empty.docx", "empty"),
        ("other/testRTF.rtf", "unsupported_type"),
        ("other/testEPUB.epub", "unsupported_type"),
    ],
)
async def test_a_file_that_cannot_be_read_says_why(extractor: Extractor, path: str, code: str) -> None:
    assert await code_of(extractor, FILES / path) == code


@needs_files
async def test_text_boxes_are_not_found_twice(extractor: Extractor) -> None:
    extracted = await read(extractor, FILES / "docx/testWORD_text_box.docx")

    assert extracted.text.count("in the body of the document") == 2, "one in the box, one outside"


@needs_files
async def test_pages_cover_a_paper_and_say_where_its_parts_are(extractor: Extractor) -> None:
    paper = await read(extractor, FILES / "pdf/MTRAG-UN-arxiv.pdf")

    assert [page.number for page in paper.pages] == list(range(1, 8))
    first = paper.text[paper.pages[0].char_start : paper.pages[0].char_end]
    assert first.startswith("MTRAG-UN: A Benchmark for Open Challenges")
    assert "a benchmark for exploring open challenges" in first, "a hyphen at a line's end joins its word"
    assert all(after.char_start == before.char_end + 2 for before, after in pairwise(paper.pages))
    assert paper.pages[-1].char_end == len(paper.text)


async def test_each_page_of_a_pdf_holds_its_own_words(extractor: Extractor, tmp_path: Path) -> None:
    pages = [b"BT /F 12 Tf 50 700 Td (Words of page %d) Tj ET" % number for number in (1, 2, 3)]
    extracted = await read(extractor, hostile.pdf_of_pages(tmp_path / "three.pdf", pages))

    said = [(page.number, extracted.text[page.char_start : page.char_end]) for page in extracted.pages]

    assert said == [(1, "Words of page 1"), (2, "Words of page 2"), (3, "Words of page 3")]


@pytest.mark.parametrize(
    ("raw", "name", "declared", "expected"),
    [
        (b"<html><body>x", "a.txt", "text/plain", "text/html"),
        (b"<?xml version='1.0'?>\n<!DOCTYPE html>\n<html>x", "a.xhtml", None, "application/xhtml+xml"),
        (b"# Head\n", "a.txt", "text/markdown", "text/markdown"),
        (b"# Head\n", "a.md", None, "text/markdown"),
        (b"# Head\n", "a.md", "application/octet-stream", "text/markdown"),
        (b"# Head\n", "a.md", "text/plain", "text/plain"),
        (b"<div>Logo</div>\n\n# Head\n", "a.md", None, "text/markdown"),
        (b"<p>A fragment", "a", None, "text/html"),
        (b"year,name\n1999,x\n", "a.csv", "text/csv", "text/plain"),
        (b'{"a": 1}', "a.json", "application/json", "text/plain"),
    ],
)
async def test_the_type_is_read_from_bytes_then_header_then_name(
    extractor: Extractor, tmp_path: Path, *, raw: bytes, name: str, declared: str | None, expected: str
) -> None:
    extracted = await read_bytes(extractor, tmp_path, raw, name, declared)

    assert extracted.content_type == expected


@pytest.mark.parametrize("raw", [b"\x89PNG\r\n\x1a\n" + bytes(50), bytes(1000), bytes(range(256)) * 4])
async def test_binary_is_never_stored_as_text(extractor: Extractor, tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(raw)

    assert await code_of(extractor, path, content_type="text/plain") == "unsupported_type"


FRENCH = "Où est passé l’été ? À la fenêtre, le garçon naïf rêvait déjà de Noël ; sa sœur préférait la forêt."
RUSSIAN = "Гляжу, поднимается медленно в гору лошадка, везущая хворосту воз."
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(FRENCH, name) for name in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")]
    + [(RUSSIAN, name) for name in ("utf-8", "cp1251", "koi8-r", "cp866", "utf-16")]
    + [(JAPANESE, name) for name in ("utf-8", "shift_jis", "euc_jp", "iso2022_jp", "utf-16")],
)
async def test_plain_text_is_read_in_the_encoding_it_was_written_in(
    extractor: Extractor, tmp_path: Path, text: str, encoding: str
) -> None:
    extracted = await read_bytes(extractor, tmp_path, text.encode(encoding), "note.txt")

    assert extracted.text == text


async def test_a_declared_charset_decides_where_the_bytes_do_not(extractor: Extractor, tmp_path: Path) -> None:
    raw = "Łódź".encode("iso8859-2")

    extracted = await read_bytes(extractor, tmp_path, raw, "a.txt", 'text/plain; charset="ISO-8859-2"')

    assert extracted.text == "Łódź"


async def test_line_ends_become_newlines_and_a_nul_is_replaced(extractor: Extractor, tmp_path: Path) -> None:
    extracted = await read_bytes(extractor, tmp_path, b"one\r\ntwo\rthree\nfo\x00ur, and more words", "a.txt")

    assert extracted.text == "one\ntwo\nthree\nfo\ufffdur, and more words"


async def test_html_gives_its_visible_text_in_blocks(extractor: Extractor, tmp_path: Path) -> None:
    page = """<!doctype html><title> A
      title </title><style>p {color: red}</style><script>alert("x < y")</script><h1>Head</h1>
      <p>One <b>bold</b>ed\n  word &amp; caf&eacute;<!-- unseen --></p><ul><li>first<li>second</ul>
      <table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table><pre>x\n  y</pre><noscript>none</noscript>"""

    extracted = await read_bytes(extractor, tmp_path, page.encode(), "a.html")

    assert extracted.title == "A title"
    assert extracted.text == "Head\n\nOne bolded word & café\n\nfirst\nsecond\n\na\tb\nc\n\nx\n  y"


async def test_html_is_decoded_as_its_meta_element_says(extractor: Extractor, tmp_path: Path) -> None:
    page = '<html><head><meta charset="windows-1251"><title>Ы</title></head><body>Да</body></html>'.encode("cp1251")

    extracted = await read_bytes(extractor, tmp_path, page, "a.html")

    assert (extracted.title, extracted.text) == ("Ы", "Да")


async def test_markdown_keeps_words_and_drops_addresses(extractor: Extractor, tmp_path: Path) -> None:
    source = (
        "---\ntags: birds\n---\n# The *title*\n\nSee [the page](http://x.test/y) ![](data:image/png;base64,iVBOR)\n"
    )

    extracted = await read_bytes(extractor, tmp_path, (source + "\n```\ncode()\n```\n").encode(), "a.md")

    assert extracted.title == "The title"
    assert extracted.text == "tags: birds\n\nThe title\n\nSee the page\n\ncode()\n"


async def test_an_encrypted_docx_is_called_encrypted(extractor: Extractor, tmp_path: Path) -> None:
    path = tmp_path / "locked.docx"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + "EncryptedPackage".encode("utf-16-le"))

    assert await code_of(extractor, path) == "encrypted"


async def test_no_hostile_file_hurts_the_worker(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret of this machine")
    before = psutil.Process().memory_info().rss
    async with Extractor(children=1) as extractor:
        assert await code_of(extractor, hostile.zip_bomb_docx(tmp_path)) == "too_large"
        assert await code_of(extractor, hostile.laughing_docx(tmp_path)) == "corrupt"
        assert await code_of(extractor, hostile.prying_docx(tmp_path, secret)) == "corrupt"
        assert await code_of(extractor, hostile.many_pages_pdf(tmp_path, pages=2001)) == "too_large"
        assert await code_of(extractor, hostile.flate_bomb_pdf(tmp_path)) in {"corrupt", "too_large"}
        assert await code_of(extractor, hostile.zeros(tmp_path)) == "unsupported_type"
        assert (await read(extractor, hostile.deep_html(tmp_path))).text == "deep words"
        assert (await read(extractor, hostile.laughing_html(tmp_path))).text.endswith("tail")
        assert (await read(extractor, secret)).text == "a secret of this machine"

    assert psutil.Process().memory_info().rss - before < 100 * 1024 * 1024


async def test_a_text_over_the_limit_is_too_large_and_one_at_the_limit_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    async with Extractor(children=1) as extractor:
        path.write_bytes(b"a" * 10 * 1024 * 1024)
        assert len((await read(extractor, path)).text) == 10 * 1024 * 1024
        path.write_bytes(b"a" * 10 * 1024 * 1024 + b"b")
        assert await code_of(extractor, path) == "too_large"


async def test_reading_without_end_is_stopped_by_the_clock(tmp_path: Path) -> None:
    async with Extractor(children=1, wall_seconds=2) as extractor:
        with pytest.raises(ExtractionError, match="over 2 seconds") as caught:
            await read(extractor, hostile.endless_markdown(tmp_path))
        assert caught.value.code == "timeout"
        assert (await read(extractor, hostile.laughing_html(tmp_path))).text.endswith("tail")


async def test_reading_without_end_is_stopped_by_the_processor_limit(tmp_path: Path) -> None:
    async with Extractor(children=1, limits=Limits(cpu_seconds=1)) as extractor:
        with pytest.raises(ExtractionError, match="processor time") as caught:
            await read(extractor, hostile.endless_markdown(tmp_path))
        assert caught.value.code == "timeout"


async def test_memory_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_bytes(b"<p><!--" + b"a" * 60_000_000 + b"-->")
    async with Extractor(children=1, limits=Limits(memory_bytes=200 * 1024 * 1024)) as extractor:
        assert await code_of(extractor, path) == "too_large"


async def test_a_child_killed_at_work_is_replaced_and_the_file_read_again(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(b"<p>some words</p>" * 400_000)
    async with Extractor(children=1) as extractor:
        await read(extractor, hostile.laughing_html(tmp_path))
        (victim,) = extractor.pids
        reading = asyncio.create_task(read(extractor, path))
        await asyncio.sleep(0.1)
        os.kill(victim, signal.SIGKILL)

        assert (await reading).text.count("some words") == 400_000
        assert victim not in extractor.pids


async def test_a_child_that_crashes_fails_its_file_only(tmp_path: Path) -> None:
    path = hostile.endless_markdown(tmp_path)
    async with Extractor(children=1) as extractor:
        await read(extractor, hostile.laughing_html(tmp_path))
        (victim,) = extractor.pids
        reading = asyncio.create_task(code_of(extractor, path))
        await asyncio.sleep(0.1)
        os.kill(victim, signal.SIGSEGV)

        assert await reading == "corrupt"
        assert (await read(extractor, hostile.laughing_html(tmp_path))).text.endswith("tail")


async def test_a_child_that_died_while_idle_is_not_noticed(tmp_path: Path) -> None:
    async with Extractor(children=1) as extractor:
        page = hostile.laughing_html(tmp_path)
        await read(extractor, page)
        for _ in range(3):
            (victim,) = extractor.pids
            os.kill(victim, signal.SIGKILL)
            assert (await read(extractor, page)).text.endswith("tail")


async def test_cancelling_kills_the_child(tmp_path: Path) -> None:
    async with Extractor(children=1) as extractor:
        reading = asyncio.create_task(read(extractor, hostile.endless_markdown(tmp_path)))
        while not extractor.pids:  # noqa: ASYNC110  the kernel starts it
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        (child,) = extractor.pids
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

        assert not psutil.pid_exists(child)
        assert (await read(extractor, hostile.laughing_html(tmp_path))).text.endswith("tail")


async def test_a_worn_out_child_is_replaced(tmp_path: Path) -> None:
    page = hostile.laughing_html(tmp_path)
    async with Extractor(children=1, limits=Limits(files_per_child=2)) as extractor:
        pids = []
        for _ in range(3):
            await read(extractor, page)
            pids.append(extractor.pids)

    assert pids[0]
    assert pids[1] == frozenset()
    assert pids[2] not in pids[:2]


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="the kernel of this system has no parent-death signal; add it with: make test, on Linux",
)
async def test_children_end_with_the_process_that_owns_them(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys, pathlib\n"
        "from service.ingest.extract import Extractor\n"
        "async def main():\n"
        "    extractor = Extractor(children=1)\n"
        "    reading = asyncio.create_task(extractor.extract(pathlib.Path(sys.argv[1]), content_type=None, filename='a.md'))\n"
        "    while not extractor.pids:\n"
        "        await asyncio.sleep(.01)\n"
        "    await asyncio.sleep(.5)\n"
        "    print(*extractor.pids, flush=True)\n"
        "    await reading\n"
        "asyncio.run(main())\n"
    )
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(hostile.endless_markdown(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    child = int(await owner.stdout.readline())
    owner.kill()
    await owner.communicate()

    for _ in range(2_000):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            return
        await asyncio.sleep(0.01)
    pytest.fail("the child outlived its owner")


async def test_a_child_has_no_environment_and_loads_parsers_only(tmp_path: Path) -> None:
    async with Extractor(children=1) as extractor:
        await read(extractor, hostile.laughing_html(tmp_path))
        (pid,) = extractor.pids
        child = psutil.Process(pid)

        assert set(child.environ()) <= {"LC_CTYPE"}
        loaded = " ".join(mapping.path for mapping in child.memory_maps())
        assert not any(name in loaded for name in ("torch", "asyncpg", "psqlpy", "greenlet"))
