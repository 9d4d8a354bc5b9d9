"""A result as one page of Markdown: everything that was measured, and with what."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.generator import MOST_OF_A_CORE
from bench.markdown import counted, ms, percent, rate, share, table
from bench.plans import plan_lines
from bench.result import Result

LATENCIES = ("p50", "p95", "p99", "p999")


def page(result: Result) -> str:
    return "\n\n".join(sections(result)) + "\n"


def sections(result: Result) -> Iterator[str]:
    found = result.found
    yield heading(found)
    if not found.get("complete", True):
        yield "**Interrupted**: this is what there was by then."
    yield from noise(found)
    yield from closed(found)
    for part in (steady, writing, filters, curve, growth, ingest, cost, setting):
        yield from part(found)


def heading(found: Mapping[str, Any]) -> str:
    machine, revision, dataset = found["machine"], found["revision"], found["dataset"]
    commit = (revision["git"] or "unknown")[:12] + (", with changes" if revision["changed"] else "")
    when = (
        f"{found['when']}, {found.get('seconds', 0) / 60:.1f} minutes. Revision {commit}. "
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gb']:g} GB, "
        f"load {machine['load'][0]:g} when it began."
    )
    what = (
        f"{dataset['source']}: {dataset['documents']:,} documents, a chunk each; {dataset['queries']:,} distinct queries, "
        f"half whole titles, half three words; seed {dataset['seed']}."
    )
    return "\n\n".join([f"# Benchmark: {found['name']}", when, what])


def noise(found: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        [label, *(f"{figures[name]['apart']:.1%}" for name in ("p50", "p99", "per_second"))]
        for label, figures in found.get("noise", {}).items()
    ]
    if rows:
        yield "## The noise floor"
        yield "The same load twice in turns: how far apart its medians are. What differs by less says nothing."
        yield table(["load", "p50", "p99", "requests a second"], rows)


def closed(found: Mapping[str, Any]) -> Iterator[str]:
    if not found.get("loads"):
        return
    yield "## Closed loops"
    yield (
        "Milliseconds. Medians over rounds in turns; p99.9 over all rounds. Recall@10 is against an exact search, nDCG@10 of "
        "whole titles, with that of the exact search in brackets; both of these very answers, of one in twelve where queries "
        "are cold."
    )
    headings = [
        "load",
        "p50",
        "p95",
        "p99",
        "p99.9",
        "a second",
        "recall@10",
        "nDCG@10",
        "cached",
        "CPU ms",
        "failures",
    ]
    yield table(headings, map(load_row, found["loads"]))
    stages = [[load["label"], *(ms(load["stages"].get(name)) for name in STAGES)] for load in found["loads"]]
    yield "Where the time goes, medians of `Server-Timing`:"
    yield table(["load", *STAGES], stages)


STAGES = ("embedding", "statement", "rest", "total")


def load_row(load: Mapping[str, Any]) -> list[object]:
    return [
        load["label"],
        *(ms(load["latency"].get(name)) for name in LATENCIES),
        rate(load["per_second"]),
        share(load.get("recall")),
        ndcg(load),
        percent(load["cache_hits"]),
        ms(load["cpu_ms"]),
        counted(load["failures"]),
    ]


def ndcg(load: Mapping[str, Any]) -> str:
    return f"{share(load['ndcg'])} ({share(load['exact_ndcg'])})" if "ndcg" in load else "-"


def steady(found: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"**Not measured**: {reason}" for reason in found.get("not_measured", []))
    if not found.get("steady"):
        return
    yield "## Open loops: a constant rate, whatever comes back"
    yield f"The knee is {found['steady'][0]['definition']}. Latency counts from when a request was due."
    rows = [
        [
            f"hybrid, {each['embedding']}",
            rate(each["knee"]),
            rate(each["rate"]),
            *(ms(each["latency"].get(name)) for name in LATENCIES),
            f"{each['p999_over_p50']:.1f}" if each["p999_over_p50"] else "-",
            counted(each["failures"]),
        ]
        for each in found["steady"]
    ]
    yield table(["load", "knee, a second", "offered", "p50", "p95", "p99", "p99.9", "p99.9 / p50", "failures"], rows)
    turns = found["steady"][0]["each"]
    yield f"p99.9 / p50 is the median of {len(turns)} turns; the goal is {found['steady'][0]['goal']:g} without a failure."


def writing(found: Mapping[str, Any]) -> Iterator[str]:
    part = found.get("writing")
    if not part:
        return
    yield "## Searches while documents are written"
    yield (
        f"Half of the cold knee, {part['rate']:.0f} searches a second, alone and beside {part['writes_per_second']:g} writes "
        "a second: documents added, replaced and deleted in turn, embedded by the worker."
    )
    rows = [
        [
            name,
            *(ms(part[key]["latency"].get(at)) for at in LATENCIES),
            share(part[key].get("recall")),
            counted(part[key]["failures"]),
        ]
        for name, key in (("searches alone", "alone"), ("searches beside writes", "while_writing"))
    ]
    rows += [
        [f"write: {kind}", *(ms(each["latency"].get(at)) for at in LATENCIES), "-", counted(each["failures"])]
        for kind, each in part["writes"].items()
    ]
    yield table(["request", "p50", "p95", "p99", "p99.9", "recall@10", "failures"], rows)
    yield f"p99 beside writes over p99 alone, medians of turns: {part['p99_ratio']:.2f}."


def filters(found: Mapping[str, Any]) -> Iterator[str]:
    if not found.get("filters"):
        return
    yield "## Filters"
    by_share: dict[float, dict[str, Any]] = {}
    for load in found["filters"]:
        by_share.setdefault(load["selectivity"], {})[load["mode"]] = load
    rows = [
        [
            f"{left:.1%}",
            ms(each["semantic"]["latency"]["p50"]),
            ms(each["semantic"]["latency"]["p99"]),
            share(each["semantic"].get("recall")),
            ms(each["hybrid"]["latency"]["p50"]),
            ms(each["hybrid"]["latency"]["p99"]),
        ]
        for left, each in by_share.items()
    ]
    yield table(["leaves", "semantic p50", "p99", "recall@10", "hybrid p50", "p99"], rows)


def curve(found: Mapping[str, Any]) -> Iterator[str]:
    if not found.get("curve"):
        return
    yield "## Recall over latency: vector search, vectors in the request"
    rows = [
        [load["label"], ms(load["latency"]["p50"]), ms(load["latency"]["p99"]), share(load.get("recall"))]
        for load in found["curve"]
    ]
    yield table(["candidates", "p50", "p99", "recall@10"], rows)


def growth(found: Mapping[str, Any]) -> Iterator[str]:
    if not found.get("growth"):
        return
    yield "## Growth: one client, embeddings cached"
    stages: dict[int, dict[str, Any]] = {}
    for load in found["growth"]:
        stages.setdefault(load["documents"], {})[load["mode"]] = load
    modes = ("hybrid", "semantic", "lexical")
    rows = [
        [
            f"{size:,}",
            *(ms(each[mode]["latency"]["p50"]) for mode in modes),
            ms(each["hybrid"]["latency"]["p99"]),
            share(each["hybrid"].get("recall")),
        ]
        for size, each in stages.items()
    ]
    yield table(["documents", "hybrid p50", "semantic p50", "lexical p50", "hybrid p99", "hybrid recall@10"], rows)


def ingest(found: Mapping[str, Any]) -> Iterator[str]:
    if not found.get("ingest"):
        return
    yield "## Ingest, until the last document can be searched"
    rows = [
        [
            f"{'vectors given' if each['vectors'] else 'embedded by the service'}, to {each['upto']:,}",
            f"{each['documents']:,}",
            f"{each['accepted_seconds']:.1f}",
            f"{each['searchable_seconds']:.1f}",
            rate(each["per_second"]),
        ]
        for each in found["ingest"]
    ]
    yield table(["documents", "count", "accepted after s", "searchable after s", "a second"], rows)


def cost(found: Mapping[str, Any]) -> Iterator[str]:
    disk: Sequence[Mapping[str, Any]] = found.get("disk", [])
    if disk:
        yield "## Bytes a document"
        total = sum(each["bytes_per_document"] for each in disk)
        rows = [[f"{each['kind']} `{each['name']}`", rate(each["bytes_per_document"])] for each in disk[:16]]
        yield table(["where", "bytes"], [["together", rate(total)], *rows])
    if found.get("memory"):
        yield "## Memory when it ended, MB"
        rows = [
            [part, f"{each['processes']:.0f}", rate(each["rss"]), rate(each["pss"])]
            for part, each in found["memory"].items()
        ]
        yield table(["part", "processes", "RSS", "PSS"], rows)


def setting(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## With what"
    versions = found["versions"] | (found["database"]["versions"] if found.get("database") else {})
    yield ", ".join(f"{name} {version}" for name, version in versions.items()) + "."
    busiest = found.get("client_share", 0.0)
    verdict = "." if busiest < MOST_OF_A_CORE else ": too much, the figures are partly its own."
    yield f"The load generator took at most {busiest:.0%} of one core{verdict}"
    if found.get("database"):
        chosen = [[f"`{name}`", f"`{value}`"] for name, value in found["database"]["settings"].items()]
        yield table(["setting of Postgres", "value"], chosen)
        if found["database"].get("plan"):
            yield "\n".join(plan_lines(found["database"]["plan"]))
