"""A mean-pooled BERT (all-MiniLM-L6-v2 is one) on PyTorch's own TransformerEncoder.

Starts in a third of the time that sentence-transformers takes; its vectors it must equal: docs/decisions/0007-embedder.md.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from service.embeddings.base import Matrix
from service.embeddings.encoder import Precision, Purpose, Sequenced, encodable
from service.embeddings.precision import torch_dtype


def _read(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", orjson.loads(path.read_bytes()))


def is_plain_bert(folder: Path) -> bool:
    """Whether the folder is exactly what `BertEncoder` computes; anything else belongs to sentence-transformers."""
    files = ["modules.json", "config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"]
    if not all((folder / file).is_file() for file in files):
        return False
    config = _read(folder / "config.json")
    pooling = _read(folder / "1_Pooling/config.json")
    modules = [module["type"].rsplit(".", 1)[-1] for module in orjson.loads((folder / "modules.json").read_bytes())]
    modes = [key for key, on in pooling.items() if key.startswith("pooling_mode_") and on]
    limits = folder / "sentence_bert_config.json"
    prompts = folder / "config_sentence_transformers.json"
    return (
        modules in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
        and (modes == ["pooling_mode_mean_tokens"] or pooling.get("pooling_mode") == "mean")
        and config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and config.get("num_attention_heads", 1) % 2 == 0  # Odd ones have no fast path in TransformerEncoder.
        and not (limits.is_file() and _read(limits).get("do_lower_case"))
        and not (prompts.is_file() and any(_read(prompts).get("prompts", {}).values()))
    )


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


class BertEncoder:
    """Reads a sentence-transformers folder for which `is_plain_bert` holds."""

    def __init__(self, folder: Path, *, name: str, precision: Precision) -> None:
        config = _read(folder / "config.json")
        limits = folder / "sentence_bert_config.json"
        declared = _read(limits).get("max_seq_length") if limits.is_file() else None
        self.name = name
        self.dimension: int = config["hidden_size"]
        self.max_tokens: int = declared or config["max_position_embeddings"]
        self._counter = self._open_tokenizer(folder)
        self._tokenizer = self._open_tokenizer(folder)
        self._tokenizer.enable_truncation(self.max_tokens)
        model = _Bert(config)  # Not on the meta device: that imports the compiler, 2 s for .1 s of random weights.
        stored = load_file(folder / "model.safetensors")
        model.load_state_dict(_renamed(stored, layers=config["num_hidden_layers"]), assign=True)
        self._model = model.eval().to(torch_dtype(precision))
        with warnings.catch_warnings():  # Said once a process, here and not in a request.
            warnings.filterwarnings("ignore", "The PyTorch API of nested tensors is in prototype stage")
            self.encode(self.tokenize(["one", "or two"]), purpose="query")

    @staticmethod
    def _open_tokenizer(folder: Path) -> Tokenizer:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def count_tokens(self, text: str) -> int:
        return len(self._counter.encode(encodable(text)).ids)

    def token_starts(self, text: str) -> Sequence[int]:
        return [start for start, _ in self._counter.encode(encodable(text), add_special_tokens=False).offsets]

    def tokenize(self, texts: Sequence[str]) -> list[Sequenced]:
        encodings = self._tokenizer.encode_batch([encodable(text) for text in texts])
        return [Sequenced(text, encoding.ids) for text, encoding in zip(texts, encodings, strict=True)]

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
