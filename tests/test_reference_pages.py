"""docs/reference says what the code says."""

import re
import subprocess
from collections.abc import Callable

import pytest

from service.settings import Settings
from tests.documented import ROOT
from tests.reference_pages import FOLDER, PAGES


@pytest.mark.parametrize(("name", "make"), PAGES.items(), ids=PAGES)
def test_a_page_made_from_the_code_is_up_to_date(name: str, make: Callable[[], str]) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == make(), (
        f"docs/reference/{name} is out of date: run `make docs`"
    )


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_is(name: str) -> None:
    assert Settings.model_fields[name].description


def test_every_error_and_route_says_what_it_means() -> None:
    rows = [
        row.split("|") for page in ("errors.md", "routes.md") for row in PAGES[page]().splitlines() if row[:1] == "|"
    ]

    assert [row for row in rows if not row[-2].strip()] == []
    assert len(rows) > 30


def test_make_help_lists_every_target() -> None:
    phony = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    said = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert {line.split()[1] for line in said.splitlines() if line.startswith("  make ")} == set(" ".join(phony).split())
