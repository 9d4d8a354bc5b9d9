"""The arithmetic of `make rehearse`: what it takes for a failure, and that each of its checks can fail."""

import asyncio
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import asyncpg
import httpx
import pytest

from rehearsal.commands import Answer, EndlessError, run
from rehearsal.contract import BrokenPromiseError, Voice, check_contract
from rehearsal.failures import RehearsalError
from rehearsal.invariants import differing, unfilled
from rehearsal.kills import Killed
from rehearsal.ledger import Entry, Ledger, difference
from rehearsal.live import Outcome
from rehearsal.records import Phase, Record, Records, percentile
from rehearsal.releases import Release, find_commits, lay_out, take_releases
from rehearsal.report import Report, as_json
from rehearsal.schemas import Revision, in_order, stages_between
from rehearsal.together import together
from rehearsal.unsafe import PLANTS, Caught, planted
from rehearsal.waits import LockWait, count_given_up, longest, read_waits
from rehearsal.walk import Meeting, companies
from service.db.backfill import Backfill
from tests.api_calls import Api, numbers

TOLD = Entry("1", "a", 3, "Title", "digest")
SHOWN: dict[str, Any] = {
    "id": "1",
    "version": 3,
    "title": "Title",
    "sha256": "digest",
    "status": "indexed",
    "error": None,
}


# What clients were told


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"title": "Another"},
        {"sha256": "other"},
        {"status": "pending"},
        {"status": "failed", "error": {"code": "corrupt"}},
    ],
)
def test_a_document_that_is_not_as_acknowledged_is_named(change: dict[str, Any]) -> None:
    assert difference(TOLD, SHOWN) is None
    assert difference(TOLD, SHOWN | change)


@pytest.mark.parametrize("error", [None, {"code": "empty", "message": ""}])
def test_a_failed_document_must_keep_its_error(error: object) -> None:
    entry = replace(TOLD, fails=True)

    assert difference(entry, SHOWN | {"status": "failed", "error": {"code": "corrupt", "message": "x"}}) is None
    assert difference(entry, SHOWN | {"status": "failed", "error": error})


def test_what_is_lost_what_came_back_and_what_nobody_made_is_found() -> None:
    ledger = Ledger()
    for entry in (TOLD, Entry("2", "b", 1, None, "x"), Entry("3", "c", 1, None, "x", deleted=True)):
        ledger.add(entry)

    wrong = ledger.compare([SHOWN, SHOWN | {"id": "3"}, SHOWN | {"id": "4"}])

    assert wrong == [
        "2 was acknowledged and is lost",
        "3 was deleted and is there",
        "1 documents are there that nobody was told of",
    ]


def test_a_write_whose_answer_was_lost_may_have_happened_or_not() -> None:
    ledger = Ledger(lost_answers=1)
    ledger.add(replace(TOLD, uncertain=True))

    assert ledger.compare([]) == []
    assert ledger.compare([SHOWN | {"version": 9}, SHOWN | {"id": "2"}]) == []


# Phases


def test_the_percentile_is_the_smallest_value_that_so_many_do_not_exceed() -> None:
    ordered = [float(number) for number in range(1, 201)]

    assert (percentile(ordered, 0.5), percentile(ordered, 0.99), percentile([7.0], 0.99)) == (100, 198, 7)
    assert percentile([], 0.99) != percentile([], 0.99), "not a number"


def test_a_phase_that_comes_twice_is_one_and_counts_searches_alone() -> None:
    records = Records()
    for name, now in (("before", 0.0), ("contract", 10.0), ("between", 12.0), ("contract", 15.0)):
        records.enter(name, now)
    records.all += [
        Record("contract", "search hybrid", "1", 0.2),
        Record("contract", "put", "1", 9.0),
        Record("contract", "search lexical", "2", 0.4, failure="503"),
    ]

    phases = {phase.name: phase for phase in records.phases(20.0)}

    assert phases["contract"] == Phase("contract", 7.0, 3, 1, 2, 0.2, 0.4)
    assert [phases[name].seconds for name in ("before", "between")] == [10, 3]


# Locks


def logged(role: str, database: str, words: str) -> str:
    return f"2026-11-23 02:00:00.000 UTC [12] {role}@{database} {words}"


def acquired(seconds: float) -> str:
    return f"LOG:  process 12 acquired AccessShareLock on relation 9 of database 5 after {seconds * 1000:.3f} ms"


GAVE_UP = "ERROR:  canceling statement due to lock timeout"
LOG = [
    logged("hybrid_application", "live", acquired(0.02).replace("acquired", "still waiting for")),
    logged("hybrid_application", "live", acquired(0.51225)),
    logged("hybrid_searcher", "other", acquired(4)),
    logged("hybrid_migrator", "live", acquired(3)),
    logged("hybrid_searcher", "live", GAVE_UP),
    logged("hybrid_migrator", "live", GAVE_UP),
]


def test_the_longest_wait_is_that_of_a_client_of_this_database() -> None:
    wait = longest(read_waits(LOG, "live"))

    assert wait == LockWait("hybrid_application", "AccessShareLock on relation 9 of database 5", 0.51225)
    assert count_given_up(LOG, "live") == 1


# Schemas and who may run on them

MIGRATION = """
from service.db.gates import gate

revision: str = "{id}"
down_revision = {below!r}
depends_on = {beside!r}


def upgrade():
    {upgrade}
"""


def write_tree(
    place: Path, version: str, needs: str, revisions: Mapping[str, tuple[str, str | None, str | None, str]]
) -> Release:
    """`revisions`: id to phase, the one below, the one beside, and the gate."""
    (place / "service").mkdir(parents=True)
    (place / "service" / "release.py").write_text(f'RELEASE = "{version}"\n\nNEEDS = "{needs}"\n')
    (place / "pyproject.toml").write_text(f'[project]\nname = "x"\nversion = "{version}"\n')
    for number, (name, (phase, below, beside, upgrade)) in enumerate(revisions.items()):
        folder = place / "migrations" / "versions" / phase
        folder.mkdir(parents=True, exist_ok=True)
        text = MIGRATION.format(id=name, below=below, beside=beside, upgrade=upgrade)
        (folder / f"{number}_{phase}.py").write_text(text)
    return Release(version, place, needs)


Steps = dict[str, tuple[str, str | None, str | None, str]]

BASE: Steps = {"0001": ("base", None, None, "pass"), "e1": ("expand", "0001", None, "pass")}
CHANGE: Steps = {
    "c1": ("contract", "0001", "e2", 'gate(op, oldest_release="0.3.0", backfills=["fill"])'),
    "c2": ("contract", "c1", None, 'gate(op, oldest_release="0.10.0")'),
    "e2": ("expand", "e1", None, "pass"),
}


def make_releases(folder: Path) -> list[Release]:
    return [
        write_tree(folder / "a", "0.2.0", "e1", BASE),
        write_tree(folder / "b", "0.3.0", "e2", BASE | CHANGE),
        write_tree(folder / "c", "0.10.0", "c1", BASE | CHANGE),
    ]


def test_each_schema_allows_the_releases_that_its_gates_and_their_needs_say(tmp_path: Path) -> None:
    releases = make_releases(tmp_path)

    stages = stages_between(releases[0].tree, releases[-1].tree)

    assert [(stage.name, [str(each) for each in releases if stage.allows(each)]) for stage in stages] == [
        ("as it was", ["0.2.0"]),
        ("expand e2", ["0.2.0", "0.3.0"]),
        ("backfilled fill", ["0.2.0", "0.3.0"]),
        ("contract c1", ["0.3.0", "0.10.0"]),
        ("contract c2", ["0.10.0"]),
    ]


def test_every_release_meets_every_schema_and_the_allowed_ones_meet_each_other(tmp_path: Path) -> None:
    releases = make_releases(tmp_path)
    stage = stages_between(releases[0].tree, releases[-1].tree)[1]

    assert [[str(each) for each in company] for company in companies(stage, releases)] == [
        ["0.2.0"],
        ["0.3.0"],
        ["0.10.0"],
        ["0.2.0", "0.3.0"],
    ]


def test_migrations_without_an_order_are_refused() -> None:
    with pytest.raises(RehearsalError, match="no order"):
        list(in_order([Revision("a", "expand", frozenset("b")), Revision("b", "expand", frozenset("a"))]))


def test_a_migration_that_the_newer_release_has_lost_is_refused(tmp_path: Path) -> None:
    older, newer = make_releases(tmp_path)[1:]
    max((newer.tree / "migrations" / "versions" / "contract").glob("*.py")).unlink()

    with pytest.raises(RehearsalError, match="are gone"):
        stages_between(older.tree, newer.tree)


def test_a_plant_follows_all_that_is_there(tmp_path: Path) -> None:
    newest = make_releases(tmp_path)[-1]
    tree = planted(newest, PLANTS[0], tmp_path / "copy")

    stages = stages_between(newest.tree, tree)

    assert [stage.name for stage in stages] == ["as it was", "expand f00dfeed0001"]
    assert stages[-1].revision is not None
    assert stages[-1].revision.below == {"e2", "c2"}


# Releases in the history


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    place = tmp_path / "repository"
    place.mkdir()
    git(place, "init", "--quiet", "--initial-branch=main")
    for version, note in (("0.1.0", "x"), ("0.2.0", "x"), ("0.2.0", "y"), ("0.3.0", "x"), ("0.3.0", "y")):
        write = write_tree if not (place / "service").exists() else rewrite
        write(place, version, "e1", BASE)
        if version == "0.1.0":
            (place / "service" / "release.py").unlink()
        (place / "service" / "note.py").write_text(note)
        git(place, "add", "-A")
        git(place, "commit", "--quiet", "-m", f"{version} {note}")
    return place


def rewrite(place: Path, version: str, needs: str, _: object) -> Release:
    (place / "service" / "release.py").write_text(f'RELEASE = "{version}"\n\nNEEDS = "{needs}"\n')
    (place / "pyproject.toml").write_text(f'[project]\nname = "x"\nversion = "{version}"\n')
    return Release(version, place, needs)


def git(place: Path, *words: str) -> None:
    author = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(place), *author, *words], check=True)


def test_a_release_is_the_last_commit_of_its_version(repository: Path, tmp_path: Path) -> None:
    commits = find_commits(repository)
    for version, commit in commits.items():
        lay_out(repository, commit, tmp_path / version)

    assert list(commits) == ["0.1.0", "0.2.0", "0.3.0"]
    assert [(tmp_path / version / "service" / "note.py").read_text() for version in commits] == ["x", "y", "y"]


def test_only_releases_that_announce_themselves_take_part(repository: Path, tmp_path: Path) -> None:
    taken = take_releases(repository, tmp_path / "taken")

    assert [(each.version, each.needs) for each in taken] == [("0.2.0", "e1"), ("0.3.0", "e1")]
    with pytest.raises(RehearsalError, match=r"0\.1\.0 does not announce itself"):
        take_releases(repository, tmp_path / "wanted", wanted=["0.1.0", "0.3.0"])


def test_a_shallow_clone_is_told_how_to_get_the_rest(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", str(tmp_path / "shallow"))

    with pytest.raises(RehearsalError, match="git fetch --unshallow"):
        take_releases(tmp_path / "shallow", tmp_path / "taken")


# Columns


async def test_rows_whose_old_and_new_column_differ_are_counted_and_unfilled_ones_are_not(
    admin: asyncpg.Connection,
) -> None:
    backfill = Backfill("x", "halves", ["id"], "new is null and old is not null", {"new": "upper(old)"}, "e", "c")
    await admin.execute("create temp table halves (id int, old text, new text)")
    await admin.execute("insert into halves values (1, 'a', 'A'), (2, 'b', 'wrong'), (3, 'c', null), (4, null, null)")

    assert await admin.fetchval(differing(backfill)) == 1
    assert await admin.fetchval(unfilled(backfill)) == 1


# The contract suite, on the service of this tree


def voice(api: Api) -> Voice:
    return Voice([api.client])


@pytest.mark.usefixtures("worker")
async def test_the_contract_suite_passes_here(api: Api) -> None:
    await check_contract(voice(api), f"suite-{next(numbers)}")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("broken", "mended", "sentence"),
    [
        (
            "alter table document_versions rename column source to origin",
            "alter table document_versions rename column origin to source",
            "answered 500",
        ),
        (
            "alter table document_versions add constraint never check (filename is null) not valid",
            "alter table document_versions drop constraint never",
            "answered 500",
        ),
    ],
)
async def test_the_contract_suite_notices_a_schema_that_does_not_fit(
    api: Api, admin: asyncpg.Connection, broken: str, mended: str, sentence: str
) -> None:
    await admin.execute(broken)
    try:
        with pytest.raises(BrokenPromiseError, match=sentence):
            await check_contract(voice(api), f"suite-{next(numbers)}")
    finally:
        await admin.execute(mended)


async def test_a_voice_goes_to_each_address_in_turn() -> None:
    asked: list[str] = []

    def address(name: str) -> httpx.AsyncClient:
        transport = httpx.MockTransport(lambda _: asked.append(name) or httpx.Response(200))  # type: ignore[func-returns-value]
        return httpx.AsyncClient(transport=transport, base_url="http://x")

    speaker = Voice([address("old"), address("new")])
    for _ in range(3):
        await speaker.ask("GET", "/", 200)

    assert asked == ["old", "new", "old"]


# Commands


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (Answer(1, "", "Error: not yet\n", 0), "not yet"),
        (Answer(0, "fine", "", 0), None),
        (Answer(1, "", "Traceback\nValueError: x\n", 0), None),
    ],
)
def test_a_refusal_is_one_sentence_and_no_traceback(answer: Answer, refusal: str | None) -> None:
    assert answer.refusal == refusal


async def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(EndlessError):
        await run(tmp_path, "-c", "import time; time.sleep(60)", environment={}, patience=0.3)


async def test_of_several_works_the_first_failure_ends_all() -> None:
    ended: list[int] = []

    async def work(number: int) -> int:
        if number == 1:
            raise RehearsalError("the second")
        await asyncio.sleep(number)
        ended.append(number)
        return number

    with pytest.raises(RehearsalError, match="the second"):
        await together((work(number) for number in range(4)), at_once=1)

    assert ended == [0]


# Verdicts


def good_live() -> Outcome:
    phases = [Phase(name, 20, 100, 0, 60, 0.02, 0.1) for name in ("before", "expand", "backfill", "contract")]
    return Outcome("a pooler", 30, 0.5, phases, requests=400, joined=True, compared=2)


def good() -> Report:
    return Report(
        ["0.2.0", "0.3.0"],
        1,
        [Meeting("as it was", ("0.2.0",), allowed=True, wrong=None)],
        good_live(),
        [Caught(plant, None if plant.harmless else "found", None) for plant in PLANTS],
        [Killed("expand", ("ALTER TABLE",), None)],
    )


def live_of(report: Report) -> Outcome:
    return cast("Outcome", report.live)


SPOILERS: dict[str, Callable[[Report], object]] = {
    "a meeting": lambda r: r.meetings.append(Meeting("x", ("0.2.0",), allowed=False, wrong="it starts")),  # type: ignore[union-attr]
    "a failed request": lambda r: live_of(r).failed.append(Record("before", "put", "x", 1, "503")),
    "no request": lambda r: setattr(r.live, "requests", 0),
    "a lost document": lambda r: live_of(r).lost.append("1 is lost"),
    "a diverging row": lambda r: live_of(r).diverging.append("1 row"),
    "nothing compared": lambda r: setattr(r.live, "compared", 0),
    "a stale plan": lambda r: setattr(r.live, "stale_plans", 1),
    "a long wait": lambda r: setattr(r.live, "wait", LockWait("hybrid_application", "x", 1.0)),
    "a client that gave up waiting": lambda r: setattr(r.live, "given_up", 1),
    "a gate": lambda r: live_of(r).misled.append("c1 ran early"),
    "a slow phase": lambda r: live_of(r).phases.insert(0, Phase("expand", 1, 1, 0, 1, 0.1, 0.21)),
    "no phase before": lambda r: live_of(r).phases.pop(0),
    "a plant that passes": lambda r: r.caught.append(Caught(PLANTS[0], None, None)),  # type: ignore[union-attr]
    "a harmless one that does not": lambda r: r.caught.append(Caught(PLANTS[-1], "found", None)),  # type: ignore[union-attr]
    "a step that does not end": lambda r: r.killed.append(Killed("contract", ("x",), "1 invalid indexes")),  # type: ignore[union-attr]
    "a step that was never killed": lambda r: r.killed.append(Killed("contract", (), None)),  # type: ignore[union-attr]
    "a part that broke off": lambda r: r.broken.append("live: time is over"),
}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS)
def test_one_defect_is_enough_to_miss(spoil: Callable[[Report], object]) -> None:
    report = good()
    assert report.met

    spoil(report)

    assert not report.met
    assert '"met": false' in as_json(report)
