"""Every environment variable: a setting is a field is a variable. Required means no default."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, env_file=None, extra="ignore")

    database_url: SecretStr = Field(description="The primary as the application role, through the pooler.")
    search_database_url: SecretStr = Field(description="The primary or a read replica as the searcher role.")
    database_direct_url: SecretStr | None = Field(
        default=None, description="The migrator, unpooled. Needed by `migrate` and by `worker --owner`."
    )
    database_tls: Literal["off", "encrypt", "verify"] = Field(
        default="verify", description="For both doors: verify chain and host name, encrypt only, or off (loopback)."
    )
    database_ca_file: Path | None = Field(default=None, description="CA bundle for `verify`; certifi's by default.")
    database_pool_size: int = Field(default=10, ge=2, description="Connections of the primary door, per process.")
    search_pool_size: int = Field(default=8, ge=2, description="Connections of the read pool, per process.")
    search_queue: int = Field(default=64, ge=0, description="Searches that may wait for one; beyond it: 503.")
    search_driver: Literal["psqlpy", "asyncpg"] = Field(default="psqlpy", description="The driver of the read pool.")
    pg_statement_mode: Literal["tracked", "untracked"] = Field(
        default="tracked",
        description="Whether the pooler tracks prepared statements: Neon, PgBouncer >= 1.21 and direct do.",
    )

    s3_endpoint_url: str = Field(description="R2: https://<account>.r2.cloudflarestorage.com")
    s3_bucket: str
    s3_access_key_id: SecretStr
    s3_secret_access_key: SecretStr
    s3_region: str = "auto"

    embedding_model: str = Field(
        default="all-MiniLM-L6-v2",
        description="A sentence-transformers model, or `hashing`: no torch, for fast tests.",
    )
    embedding_threads: int | None = Field(
        default=None, ge=1, description="Forward passes at once, each on one core; by default one a core."
    )

    exact_chunks: int = Field(
        default=13_000, ge=0, description="Filters that leave at most so many chunks are scanned exactly, not by HNSW."
    )
    lexical_budget: int = Field(
        default=5_000, ge=1, description="Document frequency up to which a query's rarest terms select candidates."
    )

    worker_poll_seconds: float = Field(default=0.1, gt=0, description="How often an idle worker looks for a job.")
    worker_batch: int = Field(default=128, ge=1, description="Documents indexed in one transaction.")
    lease_seconds: float = Field(default=30, gt=0, description="A worker silent for so long has lost its jobs.")
    blob_grace_seconds: float = Field(
        default=7 * 24 * 3600.0, ge=0, description="Kept after deletion; longer than the database's restore window."
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    log_format: Literal["json", "console"] = "json"
