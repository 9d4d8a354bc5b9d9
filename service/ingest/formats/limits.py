"""How much of a machine one uploaded file may take."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Beyond any of these a file ends as `too_large` or `timeout`, whatever it holds."""

    text_bytes: int = 10 * MEBIBYTE  # As UTF-8.
    pages: int = 2_000
    zip_entries: int = 1_000
    zip_bytes: int = 200 * MEBIBYTE  # Unpacked.
    zip_ratio: int = 100  # Unpacked over packed; word processors stay below 30.
    memory_bytes: int = 1_024 * MEBIBYTE  # Address space. An idle child has 64 MB; a page of 95 MB needs 500.
    cpu_seconds: int = 20
    files_per_child: int = 500  # Then a fresh one, so that leaks in a parser's C code never add up.
