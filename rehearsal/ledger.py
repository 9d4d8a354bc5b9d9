"""What clients were told is written, and whether it is there in the end."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class Entry:
    """A document as its one writer was last told of it. `uncertain`: a write was sent, and its answer never came."""

    id: str
    external_id: str
    version: int
    title: str | None
    sha256: str
    fails: bool = False
    deleted: bool = False
    uncertain: bool = False
    busy: bool = False


@dataclass
class Ledger:
    """Entries by the document's id; only the writer of a moment, who has marked it busy, changes an entry."""

    entries: dict[str, Entry] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)  # of the entries, to draw from
    lost_answers: int = 0  # documents that may have been made: nobody knows their ids

    def add(self, entry: Entry) -> None:
        self.entries[entry.id] = entry
        self.keys.append(entry.id)

    def living(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if not entry.deleted and not entry.uncertain]

    def compare(self, found: Iterable[Json]) -> list[str]:
        """One sentence for each document that is not as it was acknowledged; `found` is all that the service lists."""
        documents = {document["id"]: document for document in found}
        wrong = [
            sentence
            for entry in self.entries.values()
            if not entry.uncertain and (sentence := difference(entry, documents.get(entry.id)))
        ]
        strangers = documents.keys() - self.entries.keys()
        if len(strangers) > self.lost_answers:
            wrong.append(f"{len(strangers)} documents are there that nobody was told of")
        return wrong


def difference(entry: Entry, document: Mapping[str, Any] | None) -> str | None:
    """None when it is as it was acknowledged."""
    if entry.deleted:
        return None if document is None else f"{entry.id} was deleted and is there"
    if document is None:
        return f"{entry.id} was acknowledged and is lost"
    told = {"version": entry.version, "title": entry.title, "sha256": entry.sha256}
    told["status"] = "failed" if entry.fails else "indexed"
    told["error"] = "corrupt" if entry.fails else None
    shown = {name: document[name] for name in ("version", "title", "sha256", "status")}
    shown["error"] = (document["error"] or {}).get("code")
    differs = [name for name in told if told[name] != shown[name]]
    return (
        f"{entry.id}: " + ", ".join(f"{name} is {shown[name]!r} for {told[name]!r}" for name in differs)
        if differs
        else None
    )


def sha256_of(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
