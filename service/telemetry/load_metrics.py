"""The loads of the parts as metrics, read when somebody asks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.telemetry.loads import EmbedderLoad, PoolLoad, StatementLoad


@dataclass(frozen=True, slots=True)
class Loads(Collector):
    """Asked at every scrape, from whatever thread that is in: each function only reads numbers."""

    pools: Callable[[], Mapping[str, PoolLoad]]
    embedder: Callable[[], EmbedderLoad]
    statements: Callable[[], StatementLoad]

    def collect(self) -> Iterator[Metric]:
        yield from self.of_pools()
        yield from self.of_embedder()
        statements = GaugeMetricFamily(
            "hybrid_search_statements", "Shapes of the search statement known.", labels=["kind"]
        )
        known = self.statements()
        statements.add_metric(["prepared"], known.prepared)
        statements.add_metric(["unprepared"], known.unprepared)
        yield statements

    def of_pools(self) -> Iterator[Metric]:
        size = GaugeMetricFamily("hybrid_pool_size", "Connections that a pool may open.", labels=["pool"])
        in_use = GaugeMetricFamily("hybrid_pool_in_use", "Connections at work.", labels=["pool"])
        waiting = GaugeMetricFamily("hybrid_pool_waiting", "Who waits for a connection.", labels=["pool"])
        refused = CounterMetricFamily("hybrid_pool_refused", "Who was refused: too many were waiting.", labels=["pool"])
        for name, load in self.pools().items():
            size.add_metric([name], load.size)
            in_use.add_metric([name], load.in_use)
            waiting.add_metric([name], load.waiting)
            refused.add_metric([name], load.refused)
        yield from (size, in_use, waiting, refused)

    def of_embedder(self) -> Iterator[Metric]:
        load = self.embedder()
        waiting = GaugeMetricFamily("hybrid_embedder_waiting", "Texts that wait for the model.", labels=["purpose"])
        waiting.add_metric(["query"], load.waiting_queries)
        waiting.add_metric(["passage"], load.waiting_passages)
        yield waiting
        yield GaugeMetricFamily("hybrid_embedder_cached_queries", "Queries whose embedding is remembered.", load.cached)
        queries = CounterMetricFamily(
            "hybrid_embedder_queries", "Queries by how they were answered.", labels=["answer"]
        )
        for answer, count in load.queries.items():
            queries.add_metric([answer], count)
        yield queries
