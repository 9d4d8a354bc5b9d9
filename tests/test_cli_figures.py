"""The pure parts of `service bench`; the figures themselves are measured, not tested."""

from pathlib import Path

import pytest

from service.cli.failures import CommandError
from service.cli.figures.files import Ended, mismatches, read_manifest
from service.cli.figures.texts import made_up_documents


def test_files_are_compared_with_what_the_manifest_says() -> None:
    manifest = {"good": "indexed", "bad": "failed", "odd": "either", "stuck": "either", "turned_away": "failed"}
    ended = {
        "good": Ended("failed", "corrupt"),
        "bad": Ended("failed", "empty"),
        "odd": Ended("indexed"),
        "stuck": Ended("pending"),
    }

    wrong = mismatches(manifest, ended=ended, refused={"turned_away": "unsupported_media_type"})

    assert [(failure.name, failure.code) for failure in wrong] == [
        ("good", "corrupt"),
        ("stuck", "pending"),
        ("turned_away", "unsupported_media_type"),
    ]


def test_a_manifest_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MANIFEST.tsv").write_text("name\tresult\na\tb\n", encoding="utf-8")

    with pytest.raises(CommandError, match="columns path and outcome"):
        read_manifest(tmp_path / "MANIFEST.tsv")


def test_made_up_documents_are_the_same_in_every_run_and_have_many_words() -> None:
    documents = made_up_documents(500)
    words = {word for document in documents for word in document["text"].split()}

    assert documents == made_up_documents(500)
    assert len({document["text"] for document in documents}) == 500
    assert len(words) > 5_000
