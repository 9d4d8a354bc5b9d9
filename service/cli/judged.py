"""Collections with judged queries in the layout of BEIR, and the two measures that evaluation prints."""

import csv
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import ir_measures
import orjson

from service.cli.failures import CommandError
from service.cli.lines import open_lines, read_lines

DEPTH = 100  # Hits asked for, because Recall@100 looks at that many.
NDCG, RECALL = ir_measures.nDCG @ 10, ir_measures.R @ DEPTH

# The contract: a minus after white space, directly before a letter, excludes the word that follows.
EXCLUSION = re.compile(r"(?<!\S)-+(?=[^\W\d_])")


@dataclass(frozen=True)
class Judged:
    """`qrels` holds the grade of each judged document by query; `queries` has the text of every query in it."""

    corpus: Path
    documents: int
    fingerprint: str
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]

    def first(self, count: int | None) -> Self:
        """Keep the first so many queries and their judgements; None keeps all."""
        queries = dict(list(self.queries.items())[:count])
        return replace(self, queries=queries, qrels={query: self.qrels[query] for query in queries})


def read_judged(folder: Path) -> Judged:
    """Read queries and judgements whole and the corpus once past; raises CommandError that names what is missing."""
    corpus, queries = _either(folder, "corpus.jsonl"), _either(folder, "queries.jsonl")
    qrels = read_qrels(folder / "qrels" / "test.tsv")
    texts = {line["_id"]: line.get("text") or "" for line in _objects(queries)}
    missing = [query for query in qrels if query not in texts]
    if missing:
        raise CommandError(f"{queries} has no query {missing[0]!r}, which qrels/test.tsv judges.")
    # A document of neither title nor text is refused by the service and cannot be found by any search.
    named = {line["_id"] for line in _objects(corpus) if (line.get("text") or line.get("title") or "").strip()}
    return Judged(
        corpus=corpus,
        documents=len(named),
        fingerprint=_fingerprint(corpus),
        queries={query: texts[query] for query in qrels},
        qrels=qrels,
    )


def read_qrels(file: Path) -> dict[str, dict[str, int]]:
    """Read `query-id corpus-id score`; queries without a relevant document are left out, as trec_eval does."""
    qrels: dict[str, dict[str, int]] = {}
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from None
    except (KeyError, TypeError, ValueError):
        raise CommandError(f"{file} must have the columns query-id, corpus-id and score (a whole number).") from None
    return {query: grades for query, grades in qrels.items() if max(grades.values()) > 0}


def neutral(text: str) -> str:
    """Take the operators of the query syntax out of a question that was not written in it, and leave every word."""
    return EXCLUSION.sub("", text.replace('"', " ")).strip()


def measure(qrels: Mapping[str, Mapping[str, int]], ranked: Mapping[str, Sequence[str]]) -> tuple[float, float]:
    """Mean nDCG@10 and Recall@100 over the judged queries; one without an answer counts as 0.

    The rank stands in for the score, because trec_eval would order ties its own way and not as they were answered.
    """
    wanted = [
        ir_measures.Qrel(query, document, grade)
        for query, grades in qrels.items()
        for document, grade in grades.items()
    ]
    found = [
        ir_measures.ScoredDoc(query, document, float(-rank))
        for query, documents in ranked.items()
        for rank, document in enumerate(dict.fromkeys(documents))
    ]
    means = ir_measures.calc_aggregate([NDCG, RECALL], wanted, found)
    return float(means[NDCG]), float(means[RECALL])


def collection_name(folder: Path, *, fingerprint: str, language: str) -> str:
    """Name the collection after the folder and what is in it, so that another corpus never meets its documents."""
    word = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:40] or "folder"
    return f"eval-{word}-{hashlib.sha256(f'{fingerprint} {language}'.encode()).hexdigest()[:8]}"


def _either(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise CommandError(f"{folder} is not in the layout of BEIR: it has neither {name} nor {name}.gz.")


def _objects(file: Path) -> Iterable[dict[str, str]]:
    with open_lines(file) as (stream, _file):
        for line in read_lines(stream):
            if line.raw and line.raw.strip():
                try:
                    parsed = orjson.loads(line.raw)
                    yield parsed | {"_id": str(parsed["_id"])}
                except (orjson.JSONDecodeError, KeyError, TypeError):
                    raise CommandError(f"{file}, line {line.number}: not an object with an _id.") from None


def _fingerprint(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
