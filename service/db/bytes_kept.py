"""The same chunks in two schemas, ours and the textbook's, to see how many bytes each takes.

In temporary tables of one session, which go with it. Ours are made `like` the service's own, with all their indexes.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.owner import as_owner
from service.db.profiles import EmbeddingProfile
from service.db.roles import identifier

# What the usual guide has: one row a chunk with its vector and its words, an HNSW and a GIN index; and what whoever serves
# several collections and replaces documents adds to it, as ours has it.
TEXTBOOK = """
    create temporary table textbook (
        id uuid primary key,
        collection_id uuid not null,
        document_id uuid not null,
        embedding vector({dimension}) not null,
        words tsvector not null
    )
"""
TEXTBOOK_INDEXES = (
    "create index textbook_collection on textbook (collection_id)",
    "create index textbook_document on textbook (document_id)",
    "create index textbook_hnsw on textbook using hnsw (embedding vector_ip_ops)",
    "create index textbook_gin on textbook using gin (words)",
)
FILL_OURS = "insert into {copy} select * from {source} where collection_id = cast(:collection as uuid)"
FILL_TEXTBOOK = """
    insert into textbook
    select k.id, k.collection_id, k.document_id, (e.embedding::halfvec({dimension}))::vector({dimension}),
           to_tsvector(cast(coalesce(d.language, c.language) as regconfig), coalesce(d.title, '') || E'\\n' || k.text)
    from chunks k
    join documents d on d.id = k.document_id
    join collections c on c.id = k.collection_id
    join embeddings e on e.chunk_id = k.id and e.profile_id = cast(:profile as uuid)
    where k.collection_id = cast(:collection as uuid)
"""
# Everything of an index or a table: its main fork, free space and visibility maps, and what lies beside it in TOAST.
SIZES = """
    select c.relname, cast(sum(pg_relation_size(part, fork)) as bigint)
    from pg_class c,
         unnest(array[c.oid] || case when c.reltoastrelid > 0 then array[c.reltoastrelid] || array(
             select indexrelid from pg_index where indrelid = c.reltoastrelid) end) part,
         unnest(array['main', 'fsm', 'vm']) fork
    where c.relnamespace = pg_my_temp_schema() and c.relkind in ('r', 'i')
    group by c.relname order by 2 desc
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes by table and index, TOAST with its table, of the same `chunks` chunks."""

    chunks: int
    ours: dict[str, int]
    textbook: dict[str, int]


async def bytes_kept(direct_url: str, *, collection_id: UUID, profile: EmbeddingProfile) -> Kept:
    """Of the collection's rows as they are now, after VACUUM."""
    ours = {
        f"embeddings_p_{profile.id.hex}": "our_embeddings",
        "chunk_terms": "our_chunk_terms",
        "lexeme_frequencies": "our_lexeme_frequencies",
    }
    dimension = str(int(profile.dimension))
    values = {"collection": str(collection_id), "profile": str(profile.id)}
    async with as_owner(direct_url, autocommit=True) as connection:
        for source, copy in ours.items():
            await run(connection, f"create temporary table {copy} (like {identifier(source)} including all)")
            rows = FILL_OURS.replace("{copy}", copy).replace("{source}", identifier(source))
            await run(connection, rows, collection=str(collection_id))
        await run(connection, TEXTBOOK.replace("{dimension}", dimension))
        for statement in TEXTBOOK_INDEXES:
            await run(connection, statement)
        await connection.execute(text(FILL_TEXTBOOK.replace("{dimension}", dimension)), values)
        for table in (*ours.values(), "textbook"):
            await run(connection, f"vacuum {table}")
        chunks = int((await connection.execute(text("select count(*) from textbook"))).scalar_one())
        sizes = {str(name): int(size) for name, size in await connection.execute(text(SIZES))}
    book = {name: size for name, size in sizes.items() if name.startswith("textbook")}
    return Kept(chunks, {name: size for name, size in sizes.items() if name not in book}, book)


async def run(connection: AsyncConnection, statement: str, **values: str) -> None:
    await connection.execute(text(statement), values)
