"""`service eval`: how well a running service answers judged queries, through HTTP and nothing else."""

import asyncio
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from service.cli.address import Address, find_address
from service.cli.client import Json, ServiceClient, open_client
from service.cli.failures import CommandError, ProblemError
from service.cli.figures.beside import TEXTBOOK, rankings_beside
from service.cli.judged import DEPTH, Judged, collection_name, measure, neutral, read_judged
from service.cli.progress import Bars, open_progress, print_failures
from service.cli.settle import wait_until_settled
from service.cli.sources import Source
from service.cli.uploads import Tally, in_parallel, send_lines

MODES = ("hybrid", "lexical", "semantic")
RANKINGS: Mapping[str, Json] = {mode: {"mode": mode} for mode in MODES} | {"rrf": {"fusion": {"method": "rrf"}}}
CONCURRENCY = 4
INTERRUPTED = 130


@dataclass(frozen=True)
class ModeReport:
    """One row of the table; latencies are those of the answered requests, in milliseconds; NaN for what was computed here."""

    mode: str
    ndcg_10: float
    recall_100: float
    p50_ms: float
    p95_ms: float
    queries: int
    failures: int


@dataclass(frozen=True)
class Evaluation:
    """`hybrid_gain` is hybrid nDCG@10 minus that of the better leg, None unless all three modes ran. `compared` has the
    rankings that hybrid was compared with.
    """

    collection: str
    documents: int
    modes: tuple[ModeReport, ...]
    hybrid_gain: float | None
    first_failure: str | None
    compared: tuple[ModeReport, ...] = ()

    def hybrid_over(self, name: str) -> float | None:
        """Hybrid nDCG@10 minus another's, None unless both were measured."""
        ndcg = {report.mode: report.ndcg_10 for report in (*self.modes, *self.compared)}
        return ndcg["hybrid"] - ndcg[name] if {"hybrid", name} <= ndcg.keys() else None


def evaluate(
    folder: Annotated[Path, typer.Argument(help="corpus.jsonl(.gz), queries.jsonl(.gz), qrels/test.tsv.", exists=True)],
    *,
    mode: Annotated[str, typer.Option(help="Search modes, separated by commas; `rrf` is another.")] = ",".join(MODES),
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare with RRF, the textbook's recipe and bm25s.")
    ] = False,
    limit_queries: Annotated[int | None, typer.Option(min=1, help="Ask only the first so many queries.")] = None,
    language: Annotated[str, typer.Option(help="Text-search configuration of the collection.")] = "english",
    keep: Annotated[bool, typer.Option("--keep", help="Keep the collection, so that the next run re-uses it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Ingest a judged collection and print nDCG@10, Recall@100 and latency of every search mode.

    Every judged query asks for 100 documents, whole, four requests at a time. Because judged queries are plain
    sentences, double quotes become spaces and a minus before a word is dropped: the query syntax would read them as
    a required phrase and an excluded word. A query that fails counts as 0. Later modes may find the embeddings of
    the queries cached, so compare latencies between runs, not between rows. The exit code is 1 when a query failed.

    `--compare` adds hybrid search with RRF, and three rankings of the same chunks that are computed here, in a Postgres
    that is thrown away: `ts_rank_cd` (OR), the textbook's recipe (RRF of it and of the semantic hits), and bm25s.
    """
    console = Console(stderr=True)
    modes = tuple(name.strip() for name in mode.split(","))
    unknown = [name for name in modes if name not in RANKINGS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(RANKINGS)}.", param_hint="--mode")
    try:
        evaluation = asyncio.run(
            evaluate_folder(
                folder,
                address=find_address(os.environ),
                modes=modes,
                limit_queries=limit_queries,
                language=language,
                keep=keep,
                compare=compare,
                console=console,
            )
        )
    except CommandError as error:
        console.print(f"Error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("Interrupted: what was ingested is kept, and the next run continues with it.")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        typer.echo(orjson.dumps(asdict(evaluation), option=orjson.OPT_INDENT_2).decode())
    else:
        print_evaluation(Console(), evaluation)
    raise typer.Exit(any(report.failures for report in evaluation.modes))


async def evaluate_folder(
    folder: Path,
    *,
    address: Address,
    modes: Sequence[str],
    limit_queries: int | None,
    language: str,
    keep: bool,
    console: Console,
    compare: bool = False,
) -> Evaluation:
    """Ingest unless it is there already, ask, measure; the collection goes again if this run made it."""
    judged = read_judged(folder)
    if compare:
        modes = tuple(dict.fromkeys([*modes, "rrf"]))
    name = collection_name(folder, fingerprint=judged.fingerprint, language=language)
    async with open_client(address) as client:
        found = await client.find_collection(name) is not None
        with open_progress(console) as progress:
            if not found:
                await client.create_collection(name, language=language)
            await fill(client, name, judged=judged, progress=progress)
            asked = judged.first(limit_queries)
            task = progress.add_task("Asking", total=len(asked.queries) * len(modes), unit="queries")
            reports, reasons = [], []
            for mode in modes:
                report, reason = await ask_all(
                    client, name, mode=mode, judged=asked, advance=lambda: progress.advance(task)
                )
                reports.append(report)
                reasons.append(reason)
        compared = await rankings_beside(client, name, judged=asked, language=language) if compare else {}
        if not (keep or found):
            await client.delete_collection(name)
    return Evaluation(
        collection=name,
        documents=judged.documents,
        modes=tuple(reports),
        hybrid_gain=hybrid_gain(reports),
        first_failure=next(filter(None, reasons), None),
        compared=tuple(computed(asked, ranking, ranked) for ranking, ranked in compared.items()),
    )


def computed(judged: Judged, name: str, ranked: Mapping[str, Sequence[str]]) -> ModeReport:
    """A ranking that was not asked for through HTTP, so that it has no latency."""
    ndcg, recall = measure(judged.qrels, ranked)
    return ModeReport(name, ndcg, recall, math.nan, math.nan, queries=len(judged.queries), failures=0)


async def fill(client: ServiceClient, name: str, *, judged: Judged, progress: Progress) -> None:
    """Send the corpus unless all of it is searchable already, and wait until it is."""
    status = await client.collection_status(name)
    if status.settled and status.indexed >= judged.documents:
        return
    source = Source(path=judged.corpus, external_id=judged.corpus.name, size=judged.corpus.stat().st_size)
    tally, bars = Tally(), Bars(progress, size=source.size)
    await send_lines(source, client=client, collection=name, concurrency=CONCURRENCY, tally=tally, advance=bars.advance)
    print_failures(progress.console, tally.failures, count=tally.failed)
    bars.begin_indexing()
    status = await wait_until_settled(client, name, watch=bars.watch, quiet=True)
    if status.indexed < judged.documents:
        raise CommandError(
            f"Only {status.indexed} of {judged.documents} documents were indexed: no figure would be true."
        )


async def ask_all(
    client: ServiceClient, name: str, *, mode: str, judged: Judged, advance: Callable[[], None]
) -> tuple[ModeReport, str | None]:
    """Ask every query in one mode; also return why the first failed one failed."""
    ranked: dict[str, list[str]] = {}
    seconds: list[float] = []
    reasons: list[str] = []

    async def ask(query: str) -> None:
        request = {"query": neutral(judged.queries[query]), "limit": DEPTH} | RANKINGS[mode]
        begun = time.perf_counter()
        try:
            answer = await client.search(name, request)
            seconds.append(time.perf_counter() - begun)
            ranked[query] = [hit["external_id"] for hit in answer["hits"]]
        except ProblemError as problem:
            reasons.append(f"{mode}, query {query}: {problem}")
        advance()

    await in_parallel(judged.queries, ask, concurrency=CONCURRENCY)
    ndcg, recall = measure(judged.qrels, ranked)
    report = ModeReport(
        mode=mode,
        ndcg_10=ndcg,
        recall_100=recall,
        p50_ms=percentile(seconds, 50) * 1000,
        p95_ms=percentile(seconds, 95) * 1000,
        queries=len(judged.queries),
        failures=len(reasons),
    )
    return report, next(iter(reasons), None)


def percentile(seconds: Sequence[float], percent: int) -> float:
    """Interpolate between the nearest two; NaN of nothing."""
    if len(seconds) < 2:  # noqa: PLR2004  (statistics.quantiles needs two)
        return seconds[0] if seconds else math.nan
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]


def hybrid_gain(reports: Iterable[ModeReport]) -> float | None:
    ndcg = {report.mode: report.ndcg_10 for report in reports}
    return ndcg["hybrid"] - max(ndcg["lexical"], ndcg["semantic"]) if ndcg.keys() >= set(MODES) else None


def print_evaluation(console: Console, evaluation: Evaluation) -> None:
    table = Table("mode", title=f"{evaluation.collection}: {evaluation.documents:,} documents", title_justify="left")
    for heading in ("nDCG@10", "Recall@100", "p50 ms", "p95 ms", "queries", "failures"):
        table.add_column(heading, justify="right")
    for report in (*evaluation.modes, *evaluation.compared):
        timed = (
            [f"{ms:.1f}" for ms in (report.p50_ms, report.p95_ms)] if report not in evaluation.compared else ["", ""]
        )
        table.add_row(
            report.mode,
            f"{report.ndcg_10:.4f}",
            f"{report.recall_100:.4f}",
            *timed,
            str(report.queries),
            str(report.failures),
        )
    console.print(table)
    if evaluation.hybrid_gain is not None:
        console.print(f"hybrid minus the better leg: {evaluation.hybrid_gain:+.4f} nDCG@10", highlight=False)
    for other in ("rrf", TEXTBOOK):
        if (gain := evaluation.hybrid_over(other)) is not None:
            console.print(f"hybrid minus {other}: {gain:+.4f} nDCG@10", highlight=False)
    if evaluation.first_failure:
        console.print(f"First failure: {evaluation.first_failure}", style="red", markup=False)
