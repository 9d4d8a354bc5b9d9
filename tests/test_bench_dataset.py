"""What the benchmark measures with: seeded, of any size, with exact answers."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.dataset import below, ground_truth, load, recall


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vectors")


@pytest.fixture(autouse=True)
def without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDING_MODEL", "hashing")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two collections of short and long documents."""
    folder = tmp_path_factory.mktemp("data")
    chance = np.random.default_rng(5)
    for name in ("one", "two"):
        documents = []
        for number in range(20):
            words = [f"word{chance.integers(3_000)}" for _ in range(int(chance.integers(70, 500)))]
            text = ". ".join(" ".join(words[start : start + 12]).capitalize() for start in range(0, len(words), 12))
            documents.append(json.dumps({"_id": str(number), "title": f"{name} {' '.join(words[:5])}", "text": text}))
        (folder / name).mkdir()
        (folder / name / "corpus.jsonl").write_text("\n".join(documents))
    return folder


@pytest.mark.parametrize("generated", [True, False])
def test_a_dataset_has_its_size_chunks_of_a_length_and_distinct_queries(
    texts: Path, cache: Path, *, generated: bool
) -> None:
    data = load(150, queries=400, data=None if generated else texts, cache=cache)
    lengths = [len(text.split()) for text in data.texts]

    assert len(data) == len(set(data.ids)) == len(data.vectors) == len(data.uniform) == 150
    assert len({query.casefold() for query in data.queries}) == len(data.queries) == len(data.query_vectors) == 400
    assert sum(len(query.split()) == 3 for query in data.queries) >= 200
    assert min(lengths) >= 60
    assert max(lengths) <= 170
    assert np.allclose(np.linalg.norm(data.vectors, axis=1), 1, atol=1e-5)
    assert generated or "put together anew" in data.source


@pytest.mark.parametrize("generated", [True, False])
def test_more_documents_begin_with_the_same_as_fewer(texts: Path, cache: Path, *, generated: bool) -> None:
    source = None if generated else texts
    few, many = (load(size, queries=50, data=source, cache=cache) for size in (60, 200))

    assert many.ids[:60] == few.ids
    assert many.texts[:60] == few.texts
    assert many.queries == few.queries
    assert many.uniform[:60].tolist() == few.uniform.tolist()
    assert load(60, queries=50, seed=1, data=source, cache=cache).texts != few.texts


def test_the_ground_truth_is_what_sorting_all_cosines_gives(cache: Path) -> None:
    data = load(150, queries=40, data=None, cache=cache)
    truth, filtered = ground_truth(data, 10), ground_truth(data, 10, 0.05)
    places = {name: place for place, name in enumerate(data.ids)}
    for query in range(40):
        cosines = data.vectors @ data.query_vectors[query]
        allowed = [place for place in range(150) if data.uniform[place] < below(0.05)]
        best = sorted(allowed, key=lambda place: (-cosines[place], place))[:10]
        near = [data.ids[place] for place in np.argsort(-cosines, kind="stable")[:10]]

        assert [place for place in filtered.places[query] if place >= 0] == best
        assert recall(data, query, near, truth, places) == 1
        assert recall(data, query, near[:5] + ["nobody"] * 5, truth, places) == 0.5


def test_vectors_are_kept_by_what_they_were_made_from(tmp_path: Path) -> None:
    load(50, queries=10, data=None, cache=tmp_path)
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    load(50, queries=10, data=None, cache=tmp_path)
    unchanged = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    load(50, queries=10, seed=3, data=None, cache=tmp_path)

    assert unchanged == kept
    assert len(list(tmp_path.iterdir())) == 2 * len(kept)
