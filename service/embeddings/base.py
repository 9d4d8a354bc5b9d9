"""What the rest of the house may know about an embedder: texts in, unit vectors out."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.telemetry.loads import EmbedderLoad

Vector: TypeAlias = NDArray[np.float32]
"""`(dimension,)` float32, unit length, read-only."""
Matrix: TypeAlias = NDArray[np.float32]
"""`(n, dimension)` float32, each row of unit length."""


class Embedder(Protocol):
    """Turns texts into unit vectors without ever blocking the event loop.

    Both embedding methods raise `OverloadedError` when too much is waiting and `UnavailableError` when the model fails
    or the embedder is closed. Cancelling one caller never disturbs another.
    """

    @property
    def name(self) -> str:
        """The profile's name: all-MiniLM-L6-v2, hashing-384."""

    @property
    def dimension(self) -> int: ...

    @property
    def max_tokens(self) -> int:
        """Tokens beyond this many, special ones included, do not reach the model."""

    async def embed_query(self, text: str) -> Vector: ...

    async def embed_passages(self, texts: Sequence[str]) -> Matrix:
        """One row a text, in the order given."""

    def count_tokens(self, text: str) -> int:
        """How many tokens the whole text has, special ones included. Safe to call from any thread."""

    def token_starts(self, text: str) -> Sequence[int]:
        """Where each token of the text begins, ascending, special ones not included. Safe to call from any thread."""

    def load(self) -> EmbedderLoad:
        """How busy it is. Safe to call from any thread."""

    async def close(self) -> None: ...
