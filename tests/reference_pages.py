"""The pages of docs/reference that are made from the code; `make docs` writes them, a test compares them."""

import html
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import typer
import typer.main
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from typer.cli import get_docs_for_click

from service.__main__ import app as doors
from service.api import problems
from service.app import create_app
from service.settings import Settings

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
MADE = "<!-- Made from the code by `make docs`: change it there. -->"

# What only commands read, and no field of Settings.
ELSEWHERE = {
    "DATA_DIR": "Where `make run` keeps everything, and where the commands look for the running service; `.local`.",
    "PORT": "Where `make run` serves; 8000. 0 takes a free one.",
    "SERVICE_URL": "The service that `ingest`, `eval`, `bench` and the other clients talk to; by default the one of `DATA_DIR`.",
    "SERVICE_API_KEY": "The key for it.",
    "DATABASE_ADMIN_URL": "`roles`: a role that may create roles.",
    "MIGRATOR_PASSWORD": "`roles`: what it sets for `hybrid_migrator`.",
    "APPLICATION_PASSWORD": "`roles`: what it sets for `hybrid_application`.",
    "SEARCHER_PASSWORD": "`roles`: what it sets for `hybrid_searcher`.",
}
BOUNDS = {"ge": "At least", "gt": "More than", "le": "At most", "lt": "Less than"}
# What the framework refuses by itself, and what nobody foresaw.
UNRAISED = {
    "malformed": "The body, a cursor or a parameter cannot be read as what it claims to be.",
    "method_not_allowed": "The route exists, with other methods: `Allow` names them.",
    "internal": "A defect of the service. The log has the story under the same `request_id`.",
}


def settings_page() -> str:
    rows = [
        f"| `{name.upper()}` | {words(field)} | {default(field)} |" for name, field in Settings.model_fields.items()
    ]
    others = [f"| `{name}` | {meaning} |" for name, meaning in ELSEWHERE.items()]
    return page(
        "Settings",
        "Each setting is an environment variable and a field of `service/settings.py`. `make run` and"
        " `docker-compose.yml` set what is required; [.env.example](../../.env.example) has the same list to fill in."
        " What is not of its type, or missing, ends the start with one sentence for each.",
        *table("variable", "meaning", "default", rows=rows),
        "",
        "## Read by commands only",
        "",
        *table("variable", "meaning", rows=others),
    )


def words(field: FieldInfo) -> str:
    said = [field.description or ""]
    kind = next((each for each in (field.annotation, *get_args(field.annotation)) if get_origin(each) is Literal), None)
    if kind is not None:
        said.append("One of " + ", ".join(f"`{choice}`" for choice in get_args(kind)) + ".")
    for bound in field.metadata:
        said += [f"{words} {getattr(bound, name)}." for name, words in BOUNDS.items() if hasattr(bound, name)]
    if secret(field.annotation):
        said.append("Secret: never logged.")
    return cell(" ".join(filter(None, said)))


def secret(annotation: object) -> bool:
    parts = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    return SecretStr in parts


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    return "" if field.default in {None, ""} else f"`{field.default}`"


def cli_page() -> str:
    os.environ["COLUMNS"] = "100"  # Defaults that are long would be cut to the terminal.
    group = typer.main.get_command(doors)
    said = get_docs_for_click(obj=group, ctx=typer.Context(group, info_name="service"), name="service")
    said = html.unescape(said).replace("```console\n$ ", "```text\n")
    # Every list of commands is cut at 45 characters, and the headings say the same: only what follows the first is kept.
    body = re.sub(r"\*\*Commands\*\*:\n\n(\* `.*\n)+\n", "", said[said.index("**Commands**") :])
    return page(
        "Commands",
        "`service X` stands for `.venv/bin/python -m service X`, in a container for `python -m service X`; the script"
        " `.venv/bin/hybrid-search` is the same, and shells can complete it. Every command explains itself with `--help`."
        " It ends with 0 when all went well, with 1 when something did not, which is then one sentence on standard error,"
        " with 2 when it was called wrongly, with 3 when what it was asked for is not there (`search`, `show`), and with"
        " 130 when Ctrl-C interrupted it (`run` with 0: that is how it is stopped).",
        body.strip(),
    )


def errors_page() -> str:
    rows: dict[tuple[int, str], str] = {
        (status, code): (error.__doc__ or "").strip().split("\n\n")[0]
        for error, (status, code) in problems.STATUS.items()
    }
    rows |= {(status, code): rows.get((status, code), "") for status, code in problems.HTTP_CODES.items()}
    rows[problems.INTERNAL] = ""
    return page(
        "Errors",
        "Every answer that is not a success is `application/problem+json` (RFC 9457): `type`, `title`, `status`,"
        " `detail`, `code`, `request_id`, and with a 422 `errors`, a list of `field` and `message`. Programs decide by"
        " `code`; `detail` is for people and may change. `X-Request-Id` is on every answer and in every line of the log.",
        *table(
            "status",
            "code",
            "meaning",
            rows=[f"| {s} | `{code}` | {cell(UNRAISED.get(code, said))} |" for (s, code), said in sorted(rows.items())],
        ),
        "",
        "A 503 carries `Retry-After` in seconds; the same request may be sent again then. A document whose file could"
        " not be read is no HTTP error: it is accepted, ends as `failed`, and its `error.code` says why (see"
        " [HTTP](http.md#documents)).",
    )


def routes_page() -> str:
    rows = [
        f"| `{method.upper()}` | `{path}` | {cell(route.get('description') or route.get('summary', ''))} |"
        for path, methods in openapi()["paths"].items()
        for method, route in methods.items()
    ]
    return page(
        "Routes",
        "The same list with every field is `/docs` of a running service, and `/openapi.json` for programs. What they"
        " have in common is in [HTTP](http.md).",
        *table("method", "path", "what it does", rows=rows),
    )


def openapi() -> Mapping[str, Any]:
    """Of an application that has never been started: nothing is opened before its lifespan."""
    nowhere = {name: "http://nowhere.invalid/x" for name, field in Settings.model_fields.items() if field.is_required()}
    document: Mapping[str, Any] = create_app(Settings(**nowhere)).openapi()  # type: ignore[arg-type]  # strings, as in the environment
    return document


def table(*titles: str, rows: list[str]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield "|" + "---|" * len(titles)
    yield from rows


def cell(text: str) -> str:
    """One line; what looks like a tag outside of code is none."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(part.replace("<", "&lt;") if i % 2 == 0 else part for i, part in enumerate(parts))


def page(title: str, introduction: str, *lines: str) -> str:
    return "\n".join([f"# {title}", "", MADE, "", introduction, "", *lines, ""])


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "cli.md": cli_page,
    "errors.md": errors_page,
    "routes.md": routes_page,
}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
        typer.echo(f"docs/reference/{name}")
