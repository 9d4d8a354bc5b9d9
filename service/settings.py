"""Every environment variable: a setting is a field is a variable. Required means no default."""

from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import AnyHttpUrl, Field, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

# Those of docker-compose.yml and of .env.example (a test compares): everybody can read them.
PUBLISHED = frozenset(
    {"application", "change-me", "local-access-key", "local-secret-key", "migrator", "postgres", "searcher"}
)
PUBLISHED_HINT = "everybody knows this password from the repository: choose another, or say DEPLOYMENT=dev"


def is_published(secret: str) -> bool:
    """Whether a password, a key, or the password within an address is one that this repository shows to everybody."""
    try:
        return (unquote(urlsplit(secret).password or "") if "://" in secret else secret) in PUBLISHED
    except ValueError:  # No address at all: whoever opens it says so.
        return False


class Settings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, env_file=None, extra="ignore")

    deployment: Literal["dev", "production"] = Field(
        default="production", description="Passwords that this repository publishes are for `dev` only."
    )

    database_url: SecretStr = Field(description="The primary as the application role, through the pooler.")
    search_database_url: SecretStr = Field(description="The primary or a read replica as the searcher role.")
    database_direct_url: SecretStr | None = Field(
        default=None, description="The migrator, unpooled. Needed by `migrate` and by `worker --owner`."
    )
    database_tls: Literal["off", "encrypt", "verify"] = Field(
        default="verify", description="For every address: verify chain and host name, encrypt only, or off (loopback)."
    )
    database_ca_file: Path | None = Field(default=None, description="CA bundle for `verify`; certifi's by default.")
    database_pool_size: int = Field(default=10, ge=2, description="Connections of the primary door, per process.")
    search_pool_size: int = Field(default=8, ge=2, description="Connections of the read pool, per process.")
    search_queue: int = Field(default=64, ge=0, description="Searches that may wait for one; beyond it: 503.")
    search_wait_ms: int = Field(
        default=500,
        ge=0,
        description="How long a search that shows a commit token waits for a replica that is behind; then the primary answers.",
    )
    search_primary_pool_size: int = Field(
        default=4,
        ge=2,
        description="Connections to the primary as the searcher, per process, for what a replica cannot answer;"
        " none where SEARCH_DATABASE_URL is the primary.",
    )
    search_driver: Literal["psqlpy", "asyncpg"] = Field(default="asyncpg", description="The driver of the read pool.")
    pg_statement_mode: Literal["tracked", "untracked"] = Field(
        default="tracked",
        description="Whether the pooler tracks prepared statements: Neon, PgBouncer >= 1.21 and direct do.",
    )

    s3_endpoint_url: str = Field(description="R2: `https://<account>.r2.cloudflarestorage.com`.")
    s3_bucket: str = Field(description="It must exist.")
    s3_access_key_id: SecretStr = Field(description="Of a token that may read and write this bucket.")
    s3_secret_access_key: SecretStr = Field(description="The same token's.")
    s3_prefix: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9._-]+/)*$",
        description="Before every key that this database writes; one that shares the bucket has its own, as a branch does.",
    )
    s3_region: str = Field(default="auto", description="R2 says `auto`; MinIO says `us-east-1`.")

    embedding_model: str = Field(
        default="all-MiniLM-L6-v2",
        description="A sentence-transformers model, or `hashing`: no torch, for fast tests.",
    )
    embedding_threads: int | None = Field(
        default=None, ge=1, description="Forward passes at once, each on one core; by default one a core."
    )

    embedding_runtime: Literal["auto", "openvino", "torch"] = Field(
        default="auto",
        description="OpenVINO wherever it gives the vectors of torch on this processor, else torch; or one of the two by name.",
    )
    embedding_precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        default="auto",
        description="The numbers that the model computes with; by default what the processor is fast at.",
    )
    embedding_cache: Path | None = Field(
        default=None, description="Where the exported model is kept; by default in this user's cache folder."
    )

    reranker_model: str | None = Field(
        default=None,
        description="What reads the best hits again where a search asks for `rerank`: a sentence-transformers cross-encoder"
        " (it has as many threads as the embedder), or `overlap`, a stand-in without a model. By default nothing does.",
    )

    exact_chunks: int = Field(
        default=20_000,
        ge=0,
        description="Filters that leave at most so many chunks are scanned exactly, not by HNSW. Without a filter a"
        " collection of at most so many is scanned where that is faster, and a larger one never.",
    )
    lexical_budget: int = Field(
        default=5_000, ge=1, description="Document frequency up to which a query's rarest terms select candidates."
    )
    recall_sample_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of searches that are run again exactly, in the background, for `search_recall_at_10`; 0 for none.",
    )

    worker_poll_seconds: float = Field(default=0.1, gt=0, description="How often an idle worker looks for a job.")
    worker_batch: int = Field(default=128, ge=1, description="Documents indexed in one transaction.")
    worker_lanes: int = Field(default=3, ge=1, description="Batches of texts in hand at the same time, per worker.")
    worker_niceness: int = Field(
        default=10,
        ge=0,
        le=19,
        description="How much the worker gives way to searches on the same machine; 0: not at all.",
    )
    lease_seconds: float = Field(default=30, gt=0, description="A worker silent for so long has lost its jobs.")
    blob_grace_seconds: float = Field(
        default=7 * 24 * 3600.0, ge=0, description="Kept after deletion; longer than the database's restore window."
    )

    worker_metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Where `worker` answers with its metrics, on HOST; nowhere by default.",
    )
    otel_exporter_otlp_endpoint: AnyHttpUrl | None = Field(
        default=None, description="An OpenTelemetry collector that takes OTLP over HTTP; needs the extra `otel`."
    )

    host: str = Field(default="127.0.0.1", description="Where `serve` listens; `0.0.0.0` in a container.")
    port: int = Field(default=8000, ge=0, le=65535, description="Where `serve` listens.")
    serve_workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes of `serve` behind the port; each has its own pools, embedder and caches.",
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="`json` for programs, `console` for people."
    )

    @field_validator(
        "database_url", "search_database_url", "database_direct_url", "s3_access_key_id", "s3_secret_access_key"
    )
    @classmethod
    def is_secret(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """A default that works everywhere is the one that is found in production."""
        if value is not None and info.data.get("deployment") != "dev" and is_published(value.get_secret_value()):
            raise PydanticCustomError("published", PUBLISHED_HINT)
        return value

    @property
    def collector(self) -> str | None:
        """Where traces go."""
        return None if self.otel_exporter_otlp_endpoint is None else str(self.otel_exporter_otlp_endpoint)
