"""How busy the parts are. They keep plain numbers; whoever asks for the metrics reads them then, and nobody else pays."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PoolLoad:
    size: int
    in_use: int
    waiting: int
    refused: int = 0  # ever, because too many were waiting


@dataclass(frozen=True, slots=True)
class EmbedderLoad:
    """`queries` counts, ever, how queries were answered: cached, joined (to the same one in flight), computed, refused."""

    waiting_queries: int = 0
    waiting_passages: int = 0
    cached: int = 0
    queries: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StatementLoad:
    """Shapes of the search statement that this process knows."""

    prepared: int
    unprepared: int
