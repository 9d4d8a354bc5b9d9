"""The plans that a search depends on: each index is used where it should be, and the branch not taken is not executed."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from service.db.owner import as_owner
from service.domain.queries import Mode
from service.resources import Resources
from tests.api_calls import Api
from tests.search_calls import Library, analyze, collection_of, direct_url, directions, library
from tests.search_plans import Sent, explain, plans_of_a_dozen

CHUNKS = 3_000
VECTOR = directions(1, seed=8)[0]
MODES = ("force_custom_plan", "force_generic_plan")

# One document is indexed by the worker; its likenesses are made of it here, each with a vector and three words of its own.
LIKENESSES = """
with d as (insert into documents (id, collection_id, external_id, version, indexed_version, chunk_count, attributes, tags,
                             published_at)
           select uuidv7(), collection_id, 'x' || n, 1, 1, 1,
                  jsonb_build_object('n', n, 'few', n % 300, 'half', n % 2, 'list', jsonb_build_array('l' || n % 250)),
                  array['t' || n % 200], '2000-01-01Z'::timestamptz + n * interval '9 hours'
           from documents, generate_series(1, :count) n where collection_id = :collection
           returning id, collection_id, (attributes ->> 'n')::int as n),
     k as (insert into chunks (id, collection_id, document_id, ordinal, text, char_start, char_end)
           select uuidv7(), collection_id, id, 0, 'w' || n % 700, 0, 1 from d returning id, collection_id, document_id),
     t as (insert into chunk_terms (chunk_id, collection_id, document_id, terms, bm25, length, epoch)
           select k.id, k.collection_id, k.document_id, w.ids, ('{' || w.first || '\\:1}/1000000000')::sparsevec, 3, 1
           from k join d on d.id = k.document_id,
             lateral (select array_agg(term_id(k.collection_id, word)) as ids, min(term_id(k.collection_id, word)) as first
                      from unnest(array['w' || n % 700, 'v' || n % 11, 'u' || n]) word) w)
insert into embeddings (chunk_id, profile_id, collection_id, document_id, embedding)
select k.id, c.profile_id, k.collection_id, k.document_id,
       (select l2_normalize(array_agg(random() - 0.5 + 0 * (k.ordinality + g))::real[]::vector)::halfvec
        from generate_series(1, 384) g)
from (select *, row_number() over () as ordinality from k) k join collections c on c.id = k.collection_id
"""

FREQUENCIES = """
insert into lexeme_frequencies (collection_id, term, df)
select collection_id, unnest(terms) as term, count(*) from chunk_terms where collection_id = :collection group by 1, 2
"""


@pytest.fixture(scope="module")
async def stacks(api: Api, resources: Resources) -> Library:
    stacks = await library(api, resources, [{"text": "seed"}])
    async with as_owner(direct_url(resources)) as connection:
        collection = {"collection": stacks.collection.id}
        await connection.execute(text(LIKENESSES), {**collection, "count": CHUNKS})
        count = text("update collections set chunk_count = :count where id = :collection")
        await connection.execute(count, {**collection, "count": CHUNKS + 1})
        await connection.execute(text(FREQUENCIES), collection)
    await analyze(resources)
    return replace(stacks, collection=await collection_of(api, resources, stacks.collection.name))


@pytest.fixture(params=MODES)
def settings_of_plan(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"plan_cache_mode": request.param}


def executed(plan: str, index: str) -> bool:
    """Whether the plan names the index in a node that ran."""
    return any(re.search(index, line) and "never executed" not in line for line in plan.splitlines())


GRAPH, BY_DOCUMENT = r"embeddings_p_\w+_hnsw", r"embeddings_p_\w+_document_id_idx"
BY_COLLECTION, BY_TERMS = r"embeddings_p_\w+_collection_id_idx", "ix_chunk_terms_terms"


async def test_a_large_collection_takes_the_graph_and_scans_nothing(
    stacks: Library, resources: Resources, settings_of_plan: dict[str, str]
) -> None:
    plan = await explain(
        stacks.having(exact_chunks=100), resources, "w7", mode="semantic", vector=VECTOR, settings=settings_of_plan
    )

    assert executed(plan, GRAPH), plan
    assert not executed(plan, BY_COLLECTION)


async def test_a_small_collection_is_scanned_and_leaves_the_graph(
    stacks: Library, resources: Resources, settings_of_plan: dict[str, str]
) -> None:
    plan = await explain(stacks, resources, "w7", mode="semantic", vector=VECTOR, settings=settings_of_plan)

    assert "Seq Scan on embeddings" in plan or executed(plan, BY_COLLECTION), plan
    assert not re.search(GRAPH, plan), plan


@pytest.mark.parametrize("question", ["w7", "w7 -u14", "w7 -u14 -v3"])
async def test_a_broad_filter_and_excluded_words_keep_the_order_of_the_graph(
    stacks: Library, resources: Resources, question: str, settings_of_plan: dict[str, str]
) -> None:
    fields: dict[str, Any] = {"filter": {"attributes.n": {"$gte": 5}}} if question == "w7" else {}

    plan = await explain(
        stacks.having(exact_chunks=100),
        resources,
        question,
        mode="semantic",
        vector=VECTOR,
        window=20,
        settings=settings_of_plan,
        **fields,
    )

    assert executed(plan, GRAPH), plan
    assert not executed(plan, BY_DOCUMENT)


@pytest.mark.parametrize(
    "narrow",
    [
        ({"attributes.few": 7}, "ix_documents_attributes"),
        ({"attributes.few": {"$in": [7, 8]}}, "ix_documents_attributes"),
        ({"attributes.list": {"$contains": "l7"}}, "ix_documents_attributes"),
        ({"tags": {"$overlap": ["t7", "t8"]}}, "ix_documents_tags"),
        ({"external_id": {"$in": ["x7", "x8"]}}, "uq_documents_collection_id_external_id"),
        ({"published_at": {"$lt": "2000-01-08T00:00:00Z"}}, "ix_documents_collection_id_published_at"),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["semantic", "lexical", "hybrid"])
async def test_a_narrow_filter_is_counted_by_its_index_and_goes_by_document(
    stacks: Library,
    resources: Resources,
    settings_of_plan: dict[str, str],
    mode: Mode,
    narrow: tuple[dict[str, Any], str],
) -> None:
    filter_, index = narrow
    library = stacks.having(exact_chunks=500)
    plan = await explain(library, resources, "w7", mode=mode, vector=VECTOR, filter=filter_, settings=settings_of_plan)

    assert executed(plan, index), plan
    assert mode == "lexical" or executed(plan, BY_DOCUMENT), plan
    assert mode == "semantic" or executed(plan, "ix_chunk_terms_document_id"), plan
    assert not executed(plan, GRAPH)
    assert not executed(plan, BY_TERMS)
    assert not executed(plan, "Seq Scan on (documents|chunks|embeddings)"), plan


async def test_words_are_looked_up_in_their_index(
    stacks: Library, resources: Resources, settings_of_plan: dict[str, str]
) -> None:
    plan = await explain(stacks, resources, "w7 v3", mode="lexical", budget=100, settings=settings_of_plan)

    assert executed(plan, BY_TERMS), plan


async def test_a_word_costs_one_look_at_its_frequency(stacks: Library, resources: Resources) -> None:
    plan = await explain(stacks, resources, "w7 v3", mode="lexical")

    assert executed(plan, "pk_lexeme_frequencies"), plan
    assert not executed(plan, "Seq Scan on lexeme_frequencies")


async def test_a_hybrid_search_uses_both(stacks: Library, resources: Resources) -> None:
    plan = await explain(stacks.having(exact_chunks=100), resources, "w7", vector=VECTOR)

    assert executed(plan, BY_TERMS), plan
    assert executed(plan, GRAPH), plan


async def test_a_phrase_looks_its_words_up_before_it_reads_texts(stacks: Library, resources: Resources) -> None:
    plan = await explain(stacks, resources, '"w7 v7"', vector=VECTOR)

    assert executed(plan, BY_TERMS), plan
    assert not executed(plan, "Seq Scan on (documents|chunks|chunk_terms|embeddings)"), plan


@pytest.fixture
async def without_indexes(resources: Resources) -> AsyncIterator[None]:
    """The indexes that the tests above ask for are dropped, and come back."""
    profile = resources.profile.id.hex
    async with as_owner(direct_url(resources)) as connection:
        for name in (f"embeddings_p_{profile}_hnsw", "ix_chunk_terms_terms"):
            await connection.execute(text(f"drop index {name}"))
    yield
    async with as_owner(direct_url(resources)) as connection:
        graph = f"create index embeddings_p_{profile}_hnsw on embeddings_p_{profile}"
        await connection.exec_driver_sql(f"{graph} using hnsw ((embedding::halfvec(384)) halfvec_ip_ops)")
        await connection.exec_driver_sql("create index ix_chunk_terms_terms on chunk_terms using gin (terms)")


@pytest.mark.usefixtures("without_indexes")
async def test_a_dropped_index_would_be_noticed(stacks: Library, resources: Resources) -> None:
    plan = await explain(stacks.having(exact_chunks=100), resources, "w7", vector=VECTOR)

    assert not executed(plan, GRAPH)
    assert not executed(plan, BY_TERMS)


async def test_a_plan_of_this_file_is_of_the_kind_that_was_asked_for(
    stacks: Library, resources: Resources, settings_of_plan: dict[str, str]
) -> None:
    """A generic plan knows no values; what EXPLAIN is given as parameters it would plan as constants."""
    plan = await explain(stacks, resources, "w7", mode="semantic", vector=VECTOR, settings=settings_of_plan)

    assert ("collection_id = $" in plan) is (settings_of_plan["plan_cache_mode"] == "force_generic_plan"), plan


FILTER = {"filter": {"attributes.few": 7}}


@pytest.mark.parametrize(
    ("question", "fields", "kept"),
    [
        ("w7 v3", {"mode": "semantic"}, True),
        ("w7 v3", {"mode": "lexical"}, True),
        ("w7 v3", {}, True),
        ("w7 v3", {"method": "rrf"}, True),
        ("w7 v3", {"mode": "semantic", **FILTER}, False),
        ("w7 v3", {"mode": "lexical", **FILTER}, False),
        ("w7 v3", FILTER, False),
        ('"w7 v7"', {}, False),
        ("w7 -v3", {}, False),
    ],
)
@pytest.mark.parametrize("exact_chunks", [100, 20_000])
async def test_a_connection_keeps_a_plan_only_where_it_does_not_depend_on_what_is_left(
    stacks: Library, resources: Resources, *, exact_chunks: int, question: str, fields: dict[str, Any], kept: bool
) -> None:
    sent = Sent(stacks.tools.reader)
    await stacks.having(reader=sent, exact_chunks=exact_chunks).ask(question, vector=VECTOR, **fields)
    generic, custom = await plans_of_a_dozen(sent, resources)

    assert (generic > 0) is kept
    assert kept or custom == 12


async def test_the_graph_is_given_its_limit_as_a_number(stacks: Library) -> None:
    """Bound, a generic plan takes it for a tenth of the table: on one larger than this, that gives up the index."""
    sent = Sent(stacks.tools.reader)
    await stacks.having(reader=sent, exact_chunks=100).ask("w7", mode="semantic", vector=VECTOR)
    legs = re.search(r"semantic AS MATERIALIZED(.*?)\), *\n?\w+ AS", sent.sql, re.DOTALL)

    assert legs is not None, sent.sql
    limits = [limit.rstrip(")") for limit in re.findall(r"LIMIT (\S+)", legs[1])]
    assert limits == ["200"]
