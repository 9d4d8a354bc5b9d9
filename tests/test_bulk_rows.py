"""Rows copied straight in for measuring are the rows that indexing makes; both schemas get the same ones to compare."""

from dataclasses import replace

import numpy as np
import pytest

from service.cli.figures.recombined import Recombined
from service.db.bulk_rows import ChunkDraft, copy_chunks, empty, indexes_built_later, sizes
from service.db.bulk_rows import settle as settle_rows
from service.db.bytes_kept import bytes_kept
from service.domain.ids import new_id
from service.resources import Resources
from tests.api_calls import Api
from tests.search_calls import Library, direct_url, library

TEXTS = [f"The otter number {n} swims in river {n * 7} with {n % 5} cubs." for n in range(60)]


async def drafts(resources: Resources) -> list[ChunkDraft]:
    passages = await resources.embedder.embed_passages([f"Otter {n}\n{text}" for n, text in enumerate(TEXTS)])
    return [ChunkDraft(f"Otter {n}", text, passages[n]) for n, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
async def copied(api: Api, resources: Resources) -> Library:
    rows = await library(api, resources, [])
    collection_id, url = rows.collection.id, direct_url(resources)
    async with indexes_built_later(url, resources.profile):
        await copy_chunks(url, await drafts(resources), collection_id=collection_id, profile=resources.profile)
    await settle_rows(url, [collection_id])
    return rows


async def test_what_is_copied_is_found_as_what_is_indexed(copied: Library, api: Api, resources: Resources) -> None:
    indexed = await library(api, resources, [{"title": f"Otter {n}", "text": text} for n, text in enumerate(TEXTS)])

    for question in ("otter 17", "river 49 cubs", "swims"):
        ours, theirs = await copied.ask(question), await indexed.ask(question)
        assert {hit.title: hit.score for hit in ours.hits} == pytest.approx(
            {hit.title: hit.score for hit in theirs.hits}
        )


@pytest.mark.usefixtures("copied")
async def test_indexes_built_later_are_those_that_were_there(resources: Resources) -> None:
    names = await sizes(direct_url(resources))

    assert {"ix_chunk_terms_terms", f"embeddings_p_{resources.profile.id.hex}_hnsw", "chunk_terms"} <= names.keys()


async def test_rows_of_others_are_not_thrown_away(copied: Library, resources: Resources) -> None:
    await empty(direct_url(resources), of=[new_id()])

    assert len(await copied.ids("otter 17")) > 0


async def test_both_schemas_are_filled_with_the_same_rows(copied: Library, resources: Resources) -> None:
    kept = await bytes_kept(direct_url(resources), collection_id=copied.collection.id, profile=resources.profile)

    assert kept.chunks == len(TEXTS)
    # 384 halves and 384 floats, each in its table or beside it.
    assert kept.ours["our_embeddings"] > kept.chunks * 384 * 2
    assert kept.textbook["textbook"] > kept.chunks * 384 * 4
    assert {"textbook_hnsw", "textbook_gin", "textbook_pkey"} <= kept.textbook.keys()
    assert len(kept.ours) > 8, kept.ours


def test_chunks_are_made_the_same_in_every_run_and_lie_near_the_real_ones() -> None:
    chance = np.random.default_rng(1)
    vectors = chance.standard_normal((20, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    documents = [{"title": f"Title {n} of it", "text": f"First of {n}. Second of {n}. Third."} for n in range(20)]
    source = Recombined(documents, vectors)

    made, again = (list(source.drafts(50, seed=3)) for _ in range(2))

    assert [replace(draft, vector=None) for draft in made] == [replace(draft, vector=None) for draft in again]  # type: ignore[arg-type]
    assert all(np.array_equal(one.vector, other.vector) for one, other in zip(made, again, strict=True))
    near = [float((vectors @ draft.vector).max()) for draft in made]
    assert 0.7 < min(near) <= max(near) < 0.99
    assert len({draft.text for draft in made}) > 30
    assert source.questions(4, seed=1)[0].startswith("Title")
