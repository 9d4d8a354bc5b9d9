"""Every schema on the way from one release to another, and who may run on it: read from the migrations, without running them."""

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rehearsal.failures import RehearsalError
from rehearsal.releases import Release
from service.domain.releases import order

PHASES = ("base", "expand", "contract")  # folders, in the order in which they run


@dataclass(frozen=True)
class Revision:
    """One migration: what it stands on, and what its gate asks for."""

    id: str
    phase: str
    below: frozenset[str]
    oldest_release: str | None = None
    backfills: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A schema that live releases meet. `floor` is the oldest release that its contract steps let live."""

    name: str
    applied: frozenset[str]
    revision: Revision | None = None  # brings it about; else `backfill` does
    backfill: str | None = None
    floor: str | None = None

    def allows(self, release: Release) -> bool:
        return release.needs in self.applied and (self.floor is None or release.order >= order(self.floor))


def read_revisions(tree: Path) -> dict[str, Revision]:
    """Of a tree, in an order in which they can run: what is additive as early as it can."""
    found = {}
    for phase in PHASES:
        for path in sorted((tree / "migrations" / "versions" / phase).glob("*.py")):
            revision = read_revision(path, phase)
            found[revision.id] = revision
    return {revision.id: revision for revision in in_order(found.values())}


def read_revision(path: Path, phase: str) -> Revision:
    module = ast.parse(path.read_text(encoding="utf-8"))
    said = dict(assignments(module))
    if "revision" not in said:
        raise RehearsalError(f"{path.name} names no revision")
    below = frozenset([*names(said.get("down_revision")), *names(said.get("depends_on"))])
    asked = next(gate_calls(module), {})
    oldest = asked.get("oldest_release")
    return Revision(
        str(said["revision"]), phase, below, None if oldest is None else str(oldest), names(asked.get("backfills"))
    )


def assignments(module: ast.Module) -> Iterator[tuple[str, object]]:
    for node in module.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        if isinstance(target, ast.Name):
            try:
                yield target.id, ast.literal_eval(node.value)
            except ValueError:  # Some other constant of the migration.
                continue


def gate_calls(module: ast.Module) -> Iterator[dict[str, object]]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "gate":
            yield {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg}


def names(said: object) -> tuple[str, ...]:
    """Alembic takes none, one or several."""
    if said is None:
        return ()
    return (said,) if isinstance(said, str) else tuple(str(name) for name in said)  # type: ignore[attr-defined]


def in_order(revisions: Iterable[Revision]) -> Iterator[Revision]:
    """Each after those it stands on; of what could come next, what is additive."""
    left = list(revisions)
    done: set[str] = set()
    while left:
        ready = [revision for revision in left if revision.below <= done]
        if not ready:
            raise RehearsalError(f"no order of these migrations works: {', '.join(revision.id for revision in left)}")
        chosen = min(ready, key=lambda revision: (PHASES.index(revision.phase), left.index(revision)))
        left.remove(chosen)
        done.add(chosen.id)
        yield chosen


def stages_between(start: Path, end: Path) -> list[Stage]:
    """From the schema that the tree `start` makes to that of `end`, one after each step."""
    before, revisions = frozenset(read_revisions(start)), read_revisions(end)
    if unknown := before - revisions.keys():
        raise RehearsalError(
            f"migrations of the older release are gone from the newer one: {', '.join(sorted(unknown))}"
        )
    floor = highest([revisions[name].oldest_release for name in before])
    stages = [Stage("as it was", before, floor=floor)]
    filled: set[str] = set()
    for revision in revisions.values():
        last = stages[-1]
        if revision.id in before:
            continue
        for name in revision.backfills:
            if name not in filled:
                filled.add(name)
                stages.append(Stage(f"backfilled {name}", last.applied, backfill=name, floor=last.floor))
        floor = highest([last.floor, revision.oldest_release])
        stages.append(Stage(f"{revision.phase} {revision.id}", last.applied | {revision.id}, revision, floor=floor))
    return stages


def highest(releases: Sequence[str | None]) -> str | None:
    return max(filter(None, releases), key=order, default=None)
