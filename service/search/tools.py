"""What a search needs, built once per process."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.db.profiles import EmbeddingProfile
from service.db.read_pool import Reader
from service.db.retrieval import Statements
from service.embeddings.base import Embedder
from service.rerankers.base import Reranker
from service.search.ways import Left
from service.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from service.search.recall import RecallProbe


@dataclass(frozen=True, slots=True)
class Searching:
    reader: Reader
    statements: Statements
    embedder: Embedder
    profile: EmbeddingProfile
    exact_chunks: int
    lexical_budget: int
    telemetry: Telemetry = field(default_factory=Telemetry)
    left: Left = field(default_factory=Left)
    reranker: Reranker | None = None
    recall: "RecallProbe | None" = None
