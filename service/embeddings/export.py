"""A program of its own, so that neither torch nor a second copy of the weights enters the process that serves.

python -m service.embeddings.export MODEL_FOLDER TARGET_FOLDER float32|int8
"""

import sys
from pathlib import Path

import numpy as np

from service.embeddings.base import Matrix
from service.embeddings.bert_graph import build_graph
from service.embeddings.exported import DIGEST, EXPECTED, GRAPH, digest_of, model_digest
from service.embeddings.gate import gate_vectors
from service.embeddings.silent_openvino import openvino

SHIPPED = Path(__file__).with_name("references")
"""What sentence-transformers says to the sentences of the gate, by the digest of the model: for the default one."""


def reference_vectors(folder: Path) -> Matrix:
    """Those that are shipped, else computed with torch in float32, which takes two seconds more."""
    shipped = SHIPPED / f"{model_digest(folder)}.npy"
    if shipped.is_file():
        return np.asarray(np.load(shipped), np.float32)
    import torch  # noqa: PLC0415

    from service.embeddings.bert import BertEncoder  # noqa: PLC0415 - imports torch

    torch.set_num_threads(1)
    return gate_vectors(BertEncoder(folder, name="reference", precision="float32"))


def export(folder: Path, target: Path, *, quantized: bool) -> None:
    """The graph, what the gate expects of it, and the digest of both."""
    np.save(target / EXPECTED, reference_vectors(folder))
    openvino.save_model(build_graph(folder, quantized=quantized), target / GRAPH, compress_to_fp16=False)
    (target / DIGEST).write_text(digest_of(target))


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]), quantized=sys.argv[3] == "int8")
