"""From the setting `RERANKER_MODEL` to a reranker, or to none."""

import os
from pathlib import Path

from service.domain.errors import InvalidError
from service.rerankers.base import Reranker
from service.rerankers.overlap import OverlapReranker


def open_reranker(model: str | None, *, threads: int) -> Reranker | None:
    """None for nothing, `overlap` (torch stays out), a folder, or the name of a cross-encoder in the local cache.

    `threads` is how many passes run at once, each on one core. Blocks while the model loads. Raises `InvalidError` when there
    is no such model, or when it is no reranker.
    """
    if not model:
        return None
    if model == OverlapReranker.name:
        return OverlapReranker()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # Its threads would not survive a fork, and say so.
    # Read when the libraries are imported. Nothing is fetched unless whoever runs the service says HF_HUB_OFFLINE=0.
    offline = os.environ.setdefault("HF_HUB_OFFLINE", "1") != "0"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # They cost seconds, so whoever has no such model does not import them.
    import torch  # noqa: PLC0415

    from service.rerankers.cross_encoder import CrossEncoderReranker  # noqa: PLC0415

    torch.set_num_threads(1)  # As for the embedder, and for the whole process: one core a pass.
    folder = Path(model)
    name = folder.resolve().name if folder.is_dir() else model
    try:
        return CrossEncoderReranker(model, name=name, threads=threads, offline=offline)
    except Exception as error:
        raise InvalidError(
            f"There is no reranker {model!r}: {error} (a folder or, with HF_HUB_OFFLINE=0, the name of a "
            "sentence-transformers cross-encoder; `overlap` is a stand-in without a model).",
            field="RERANKER_MODEL",
        ) from error
