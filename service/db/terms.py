"""The lexical side of writing: a chunk's terms and weights, a collection's statistics, a new epoch's rewrite.

No counters: one debounced job a collection recounts from the rows, so there is one writer and no hot row.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from pgvector.sqlalchemy import SPARSEVEC
from sqlalchemy import (
    ARRAY,
    CTE,
    REAL,
    Integer,
    Select,
    String,
    Uuid,
    and_,
    bindparam,
    cast,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import REGCONFIG, aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.tables import TERM_SPACE, chunk_terms, chunks, collections, documents, lexeme_frequencies

K1, B = 1.2, 0.75  # Robertson and Zaragoza's usual constants; changing one is a new epoch
DRIFT = 0.05  # how far the average length may move before the weights are rewritten
REWRITTEN = 500  # chunks in one transaction of a rewrite

# Until the transaction ends; no row is locked, so that a collection may be changed meanwhile.
ONE_AT_A_TIME = select(
    func.pg_advisory_xact_lock(
        func.hashtext("refresh_statistics"), func.hashtext(bindparam("collection", type_=String))
    )
)


def counted_terms() -> CTE:
    """(chunk, term, tf) of `:chunk_ids`, of title and text together; a chunk without lexemes keeps one row of nulls."""
    k, d, c = chunks.c, documents.c, collections.c
    body = func.coalesce(d.title, "") + "\n" + k.text
    language = cast(func.coalesce(d.language, c.language), REGCONFIG)
    columns = ("lexeme", "positions", "weights")
    w = func.unnest(func.to_tsvector(language, body)).table_valued(*columns, name="w").lateral()
    term = func.term_id(k.collection_id, w.c.lexeme)
    rows = (
        chunks.join(documents, d.id == k.document_id)
        .join(collections, c.id == k.collection_id)
        .join(w, true(), isouter=True)
    )
    return (
        select(
            k.id.label("chunk_id"),
            k.collection_id,
            k.document_id,
            c.epoch,
            c.average_length,
            term.label("term"),
            func.sum(func.cardinality(w.c.positions)).label("tf"),
        )
        .select_from(rows)
        .where(k.id == func.any(bindparam("chunk_ids", type_=ARRAY(Uuid))))
        .group_by(k.id, k.collection_id, k.document_id, c.epoch, c.average_length, term)
        .cte("counted")
    )


def weighted_terms() -> Select[tuple[object, ...]]:
    """One row of `chunk_terms` for each of `:chunk_ids`.

    weight = tf (k1 + 1) / (tf + k1 (1 - b + b length / average length))
    """
    counted = counted_terms()
    t = counted.c
    lengths = select(t.chunk_id, func.coalesce(func.sum(t.tf), 0).label("length")).group_by(t.chunk_id).cte("lengths")
    average = func.coalesce(t.average_length, 1)
    weight = t.tf * (K1 + 1) / (t.tf + K1 * (1 - B + B * lengths.c.length / average))
    pair = cast(t.term, String) + ":" + cast(cast(weight, REAL), String)
    pairs = func.coalesce(func.string_agg(pair, aggregate_order_by(literal_column("','"), t.term)), "")
    terms = func.array_agg(aggregate_order_by(t.term, t.term)).filter(t.term.is_not(None))
    return (
        select(
            t.chunk_id,
            t.collection_id,
            t.document_id,
            func.coalesce(terms, literal_column("'{}'::int[]")).label("terms"),
            cast("{" + pairs + "}/" + str(TERM_SPACE), SPARSEVEC).label("bm25"),
            cast(lengths.c.length, Integer).label("length"),
            t.epoch,
        )
        .select_from(counted.join(lengths, lengths.c.chunk_id == t.chunk_id))
        .group_by(t.chunk_id, t.collection_id, t.document_id, lengths.c.length, t.epoch)
    )


COLUMNS = ["chunk_id", "collection_id", "document_id", "terms", "bm25", "length", "epoch"]
INSERT_TERMS = insert(chunk_terms).from_select(COLUMNS, weighted_terms())


async def insert_terms(
    connection: AsyncConnection, chunk_ids: Sequence[UUID], *, collection_ids: Collection[UUID]
) -> None:
    """Makes the terms of chunks that are already there, which are of these collections."""
    await freeze_first_average(connection, chunk_ids, collection_ids)
    await connection.execute(INSERT_TERMS, {"chunk_ids": list(chunk_ids)})


async def freeze_first_average(
    connection: AsyncConnection, chunk_ids: Sequence[UUID], collection_ids: Collection[UUID]
) -> None:
    """A collection's first batch decides its average length. Of two first batches one waits, and takes the other's."""
    c = collections.c
    without = select(c.id).where(c.id.in_(collection_ids), c.average_length.is_(None)).order_by(c.id)
    if not (await connection.execute(without.with_for_update(key_share=True))).first():
        return
    t = counted_terms().c
    lengths = (
        select(t.collection_id, func.coalesce(func.sum(t.tf), 0).label("length"))
        .group_by(t.collection_id, t.chunk_id)
        .subquery("lengths")
        .c
    )
    measured = (
        select(lengths.collection_id, func.avg(lengths.length).label("average"))
        .group_by(lengths.collection_id)
        .subquery("measured")
        .c
    )
    first = (
        update(collections)
        .where(c.id == measured.collection_id, c.average_length.is_(None), measured.average > 0)
        .values(average_length=measured.average)
    )
    await connection.execute(first, {"chunk_ids": list(chunk_ids)})


@dataclass(frozen=True, slots=True)
class Recount:
    """What a recount found and left: chunks, their average length, and how many terms had another frequency."""

    chunks_before: int
    chunks: int
    average_before: float | None
    average: float | None
    terms: int


async def refresh_statistics(connection: AsyncConnection, collection_id: UUID, *, drift: float = DRIFT) -> Recount:
    """Recounts document frequencies (only df > 1 is kept), the chunk count and the average length.

    When the average has moved by more than the share `drift`, a new epoch begins and all weights are behind; below 0 it
    begins in any case. Two recounts of a collection wait for each other: both write the rows of the same terms.
    """
    await connection.execute(ONE_AT_A_TIME, {"collection": str(collection_id)})
    t, f, c = chunk_terms.c, lexeme_frequencies.c, collections.c
    mine = t.collection_id == collection_id
    postings = select(func.unnest(t.terms).label("term")).where(mine).subquery("postings").c
    recount = (
        select(postings.term, func.count().label("df")).group_by(postings.term).having(func.count() > 1).cte("recount")
    )
    new = upsert(lexeme_frequencies).from_select(
        ["collection_id", "term", "df"],
        select(literal_column(f"'{collection_id}'::uuid"), recount.c.term, recount.c.df),
    )
    kept = new.on_conflict_do_update(
        index_elements=["collection_id", "term"], set_={"df": new.excluded.df}, where=f.df != new.excluded.df
    )
    gone = delete(lexeme_frequencies).where(f.collection_id == collection_id, ~exists().where(recount.c.term == f.term))
    # A term that is rare again is deleted, any other is inserted or updated: none is in both.
    changed = [rows.returning(f.term).cte(name) for rows, name in ((kept, "kept"), (gone, "gone"))]
    both = union_all(*(select(rows.c.term) for rows in changed)).subquery("both")
    terms = (await connection.execute(select(func.count()).select_from(both))).scalar_one()

    measured = select(func.count(), func.avg(t.length)).where(mine)
    count, mean = (await connection.execute(measured)).one()
    known = select(c.chunk_count, c.average_length).where(c.id == collection_id)
    before = (await connection.execute(known)).one_or_none()
    chunks_before, frozen = (0, None) if before is None else (before.chunk_count, before.average_length)
    average, values = frozen, dict[str, object](chunk_count=count)
    # Written so that an average which is no number at all counts as moved.
    if mean and not (frozen and abs(float(mean) / frozen - 1) <= drift):
        average = float(mean)
        values |= {"average_length": average, "epoch": c.epoch + 1}
    await connection.execute(update(collections).where(c.id == collection_id).values(**values))
    return Recount(chunks_before, count, frozen, average, terms)


async def is_behind(connection: AsyncConnection, collection_id: UUID) -> bool:
    """Whether weights of an earlier epoch are left: all after a drift, or those of a batch that saw the old average."""
    t, c = chunk_terms.c, collections.c
    epoch = select(c.epoch).where(c.id == collection_id).scalar_subquery()
    old = select(t.chunk_id).where(t.collection_id == collection_id, t.epoch < epoch)
    return bool((await connection.execute(select(old.exists()))).scalar())


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A batch of chunks; of `mended` the terms were not those of their text."""

    chunks: int
    mended: int


async def rewrite_weights(connection: AsyncConnection, collection_id: UUID) -> Rewritten:
    """Brings one batch of a collection's rows to its epoch, from their texts; none when no row is behind."""
    t, c = chunk_terms.c, collections.c
    epoch = select(c.epoch).where(c.id == collection_id).scalar_subquery()
    behind = select(t.chunk_id).where(and_(t.collection_id == collection_id, t.epoch < epoch)).limit(REWRITTEN)
    ids = list((await connection.execute(behind.with_for_update(skip_locked=True))).scalars())
    if not ids:
        return Rewritten(0, 0)
    w, old = weighted_terms().subquery("w").c, chunk_terms.alias("old").c
    fresh = {"bm25": w.bm25, "length": w.length, "terms": w.terms, "epoch": w.epoch}
    changed = or_(old.length != w.length, old.terms != w.terms)
    written = update(chunk_terms).where(t.chunk_id == w.chunk_id, old.chunk_id == w.chunk_id).values(fresh)
    rows = (await connection.execute(written.returning(changed), {"chunk_ids": ids})).scalars()
    return Rewritten(len(ids), sum(rows))
