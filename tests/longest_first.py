"""The longest modules begin, so that no process works long after the others: each runs a module whole (Makefile)."""

import pytest

# Those of ten seconds and more, by the seconds that `pytest --durations=0` says of them.
LONGEST = (
    "test_documented_commands",
    "test_branch_objects",
    "test_fast_embedding",
    "test_migrate_commands",
    "test_sample",
    "test_branches",
    "test_schemathesis",
    "test_cli_figures_exactness",
    "test_worker_kills",
    "test_local_stack",
    "test_run",
    "test_operations_traces",
    "test_cli_search",
    "test_upkeep_tables",
    "test_search_shapes",
    "test_cli_figures_recall",
    "test_filters",
    "test_cli_evaluate",
    "test_image",
    "test_doctor",
    "test_stats_rebuild",
    "test_cli_doors",
    "test_search_routes",
    "test_bench_run",
    "test_statistics",
    "test_cli_ingest",
    "test_embedders",
    "test_extract",
    "test_search_recall",
    "test_replica",
    "test_documents_sorted",
)
PLACES = {name: place for place, name in enumerate(LONGEST)}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Within a module, and among the short ones, everything stays where it was."""
    items.sort(key=lambda item: PLACES.get(item.path.stem, len(LONGEST)))
