"""`service bench`: every figure that the project promises, each a command that prints it and fails when it is missed."""

import typer

from service.cli.figures.drivers import drivers
from service.cli.figures.embedding import embedding
from service.cli.figures.explain import explain
from service.cli.figures.facets import facets
from service.cli.figures.files import files
from service.cli.figures.filtered_latency import filtered_latency
from service.cli.figures.filtered_recall import filtered_recall
from service.cli.figures.first_search import first_search
from service.cli.figures.growth import growth
from service.cli.figures.ingest_rate import ingest_rate
from service.cli.figures.kept_bytes import kept_bytes
from service.cli.figures.lexical import lexical
from service.cli.figures.relevance import relevance
from service.cli.figures.request_path import request_path
from service.cli.figures.search_latency import search_latency
from service.cli.figures.search_while_ingesting import search_while_ingesting
from service.cli.figures.served_top import served_top
from service.cli.figures.small_document import small_document
from service.cli.figures.walks import walks

bench = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Measure a running service; exit code 1 when a goal is missed."
)
bench.command("ingest-rate")(ingest_rate)
bench.command("search-while-ingesting")(search_while_ingesting)
bench.command("search-latency")(search_latency)
bench.command("small-document")(small_document)
bench.command("first-search")(first_search)
bench.command("files")(files)
bench.command("filtered-recall")(filtered_recall)
bench.command("filtered-latency")(filtered_latency)
bench.command("served-top")(served_top)
bench.command("lexical")(lexical)
bench.command("relevance")(relevance)
bench.command("explain")(explain)
bench.command("facets")(facets)
bench.command("walks")(walks)
bench.command("embedding")(embedding)
bench.command("growth")(growth)
bench.command("request-path")(request_path)
bench.command("drivers")(drivers)
bench.command("bytes")(kept_bytes)
