"""The longest modules begin, so that no process works long after the others: each runs a module whole (Makefile)."""

import pytest

# Those of ten seconds and more, by the seconds that `pytest --durations=0` says of them.
LONGEST = (
    "test_documented_commands",
    "test_fast_embedding",
    "test_sample",
    "test_migrate_commands",
    "test_short_way",
    "test_cli_search",
    "test_filters",
    "test_branches",
    "test_cli_figures_recall",
    "test_branch_objects",
    "test_upkeep_tables",
    "test_schemathesis",
    "test_image",
    "test_worker_kills",
    "test_run",
    "test_cli_doors",
    "test_embedders",
    "test_cli_figures_exactness",
    "test_operations_traces",
    "test_statistics",
    "test_stats_rebuild",
    "test_bench_run",
    "test_search_shapes",
    "test_cli_ingest",
    "test_extract",
    "test_search_routes",
    "test_anywhere",
    "test_doctor",
    "test_cli_evaluate",
    "test_cli_figures_embedding",
    "test_search_recall",
    "test_filter_ways",
    "test_search_tally",
    "test_workers",
    "test_local_stack",
    "test_pooler_selftest",
    "test_shared_index",
    "test_filter_extension",
    "test_blobs",
)
PLACES = {name: place for place, name in enumerate(LONGEST)}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Within a module, and among the short ones, everything stays where it was."""
    items.sort(key=lambda item: PLACES.get(item.path.stem, len(LONGEST)))
