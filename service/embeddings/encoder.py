"""What a runtime of a model has to offer: OpenVINO, torch, sentence-transformers. Nothing here waits or schedules."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from service.embeddings.base import Matrix

Purpose: TypeAlias = Literal["query", "passage"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16", "int8"]
"""int8 is the fast runtime's alone; torch takes what it takes by itself."""
Runtime: TypeAlias = Literal["auto", "openvino", "torch"]


@dataclass(frozen=True, slots=True)
class Sequenced:
    """A text and the token ids that reach the model: cut at `max_tokens`, special ones included."""

    text: str
    ids: Sequence[int]


class Encoder(Protocol):
    """A loaded model. Its methods block, and any number of threads may call them at once."""

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def max_tokens(self) -> int: ...

    def count_tokens(self, text: str) -> int:
        """Tokens of the whole text, special ones included."""

    def token_starts(self, text: str) -> Sequence[int]:
        """Where each token of the whole text begins, special ones not included."""

    def tokenize(self, texts: Sequence[str]) -> list[Sequenced]: ...

    def encode(self, batch: Sequence[Sequenced], *, purpose: Purpose) -> Matrix:
        """One forward pass over all of them; rows in the order given."""


def encodable(text: str) -> str:
    """The text, a lone surrogate (JSON can carry one, UTF-8 cannot) replaced by a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
