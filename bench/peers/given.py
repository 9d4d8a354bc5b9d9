"""The dataset as files, for programs that share no package with this one: every side gets the same numbers and words."""

from pathlib import Path

import numpy as np
import orjson

from bench.dataset import Dataset


def write_given(dataset: Dataset, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "vectors.npy", dataset.vectors)
    np.save(folder / "query_vectors.npy", dataset.query_vectors)
    np.save(folder / "uniform.npy", dataset.uniform)
    written = {"ids": dataset.ids, "texts": whole_texts(dataset), "queries": dataset.queries}
    (folder / "texts.json").write_bytes(orjson.dumps(written))


def whole_texts(dataset: Dataset) -> list[str]:
    """Title and text together, as the service searches and embeds them: a peer has one text for each document."""
    return [f"{title}\n{text}" for title, text in zip(dataset.titles, dataset.texts, strict=True)]
