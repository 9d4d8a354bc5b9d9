"""`service doctor`: everything that a start-up or a search depends on, looked at one by one, each finding with its remedy."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from service.cli.address import DATA_DIR
from service.cli.checks import database, outside
from service.cli.checks.bucket import check_bucket
from service.cli.checks.finding import Finding, Report, checking
from service.cli.checks.machine import check_disk, check_python
from service.cli.own_settings import own_settings
from service.db.primary import Primary
from service.resources import doors, open_blobs
from service.settings import Settings

COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a finding, a line each.")] = False,
) -> None:
    """Look at everything the service depends on, and say what is wrong and what helps; exit code 1 when something is.

    The settings are those of the environment, or of the service that `make run` started in DATA_DIR.
    """
    found: list[Finding] = []
    try:
        asyncio.run(examine(os.environ, found.append))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if as_json:
        for finding in found:
            fields = {name: getattr(finding, name) for name in ("check", "level", "sentence", "remedy")}
            typer.echo(orjson.dumps(fields).decode())
    else:
        show(found)
    raise typer.Exit(any(finding.level == "error" for finding in found))


async def examine(environment: Mapping[str, str], report: Report) -> None:
    check_python(report)
    with checking("settings", report, remedy="compare the environment with .env.example, or: make run") as found:
        settings = own_settings(environment)
        found.ok("all there")
    if found.said[-1].level == "ok":
        await examine_database(settings, report)
        await examine_bucket(settings, report)
    check_disk(Path(environment.get("DATA_DIR") or DATA_DIR), report)


async def examine_database(settings: Settings, report: Report) -> None:
    """What lies behind a door that does not open is not asked for: the one finding would come back ten times."""
    main, search = doors(settings)
    tracked = settings.pg_statement_mode == "tracked"
    main_opens = await outside.check_door(main, tracked=tracked, report=report)
    search_opens = await outside.check_door(search, tracked=tracked, report=report)
    if main_opens:
        primary = Primary(main.address, pool_size=2, tracked=tracked)
        try:
            for check in (database.check_versions, database.check_application, database.check_security):
                await check(primary, report)
            for check in (
                database.check_indexes,
                database.check_statistics,
                database.check_clock,
                database.check_queue,
            ):
                await check(primary, report)
            await database.check_profile(primary, settings.embedding_model, report)
        finally:
            await primary.close()
    if search_opens:
        reading = Primary(search.address, pool_size=2, tracked=tracked)
        try:
            await database.check_searcher(reading, report)
        finally:
            await reading.close()
    await outside.check_migrations(settings, report)


async def examine_bucket(settings: Settings, report: Report) -> None:
    with checking("bucket", report, remedy="compare S3_ENDPOINT_URL with .env.example"):
        blobs = open_blobs(settings)
        try:
            await check_bucket(blobs, report)
        finally:
            await blobs.close()


def show(found: list[Finding]) -> None:
    """Remedies below the table, unbroken: they are there to be copied."""
    console = Console()
    table = Table("check", "", "what was found")
    for finding in found:
        table.add_row(finding.check, f"[{COLOURS[finding.level]}]{finding.level}[/]", finding.sentence)
    console.print(table)
    for finding in found:
        if finding.remedy and finding.level != "ok":
            console.print(
                f"{finding.check}: {finding.sentence}.",
                style=COLOURS[finding.level],
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
            console.print(f"  {finding.remedy}\n", markup=False, highlight=False, soft_wrap=True)
    errors, warnings = (sum(finding.level == level for finding in found) for level in ("error", "warning"))
    console.print(f"{len(found)} findings: {errors} errors, {warnings} warnings.", highlight=False)
