"""The four pictures of a result: latency over load, recall over latency, filters, growth."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.failures import BenchError
from bench.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by colour-blind readers too (Okabe and Ito), and by their marks in black and white.
COLOURS = {
    "hybrid": "#0072B2",
    "semantic": "#D55E00",
    "lexical": "#009E73",
    "cached": "#0072B2",
    "cold": "#D55E00",
}
MARKS = {"hybrid": "o", "semantic": "s", "lexical": "^", "cached": "o", "cold": "s"}
QUIET = "#666666"
SIZE = (7.2, 4.2)
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "bench",  # The same result gives the same file.
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
}


def draw(result: Result, folder: Path, *, kind: str = "svg") -> list[Path]:
    """Writes those pictures for which something was measured; raises BenchError without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise BenchError("matplotlib is not installed: pip install -e '.[bench]'.") from None
    mpl.use("agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with plt.style.context(STYLE):
        for name, (part, picture) in PICTURES.items():
            if result.found.get(part):
                figure = plt.figure(figsize=SIZE, layout="constrained")
                picture(result.found, figure)
                file = folder / f"{result.name}-{name}.{kind}"
                figure.savefig(file, dpi=150, metadata={"Date": None} if kind == "svg" else None)
                plt.close(figure)
                files.append(file)
    return files


def over_load(found: Mapping[str, Any], figure: "Figure") -> None:
    axes = figure.subplots()
    for each in found["steady"]:
        name = each["embedding"]
        steps = sorted(each["steps"], key=lambda step: step["rate"])
        rates = [step["rate"] for step in steps]
        for percentile, style, weight in (("p50", "-", 2.0), ("p99", "--", 1.2)):
            axes.plot(
                rates,
                [step["latency"].get(percentile) for step in steps],
                style,
                color=COLOURS[name],
                marker=MARKS[name],
                markersize=4,
                linewidth=weight,
                label=f"{name}, {percentile}",
            )
        axes.axvline(each["knee"], color=COLOURS[name], linewidth=1, linestyle=":")
        axes.annotate(
            f" knee {each['knee']:,.0f}/s",
            (each["knee"], 1.0),
            xycoords=("data", "axes fraction"),
            rotation=90,
            va="top",
            ha="right",
            color=COLOURS[name],
            fontsize=9,
        )
    axes.set_yscale("log")
    plain(axes, "y")
    axes.set_xlim(left=0)
    axes.set_title("Hybrid search at a constant rate, embeddings cached and cold")
    axes.set_xlabel("requests offered a second")
    axes.set_ylabel("ms from when a request was due")
    figure.legend(loc="outside lower center", ncols=4, fontsize=9)


def over_latency(found: Mapping[str, Any], figure: "Figure") -> None:
    axes = figure.subplots()
    points = [
        (load["latency"]["p50"], load["recall"], load["label"])
        for load in found["curve"]
        if load.get("recall") is not None
    ]
    wide = [point for point in points if point[2].startswith("ef_search")]
    axes.plot([p[0] for p in wide], [p[1] for p in wide], "o-", color=COLOURS["semantic"], markersize=5)
    for place, (latency, recall, label) in enumerate(points):
        if (latency, recall, label) not in wide:
            axes.plot(latency, recall, "D", color=COLOURS["hybrid"], markersize=7)
        above = place % 2 == 0
        axes.annotate(
            label.replace("ef_search", "ef"),
            (latency, recall),
            xytext=(6, 7 if above else -13),
            textcoords="offset points",
            fontsize=9,
            color=QUIET,
        )
    lowest = min(point[1] for point in points)
    axes.set_ylim(lowest - (1.003 - lowest) * 0.25 - 0.002, 1.003)
    axes.margins(x=0.12)
    axes.set_title("Vector search: recall over latency")
    axes.set_xlabel("p50 over HTTP in ms, one client")
    axes.set_ylabel("recall@10 of these answers")


def over_filters(found: Mapping[str, Any], figure: "Figure") -> None:
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.3))
    for mode in ("hybrid", "semantic"):
        loads = sorted(
            (load for load in found["filters"] if load["mode"] == mode), key=lambda load: load["selectivity"]
        )
        shares = [100 * load["selectivity"] for load in loads]
        style: dict[str, Any] = {"color": COLOURS[mode], "marker": MARKS[mode], "markersize": 5}
        upper.plot(shares, [load["latency"]["p50"] for load in loads], "-", label=f"{mode}, p50", **style)
        upper.plot(shares, [load["latency"]["p99"] for load in loads], "--", linewidth=1, label=f"{mode}, p99", **style)
        if mode == "semantic":
            lower.plot(shares, [load.get("recall") for load in loads], "-", **style)
    upper.set_title("Filters: latency and recall over what they leave")
    upper.set_ylabel("ms over HTTP")
    upper.set_ylim(bottom=0)
    upper.legend(fontsize=9, ncols=2)
    lower.set_xscale("log")
    plain(lower, "x")
    lower.set_xlabel("documents that the filter leaves, %")
    lower.set_ylabel("recall@10\nsemantic")
    lower.set_ylim(min(0.9, *(load.get("recall") or 1 for load in found["filters"])) - 0.005, 1.01)


def over_documents(found: Mapping[str, Any], figure: "Figure") -> None:
    axes = figure.subplots()
    for mode in ("hybrid", "semantic", "lexical"):
        loads = sorted((load for load in found["growth"] if load["mode"] == mode), key=lambda load: load["documents"])
        sizes = [load["documents"] for load in loads]
        style: dict[str, Any] = {"color": COLOURS[mode], "marker": MARKS[mode], "markersize": 5}
        axes.plot(sizes, [load["latency"]["p50"] for load in loads], "-", label=f"{mode}, p50", linewidth=2, **style)
        if mode == "hybrid":
            axes.plot(
                sizes, [load["latency"]["p99"] for load in loads], "--", label="hybrid, p99", linewidth=1, **style
            )
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_title("Growth: latency over the number of documents")
    axes.set_xlabel("documents, a chunk each")
    axes.set_ylabel("ms over HTTP, one client")
    axes.legend(fontsize=9)


def plain(axes: "Axes", side: str) -> None:
    """1, 10, 100 instead of powers."""
    from matplotlib.ticker import FuncFormatter

    (axes.xaxis if side == "x" else axes.yaxis).set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))


PICTURES: Mapping[str, tuple[str, Callable[[Mapping[str, Any], "Figure"], None]]] = {
    "load": ("steady", over_load),
    "recall": ("curve", over_latency),
    "filters": ("filters", over_filters),
    "growth": ("growth", over_documents),
}
