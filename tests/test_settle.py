"""How often a client asks whether what it sent can be searched."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from service.cli import settle
from service.cli.client import CollectionStatus, ServiceClient
from service.cli.settle import LONGEST_PAUSE, Progress, wait_until_settled


def test_before_anything_has_moved_a_worker_is_taken_for_the_fastest_there_is() -> None:
    progress = Progress()
    progress.see(7, at=10.0)

    assert progress.seconds_left(5_000, at=12.0) == 1.0


@pytest.mark.parametrize(("at", "left"), [(14.0, 8.0), (17.0, 5.0), (30.0, 0.0)])
def test_what_is_left_takes_as_long_as_what_was_done_did_and_a_part_of_it_is_over(at: float, left: float) -> None:
    progress = Progress()
    for finished, seen in ((7, 10.0), (107, 12.0), (207, 14.0), (207, 15.0)):
        progress.see(finished, at=seen)

    assert progress.seconds_left(400, at=at) == pytest.approx(left)


class Loading:
    """A service that finishes a batch of documents every few seconds of a clock that only sleeping moves."""

    def __init__(self, *, documents: int, batch: int, seconds: float) -> None:
        self.documents, self.batch, self.seconds = documents, batch, seconds
        self.now, self.asked = 0.0, list[float]()

    async def collection_status(self, _name: str) -> CollectionStatus:
        self.asked.append(self.now)
        done = min(int(self.now / self.seconds) * self.batch, self.documents)
        left = self.documents - done
        return CollectionStatus(
            pending=left,
            processing=0,
            indexed=done,
            failed=0,
            waiting_jobs=left,
            dead_jobs=0,
            settled=left == 0,
        )

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def looks(loading: Loading, monkeypatch: pytest.MonkeyPatch) -> Sequence[float]:
    monkeypatch.setattr(settle, "time", SimpleNamespace(monotonic=lambda: loading.now))
    monkeypatch.setattr(settle, "asyncio", SimpleNamespace(sleep=loading.sleep))
    await wait_until_settled(cast("ServiceClient", loading), "c", last_pause=0.1)
    return loading.asked


async def test_a_load_is_looked_at_rarely_and_its_end_is_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look every tenth of a second took the service and Postgres one of forty seconds."""
    loading = Loading(documents=1_280, batch=128, seconds=4.21)

    asked = await looks(loading, monkeypatch)

    assert asked[-1] - 42.1 <= 0.5
    assert len([at for at in asked if 4.21 < at <= 37.9]) <= 34 / LONGEST_PAUSE + 8
