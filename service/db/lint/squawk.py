"""squawk, asked about every migration at once: https://squawkhq.com. It sees single statements; the phases are ours."""

import json
import subprocess
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from service.db.lint.findings import Finding
from service.db.lint.revisions import Revision
from service.domain.errors import ServiceError

POSTGRES = "18.0"

# Rules that are left out, with the reason.
LEFT_OUT: Mapping[str, str] = {
    "require-lock-timeout": "migrations/env.py sets it for every migration",
    "require-statement-timeout": "migrations/env.py sets it for every migration",
    "prefer-robust-stmts": "a migration is one transaction, and the index of another one is dropped before it is built",
    "prefer-bigint-over-int": "an int is chosen where two thousand million are enough",
    "prefer-identity": "keys are UUIDv7, made by the service",
    "adding-not-nullable-field": "set-not-null knows the CHECK that was validated before",
    "ban-drop-not-null": "it only loosens",
    "ban-drop-constraint": "removal-in-expand knows those whose end only loosens",
}
IN_CONTRACT: Mapping[str, str] = {
    "ban-drop-column": "what contract is for, behind its gate",
    "ban-drop-table": "what contract is for, behind its gate",
}
# What both look for: where our rule has already spoken of a statement, squawk's sentence adds nothing.
TWINS: Mapping[str, str] = {
    "adding-field-with-default": "volatile-default",
    "adding-serial-primary-key-field": "index-not-concurrent",
    "adding-foreign-key-constraint": "constraint-not-valid",
    "adding-required-field": "set-not-null",
    "ban-concurrent-index-creation-in-transaction": "concurrent-index",
    "ban-drop-column": "removal-in-expand",
    "ban-drop-table": "removal-in-expand",
    "ban-truncate-cascade": "data-change",
    "changing-column-type": "type-change",
    "constraint-missing-not-valid": "constraint-not-valid",
    "disallowed-unique-constraint": "index-not-concurrent",
    "renaming-column": "rename",
    "renaming-table": "rename",
    "require-concurrent-index-creation": "index-not-concurrent",
    "require-concurrent-index-deletion": "index-not-concurrent",
}


class SquawkError(ServiceError):
    """It is not installed, or it did not answer."""


def squawk(revisions: Sequence[Revision]) -> list[Finding]:
    """Raises SquawkError."""
    program = Path(sysconfig.get_path("scripts")) / "squawk"
    if not program.exists():
        raise SquawkError("squawk is not installed; add it with: make dev")
    found = []
    for contract in (False, True):
        part = [each for each in revisions if (each.phase == "contract") is contract]
        left_out = [*LEFT_OUT, *(IN_CONTRACT if contract else ())]
        if part:
            found += ask(program, part, left_out)
    return found


def ask(program: Path, revisions: Sequence[Revision], left_out: Sequence[str]) -> list[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        # Its own configuration is named, or squawk would look for one in every parent folder.
        settings = Path(folder) / "squawk.toml"
        settings.touch()
        lines: dict[str, list[int]] = {}
        for place, revision in enumerate(revisions):
            path = Path(folder) / f"{place}.sql"
            path.write_text("".join(f"{each.text};\n" for each in revision.statements))
            lines[path.name] = [
                number for number, each in enumerate(revision.statements) for _ in each.text.split("\n")
            ]
        answer = subprocess.run(  # noqa: S603  our own program and files
            [
                *(program, "--config", settings, "--pg-version", POSTGRES, "--reporter", "json"),
                *(f"--exclude={name}" for name in left_out),
                *(Path(folder) / name for name in lines),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            said = json.loads(answer.stdout or "[]")
        except json.JSONDecodeError:
            said = None
        if answer.returncode not in {0, 1} or said is None or (answer.returncode == 1 and not said):
            raise SquawkError(f"squawk did not answer: {(answer.stderr or answer.stdout).strip()[:300]}")
    return [finding(each, revisions[int(Path(each["file"]).stem)], lines[Path(each["file"]).name]) for each in said]


def finding(said: Mapping[str, str | int], revision: Revision, lines: Sequence[int]) -> Finding:
    line = min(int(said["line"]), len(lines) - 1)
    place = lines[line]
    sentence = " ".join(str(part).strip() for part in (said["message"], said["help"]) if part)
    return Finding(str(revision), place + 1, str(revision.statements[place]), str(said["rule_name"]), sentence)
