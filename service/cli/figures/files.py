"""Whether real and hostile files end as their manifest says."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from service.cli.failures import CommandError, Failure
from service.cli.figures.figure import Figure, data_folder, open_own_collection, report
from service.cli.progress import print_failures
from service.cli.settle import wait_until_settled
from service.cli.sources import Source
from service.cli.uploads import Tally, send_files


@dataclass(frozen=True)
class Ended:
    """How a document ended: its status, and the code of its error."""

    status: str
    code: str | None = None


def files(
    folder: Annotated[Path | None, typer.Argument(help="A folder with MANIFEST.tsv; DATA/files by default.")] = None,
) -> None:
    """Upload every file of a manifest as it is and print those that end otherwise than it says."""
    report(measure(folder))


async def measure(folder: Path | None) -> Figure:
    folder = folder or data_folder("files")
    if folder is None:
        raise CommandError("There are no files to try: DATA names no folder with files/MANIFEST.tsv.")
    manifest = read_manifest(folder / "MANIFEST.tsv")
    missing = [path for path in manifest if not (folder / path).is_file()]
    if missing:
        raise CommandError(f"{folder} has no {missing[0]}, which its manifest names.")
    sources = [Source(folder / path, path, (folder / path).stat().st_size) for path in manifest]
    tally = Tally()
    async with open_own_collection("files") as (client, name):
        await send_files(
            sources, client=client, collection=name, concurrency=4, tally=tally, advance=lambda _documents, _size: None
        )
        await wait_until_settled(client, name)
        ended = {
            document["external_id"]: Ended(document["status"], (document["error"] or {}).get("code"))
            async for document in client.list_documents(name)
        }
    refused = {failure.name: failure.code for failure in tally.failures}
    wrong = mismatches(manifest, ended=ended, refused=refused)
    print_failures(Console(), wrong, count=len(wrong))
    right = len(manifest) - len(wrong)
    return Figure(
        what=f"{folder.name}: files that end as MANIFEST.tsv says",
        goal=f"all {len(manifest)}",
        measured=f"{right} of {len(manifest)} as the manifest says",
        met=not wrong,
    )


def read_manifest(file: Path) -> dict[str, str]:
    """Return the outcome by path: `indexed`, `failed` or `either`."""
    try:
        with file.open(encoding="utf-8", newline="") as rows:
            return {row["path"]: row["outcome"] for row in csv.DictReader(rows, delimiter="\t")}
    except (OSError, KeyError):
        raise CommandError(f"{file} cannot be read as a table with the columns path and outcome.") from None


def mismatches(manifest: Mapping[str, str], *, ended: Mapping[str, Ended], refused: Mapping[str, str]) -> list[Failure]:
    """Compare; a file that was refused at the door is wrong too, since the contract accepts it and lets it fail."""
    wrong = []
    for path, outcome in manifest.items():
        end = ended.get(path, Ended("refused", refused.get(path)))
        wanted = {"indexed", "failed"} if outcome == "either" else {outcome}
        if end.status not in wanted:
            wrong.append(Failure(path, end.code or end.status, f"It should be {outcome} and is {end.status}."))
    return wrong
