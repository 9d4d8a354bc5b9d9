"""What is rehearsed: releases, the oldest first, and every schema on their way, on one ground."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rehearsal.ground import Ground
from rehearsal.invariants import read_backfills
from rehearsal.releases import Release
from rehearsal.schemas import Stage
from service.db.backfill import Backfill


@dataclass(frozen=True)
class Plan:
    ground: Ground
    releases: Sequence[Release]
    stages: Sequence[Stage]

    @property
    def newest(self) -> Release:
        return self.releases[-1]

    @property
    def backfills(self) -> Mapping[str, Backfill]:
        return read_backfills(self.newest.tree)
