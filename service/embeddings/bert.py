"""A mean-pooled BERT (all-MiniLM-L6-v2 is one) on PyTorch's own TransformerEncoder.

Starts in a third of the time that sentence-transformers takes; its vectors it must equal: docs/decisions/0007-embedder.md.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from service.embeddings.base import Matrix
from service.embeddings.bert_folder import PlainBert, read_json
from service.embeddings.encoder import Precision, Purpose, Sequenced
from service.embeddings.precision import torch_dtype


class _Bert(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, epsilon = config["hidden_size"], config["layer_norm_eps"]
        self.word = nn.Embedding(config["vocab_size"], width)
        self.position = nn.Embedding(config["max_position_embeddings"], width)
        self.kind = nn.Embedding(config["type_vocab_size"], width)
        self.norm = nn.LayerNorm(width, eps=epsilon)
        layer = nn.TransformerEncoderLayer(
            width,
            config["num_attention_heads"],
            config["intermediate_size"],
            activation="gelu",
            layer_norm_eps=epsilon,
            batch_first=True,
        )
        # Nested tensors skip the padding inside the layers: measured 51 instead of 29 abstracts a second and core.
        self.layers = nn.TransformerEncoder(layer, config["num_hidden_layers"], enable_nested_tensor=True)

    def forward(self, ids: Tensor, padding: Tensor | None) -> Tensor:
        embedded = self.word(ids) + self.position.weight[: ids.shape[1]] + self.kind.weight[0]
        hidden: Tensor = self.layers(self.norm(embedded), src_key_padding_mask=padding)
        return hidden


def _renamed(stored: dict[str, Tensor], *, layers: int) -> dict[str, Tensor]:
    """BERT's weights under the names of `_Bert`; the pooler, which a sentence embedding does not use, stays behind."""
    weights = {
        "word.weight": stored["embeddings.word_embeddings.weight"],
        "position.weight": stored["embeddings.position_embeddings.weight"],
        "kind.weight": stored["embeddings.token_type_embeddings.weight"],
        "norm.weight": stored["embeddings.LayerNorm.weight"],
        "norm.bias": stored["embeddings.LayerNorm.bias"],
    }
    for number in range(layers):
        theirs, ours = f"encoder.layer.{number}.", f"layers.layers.{number}."
        for part in ("weight", "bias"):
            weights[f"{ours}self_attn.in_proj_{part}"] = torch.cat(
                [stored[f"{theirs}attention.self.{projection}.{part}"] for projection in ("query", "key", "value")]
            )
            weights[f"{ours}self_attn.out_proj.{part}"] = stored[f"{theirs}attention.output.dense.{part}"]
            weights[f"{ours}norm1.{part}"] = stored[f"{theirs}attention.output.LayerNorm.{part}"]
            weights[f"{ours}linear1.{part}"] = stored[f"{theirs}intermediate.dense.{part}"]
            weights[f"{ours}linear2.{part}"] = stored[f"{theirs}output.dense.{part}"]
            weights[f"{ours}norm2.{part}"] = stored[f"{theirs}output.LayerNorm.{part}"]
    return weights


class BertEncoder(PlainBert):
    """Reads a sentence-transformers folder for which `is_plain_bert` holds."""

    def __init__(self, folder: Path, *, name: str, precision: Precision) -> None:
        super().__init__(folder, name=name)
        config = read_json(folder / "config.json")
        model = _Bert(config)  # Not on the meta device: that imports the compiler, 2 s for .1 s of random weights.
        stored = load_file(folder / "model.safetensors")
        model.load_state_dict(_renamed(stored, layers=config["num_hidden_layers"]), assign=True)
        self._model = model.eval().to(torch_dtype(precision))
        with warnings.catch_warnings():  # Said once a process, here and not in a request.
            warnings.filterwarnings("ignore", "The PyTorch API of nested tensors is in prototype stage")
            self.encode(self.tokenize(["one", "or two"]), purpose="query")

    def encode(self, batch: Sequence[Sequenced], *, purpose: Purpose) -> Matrix:  # noqa: ARG002 - a plain BERT has no prompts
        lengths = [len(sequence.ids) for sequence in batch]
        ids = np.zeros((len(batch), max(lengths)), np.int64)
        for row, sequence in enumerate(batch):
            ids[row, : lengths[row]] = sequence.ids
        padding = torch.from_numpy(np.arange(max(lengths)) >= np.array(lengths)[:, None])
        with torch.inference_mode():
            hidden = self._model(torch.from_numpy(ids), padding if min(lengths) < max(lengths) else None)
            hidden.masked_fill_(padding.unsqueeze(-1), 0)
            pooled = hidden.sum(dim=1, dtype=torch.float32)  # The mean's divisor falls away with the length.
            vectors: Matrix = nn.functional.normalize(pooled, dim=1).numpy()
        return vectors
