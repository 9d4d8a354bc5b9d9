"""The computation of a plain BERT as an OpenVINO graph, straight from its weights: neither torch nor ONNX takes part."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from service.embeddings.bert_folder import read_json
from service.embeddings.silent_openvino import Node, openvino, opset13

MASKED = 1e4  # Taken from the score of a token that is padding: its share becomes 0 in every precision.
LEVELS = 127  # Of an int8 on either side of zero.


def build_graph(folder: Path, *, quantized: bool) -> openvino.Model:
    """From `ids` and `kept` (1 for a token, 0 for padding), both `(n, length)`, to the sum of the tokens' vectors `(n, d)`.

    `quantized` keeps the weights of the layers in 8 bits, with a scale for each output channel.
    """
    graph = _Graph(folder, quantized=quantized)
    ids = opset13.parameter([-1, -1], np.int32, name="ids")
    kept = opset13.parameter([-1, -1], np.float32, name="kept")
    return openvino.Model([graph.pooled(ids, kept)], [ids, kept], "plain_bert")


class _Graph:
    def __init__(self, folder: Path, *, quantized: bool) -> None:
        config = read_json(folder / "config.json")
        self._weights: dict[str, NDArray[Any]] = load_file(folder / "model.safetensors")
        self._quantized = quantized
        self._layers: int = config["num_hidden_layers"]
        self._heads: int = config["num_attention_heads"]
        self._width: int = config["hidden_size"]
        self._epsilon: float = config["layer_norm_eps"]

    def pooled(self, ids: Node, kept: Node) -> Node:
        bias = opset13.multiply(opset13.subtract(kept, _number(1)), _number(MASKED))
        bias = opset13.unsqueeze(bias, _whole(1, 2))  # The same for every head and every token that looks.
        hidden = self._embedded(ids)
        for number in range(self._layers):
            hidden = self._layer(f"encoder.layer.{number}.", hidden, bias)
        tokens = opset13.multiply(hidden, opset13.unsqueeze(kept, _whole(2)))
        return opset13.reduce_sum(tokens, _whole(1), False)  # noqa: FBT003 - its only form

    def _embedded(self, ids: Node) -> Node:
        # Every token is of kind 0, so the kind's vector goes into the positions'.
        places = self._weight("embeddings.position_embeddings") + self._weight("embeddings.token_type_embeddings")[0]
        length = opset13.gather(opset13.shape_of(ids), _whole(1), _whole(0))
        words = opset13.gather(_constant(self._weight("embeddings.word_embeddings")), ids, _whole(0))
        begun = opset13.slice(_constant(places), _whole(0), length, _whole(1), _whole(0))
        return self._norm("embeddings.LayerNorm", opset13.add(words, begun))

    def _layer(self, at: str, hidden: Node, bias: Node) -> Node:
        three = [f"{at}attention.self.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([self._weight(each) for each in three])
        projected = self._linear(hidden, weight, np.concatenate([self._weight(each, "bias") for each in three]))
        split = opset13.reshape(projected, _whole(0, 0, 3, self._heads, self._width // self._heads), True)  # noqa: FBT003
        split = opset13.transpose(split, _whole(2, 0, 3, 1, 4))
        query, key, value = (opset13.squeeze(part, _whole(0)) for part in opset13.split(split, _axis(0), 3).outputs())
        seen = opset13.scaled_dot_product_attention(query, key, value, bias)
        seen = opset13.reshape(opset13.transpose(seen, _whole(0, 2, 1, 3)), _whole(0, 0, self._width), True)  # noqa: FBT003
        hidden = self._norm(
            f"{at}attention.output.LayerNorm", opset13.add(self._named(seen, f"{at}attention.output.dense"), hidden)
        )
        wide = opset13.gelu(self._named(hidden, f"{at}intermediate.dense"), "ERF")
        return self._norm(f"{at}output.LayerNorm", opset13.add(self._named(wide, f"{at}output.dense"), hidden))

    def _named(self, rows: Node, name: str) -> Node:
        return self._linear(rows, self._weight(name), self._weight(name, "bias"))

    def _linear(self, rows: Node, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> Node:
        kept = _eight_bits(weight) if self._quantized else _constant(weight)
        return opset13.add(opset13.matmul(rows, kept, False, True), _constant(bias))  # noqa: FBT003

    def _norm(self, name: str, rows: Node) -> Node:
        even = opset13.mvn(rows, _whole(-1), True, self._epsilon, "INSIDE_SQRT")  # noqa: FBT003
        scaled = opset13.multiply(even, _constant(self._weight(name)))
        return opset13.add(scaled, _constant(self._weight(name, "bias")))

    def _weight(self, name: str, part: str = "weight") -> NDArray[np.float32]:
        return np.asarray(self._weights[f"{name}.{part}"], np.float32)


def _eight_bits(weight: NDArray[np.float32]) -> Node:
    """Unsigned around 128: the form that the CPU plugin multiplies with activations which it quantises as it goes."""
    scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True) / LEVELS, np.finfo(np.float32).tiny)
    levels = (np.clip(np.rint(weight / scale), -LEVELS, LEVELS) + LEVELS + 1).astype(np.uint8)
    middle = opset13.convert(_constant(np.full((1, 1), LEVELS + 1, np.uint8)), np.float32)
    return opset13.multiply(
        opset13.subtract(opset13.convert(_constant(levels), np.float32), middle), _constant(scale.astype(np.float32))
    )


def _constant(values: NDArray[Any]) -> Node:
    return opset13.constant(np.array(values, order="C"))


def _number(value: float) -> Node:
    return opset13.constant(np.array(value, np.float32))


def _whole(*values: int) -> Node:
    return opset13.constant(np.array(values, np.int64))


def _axis(value: int) -> Node:
    return opset13.constant(np.array(value, np.int64))
