"""Every table, as Alembic compares it and as every statement is composed from it.

Row security, functions, views and grants are not metadata: they stand in `migrations/`.
"""

from pgvector.sqlalchemy import HALFVEC, SPARSEVEC
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

TERM_SPACE = (
    1_000_000_000  # sparsevec's largest dimension: a term id is a hash into it, so writers share no dictionary.
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    },
)

# kB that may wait in front of a GIN index, of which every search reads all. docs/decisions/0024-bulk-ingest.md
SHORT_LIST = {"gin_pending_list_limit": 1024}
Moment = DateTime(timezone=True)
Json = JSONB(none_as_null=True)


def created() -> Column[object]:
    return Column("created_at", Moment, nullable=False, server_default=func.now())


def identity() -> Column[object]:
    """Ids are made in Python, so that a blob's key is known before its row; the database checks the version."""
    return Column("id", Uuid, CheckConstraint("uuid_extract_version(id) = 7", name="uuid7"), primary_key=True)


tenants = Table(
    "tenants",
    metadata,
    identity(),
    Column("name", Text, nullable=False, unique=True),
    created(),
)

api_keys = Table(
    "api_keys",
    metadata,
    identity(),
    Column("tenant_id", ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("key_hash", LargeBinary, nullable=False, unique=True),
    created(),
    Column("revoked_at", Moment),
)

embedding_profiles = Table(
    "embedding_profiles",
    metadata,
    identity(),
    Column("name", Text, nullable=False, unique=True),
    Column("dimension", Integer, nullable=False),
    created(),
)

collections = Table(
    "collections",
    metadata,
    identity(),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("attributes", Json, nullable=False, server_default=text("'{}'")),
    Column("profile_id", ForeignKey("embedding_profiles.id"), nullable=False),
    # Frozen together by the statistics job: a query must not divide one batch's counts by another's.
    Column("chunk_count", Integer, nullable=False, server_default="0"),
    Column("average_length", Double),
    Column("epoch", Integer, nullable=False, server_default="1"),
    created(),
    Column("updated_at", Moment, nullable=False, server_default=func.now()),
    Column("deleted_at", Moment),
    Index(
        "uq_collections_tenant_id_name",
        "tenant_id",
        "name",
        unique=True,
        postgresql_where=text("deleted_at IS NULL"),
    ),
)


def document_fields() -> list[Column[object]]:
    return [
        Column("title", Text),
        Column("source", Text),
        Column("tags", ARRAY(Text), nullable=False, server_default=text("'{}'")),
        Column("published_at", Moment),
        Column("language", Text),
        Column("attributes", Json, nullable=False, server_default=text("'{}'")),
    ]


documents = Table(
    "documents",
    metadata,
    identity(),
    Column("collection_id", ForeignKey("collections.id"), nullable=False),
    Column("external_id", Text),
    Column("version", Integer, nullable=False, server_default="1"),
    # From here on: of the version that search serves.
    Column("indexed_version", Integer),
    *document_fields(),
    Column("chunk_count", Integer, nullable=False, server_default="0"),
    created(),
    Column("updated_at", Moment, nullable=False, server_default=func.now()),
    UniqueConstraint("collection_id", "external_id"),
    UniqueConstraint("collection_id", "id"),
    Index(None, "collection_id", "published_at"),
    Index(
        None,
        "attributes",
        postgresql_using="gin",
        postgresql_ops={"attributes": "jsonb_path_ops"},
        postgresql_with=SHORT_LIST,
    ),
    Index(None, "tags", postgresql_using="gin", postgresql_with=SHORT_LIST),
)

document_versions = Table(
    "document_versions",
    metadata,
    Column("document_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("collection_id", Uuid, nullable=False),
    *document_fields(),
    Column("content_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("filename", Text),
    # Exactly one of the two: a JSON document's text is a row, a file's bytes are an object.
    Column("text", Text),
    Column("blob_key", Text),
    Column("vector", HALFVEC),
    Column("status", Text, nullable=False, server_default="pending"),
    Column("failure", Json),  # {code, message}
    created(),
    ForeignKeyConstraint(
        ["collection_id", "document_id"],
        ["documents.collection_id", "documents.id"],
        ondelete="CASCADE",
    ),
    CheckConstraint("status in ('pending', 'indexed', 'failed')", name="status"),
    CheckConstraint("num_nonnulls(text, blob_key) = 1", name="one_body"),
    CheckConstraint("(status = 'failed') = (failure is not null)", name="failed_with_failure"),
    # Few rows at any time: it is what `status` counts and lists without reading the indexed ones.
    Index(
        "ix_document_versions_unfinished",
        "collection_id",
        "status",
        "document_id",
        postgresql_where=text("status <> 'indexed'"),
    ),
)

chunks = Table(
    "chunks",
    metadata,
    identity(),
    Column("collection_id", Uuid, nullable=False),
    Column("document_id", Uuid, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("char_start", Integer, nullable=False),
    Column("char_end", Integer, nullable=False),
    Column("page", Integer),
    UniqueConstraint("document_id", "ordinal"),
    ForeignKeyConstraint(
        ["collection_id", "document_id"],
        ["documents.collection_id", "documents.id"],
        ondelete="CASCADE",
    ),
)

chunk_terms = Table(
    "chunk_terms",
    metadata,
    Column("chunk_id", ForeignKey("chunks.id", ondelete="CASCADE"), primary_key=True),
    Column("collection_id", Uuid, nullable=False),
    Column("document_id", Uuid, nullable=False, index=True),
    Column("terms", ARRAY(Integer), nullable=False),
    Column("bm25", SPARSEVEC, nullable=False),
    Column("length", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Index(None, "terms", postgresql_using="gin", postgresql_with=SHORT_LIST),
    Index(None, "collection_id", "epoch"),
)

embeddings = Table(
    "embeddings",
    metadata,
    # The chunk first: a cascade from `chunks` finds it in every partition.
    Column("chunk_id", ForeignKey("chunks.id", ondelete="CASCADE"), primary_key=True),
    Column("profile_id", ForeignKey("embedding_profiles.id"), primary_key=True),
    Column("collection_id", Uuid, nullable=False, index=True),
    Column("document_id", Uuid, nullable=False, index=True),
    Column("embedding", HALFVEC, nullable=False),
    postgresql_partition_by="LIST (profile_id)",
)

lexeme_frequencies = Table(
    "lexeme_frequencies",
    metadata,
    Column("collection_id", ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True),
    Column("term", Integer, primary_key=True, autoincrement=False),
    Column("df", Integer, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    identity(),
    Column("kind", Text, nullable=False),
    # No foreign keys: a job outlives the collection or document whose blobs it removes.
    Column("tenant_id", Uuid),
    Column("collection_id", Uuid),
    Column("document_id", Uuid),
    Column("payload", Json, nullable=False, server_default=text("'{}'")),
    Column("dedupe_key", Text),
    Column("state", Text, nullable=False, server_default="queued"),
    Column("run_at", Moment, nullable=False, server_default=func.now()),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("max_attempts", Integer, nullable=False, server_default="10"),
    Column("lease_until", Moment),
    Column("lease_token", Uuid),
    Column("last_error", Text),
    created(),
    CheckConstraint("state in ('queued', 'running', 'dead')", name="state"),
    Index("ix_jobs_claim", "kind", "run_at", "id", postgresql_where=text("state = 'queued'")),
    Index("ix_jobs_lease", "lease_until", postgresql_where=text("state = 'running'")),
    Index("uq_jobs_dedupe_key", "dedupe_key", unique=True, postgresql_where=text("state = 'queued'")),
    Index(None, "collection_id", "state"),
    Index(None, "document_id"),
)

# Who runs, what ran and what must not run any more: what the gates of a migration ask.
instances = Table(
    "instances",
    metadata,
    identity(),
    Column("kind", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("started_at", Moment, nullable=False, server_default=func.now()),
    Column("seen_at", Moment, nullable=False, server_default=func.now()),
    CheckConstraint("kind in ('api', 'worker')", name="kind"),
)

release_floor = Table(
    "release_floor",
    metadata,
    Column("single", Boolean, CheckConstraint("single", name="single"), primary_key=True),
    Column("release", Text, nullable=False),
)

applied_migrations = Table(
    "applied_migrations",
    metadata,
    Column("revision", Text, primary_key=True),
    Column("applied_at", Moment, nullable=False, server_default=func.now()),
)

backfills = Table(
    "backfills",
    metadata,
    Column("name", Text, primary_key=True),
    Column("position", Json),
    Column("passes", Integer, nullable=False, server_default="0"),
    Column("looked_at", BigInteger, nullable=False, server_default="0"),
    Column("changed", BigInteger, nullable=False, server_default="0"),
    Column("started_at", Moment, nullable=False, server_default=func.now()),
    Column("updated_at", Moment, nullable=False, server_default=func.now()),
    Column("finished_at", Moment),
)

# Plain views of the owner over four tables: what the `searcher` role may read of them, and only through `retrieval`.
views = MetaData()


def view(name: str, source: Table, *columns: str) -> Table:
    return Table(name, views, *(Column(c, source.c[c].type) for c in columns))


search_documents = view(
    "search_documents",
    documents,
    "id",
    "collection_id",
    "external_id",
    "indexed_version",
    "chunk_count",
    "title",
    "source",
    "tags",
    "published_at",
    "language",
    "attributes",
    "version",
    "created_at",
    "updated_at",
)
search_chunks = view("search_chunks", chunks, "id", "document_id", "ordinal", "text", "char_start", "char_end", "page")
search_terms = view("search_terms", chunk_terms, "chunk_id", "collection_id", "document_id", "terms", "bm25")
search_embeddings = view(
    "search_embeddings", embeddings, "profile_id", "chunk_id", "collection_id", "document_id", "embedding"
)
