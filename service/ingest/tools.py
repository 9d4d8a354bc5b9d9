"""What indexing needs, opened once per worker."""

from dataclasses import dataclass, field

from service.blobs.store import Blobs
from service.db.primary import Primary
from service.db.profiles import EmbeddingProfile
from service.embeddings.base import Embedder
from service.ingest.extract import Extractor
from service.telemetry.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Tools:
    primary: Primary
    blobs: Blobs
    embedder: Embedder
    profile: EmbeddingProfile  # the embedder's
    extractor: Extractor
    blob_grace_seconds: float
    telemetry: Telemetry = field(default_factory=Telemetry)
    exact_chunks: int = 0  # as the searches have it: a bulk load puts the index of so many vectors off
