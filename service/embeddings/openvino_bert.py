"""A mean-pooled BERT on OpenVINO, from a graph that `exported` keeps."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock, local

import numpy as np
from numpy.typing import NDArray

from service.embeddings.base import Matrix
from service.embeddings.bert_folder import PlainBert
from service.embeddings.encoder import Purpose, Sequenced
from service.embeddings.processor import Computed
from service.embeddings.silent_openvino import openvino

# A lone sequence of at most so many tokens runs in a graph of exactly that length. Whenever a graph of any length gets
# another one than before, it prepares all its layers again: 4.1 instead of 2.8 ms for a question (measured).
LENGTHS = (8, 16, 24, 32, 48)
ROUNDED = 8  # So that batches come in few shapes, for each of which kernels are made and kept.
PASS_COSTS = 24  # Tokens that could be computed in the time that a pass of another shape takes to begin.
GROUP = "128"  # Activations that share a scale when they are quantised.
HINT = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


class OpenvinoEncoder(PlainBert):
    """Each pass runs on one core, as many at once as `threads`."""

    def __init__(self, folder: Path, *, name: str, graph: Path, numbers: Computed, threads: int) -> None:
        super().__init__(folder, name=name)
        self._core = openvino.Core()
        self._graph = self._core.read_model(graph)
        self._config = {
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": "NO",  # Postgres and the event loop run on the same cores.
            "INFERENCE_PRECISION_HINT": HINT[numbers],
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP if numbers == "int8" else "0",
        }
        self._any = _Compiled(self._core.compile_model(self._graph, "CPU", self._config))
        self._fixed: dict[int, _Compiled] = {}
        self._compiling = Lock()

    def encode(self, batch: Sequence[Sequenced], *, purpose: Purpose) -> Matrix:  # noqa: ARG002 - a plain BERT has no prompts
        vectors = np.empty((len(batch), self.dimension), np.float32)
        for rows in alike([len(sequence.ids) for sequence in batch]):
            vectors[rows] = self._summed([batch[row].ids for row in rows])  # The mean's divisor falls away below.
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return vectors

    def _summed(self, sequences: Sequence[Sequence[int]]) -> Matrix:
        lengths = np.array([len(ids) for ids in sequences])
        compiled, width = self._any, min(rounded(int(lengths.max())), self.max_tokens)
        if len(sequences) == 1 and (fixed := next((length for length in LENGTHS if length >= width), None)):
            compiled, width = self._of_length(fixed), fixed
        ids = np.zeros((len(sequences), width), np.int32)
        for row, sequence in enumerate(sequences):
            ids[row, : lengths[row]] = sequence
        return compiled.run(ids, (np.arange(width) < lengths[:, None]).astype(np.float32))

    def _of_length(self, length: int) -> "_Compiled":
        """Compiled when it is first needed, in .15 s and 35 MB: a worker, which sees no queries, never needs one."""
        if length in self._fixed:
            return self._fixed[length]
        if not self._compiling.acquire(blocking=False):
            return self._any  # Whoever comes meanwhile does not wait.
        try:
            graph = self._graph.clone()
            graph.reshape({"ids": [1, length], "kept": [1, length]})
            compiled = _Compiled(self._core.compile_model(graph, "CPU", self._config))
            self._fixed[length] = compiled
            return compiled
        finally:
            self._compiling.release()


def rounded(length: int) -> int:
    return -length % ROUNDED + length


def alike(lengths: Sequence[int]) -> list[list[int]]:
    """The rows in passes of similar length, longest first: padding is computed like everything else."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row], reverse=True)
    passes: list[list[int]] = []
    for at, row in enumerate(order):
        spared = (rounded(lengths[passes[-1][0]]) - rounded(lengths[row])) * (len(order) - at) if passes else PASS_COSTS
        if spared >= PASS_COSTS:
            passes.append([])
        passes[-1].append(row)
    return passes


class _Compiled:
    """A compiled graph, with a request of its own for every thread."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._compiled = compiled
        self._threads = local()

    def run(self, ids: NDArray[np.int32], kept: NDArray[np.float32]) -> Matrix:
        request = getattr(self._threads, "request", None)
        if request is None:
            request = self._threads.request = self._compiled.create_infer_request()
        request.infer({0: ids, 1: kept}, share_inputs=True)
        return np.array(request.get_output_tensor(0).data, np.float32)
