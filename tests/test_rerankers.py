"""The rerankers: the stand-in by hand, a cross-encoder beside transformers itself, the oracle.

No real model is read here: this one has two layers, random weights and a few words.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import numpy as np
import orjson
import pytest

from service.domain.errors import InvalidError, OverloadedError, UnavailableError
from service.rerankers.base import Reranker
from service.rerankers.loading import open_reranker
from service.rerankers.overlap import OverlapReranker
from service.resources import open_resources
from service.settings import Settings

WORDS = [
    *("growling", "bear", "sleeps", "in", "its", "den", "the", "night"),
    *("train", "was", "late", "again", "and", "nobody", "knew", "why"),
]
QUESTION = "why was the bear late"
PASSAGES = [
    "",
    "bear",
    "the growling bear sleeps",
    "nobody knew why the train was late " * 3,
    "the train was late " * 400,
    "漢字 🦜",
    "The BEAR",
    *(" ".join(WORDS[n % 5 : 1 + n % 13]) or "den" for n in range(43)),
]


@pytest.fixture(scope="module")
def tiny() -> ModuleType:
    from tests import cross_encoders  # noqa: PLC0415  it says why

    return cross_encoders


@pytest.fixture(scope="module")
def folder(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny.make_model(tmp_path_factory.mktemp("cross-encoder"), WORDS)
    return made


@pytest.fixture(scope="module")
async def reranker(folder: Path) -> AsyncIterator[Reranker]:
    reranker = open_reranker(str(folder), threads=3)
    assert reranker is not None
    yield reranker
    await reranker.close()


async def test_a_cross_encoder_gives_the_sigmoid_of_its_logits_in_the_order_given(
    reranker: Reranker, folder: Path, tiny: ModuleType
) -> None:
    scores = await reranker.score(QUESTION, PASSAGES)

    oracle = tiny.expected(folder, QUESTION, PASSAGES)
    assert scores == pytest.approx(oracle, abs=1e-5)
    assert min(scores) >= 0
    assert max(scores) <= 1
    assert max(scores) - min(scores) > 0.1
    assert await reranker.score(QUESTION, PASSAGES[::-1]) == pytest.approx(oracle[::-1], abs=1e-5)
    assert await reranker.score(QUESTION, []) == []
    assert reranker.name == folder.name


async def test_the_question_counts(reranker: Reranker) -> None:
    one, other = await reranker.score("growling bear", PASSAGES[:7]), await reranker.score("night train", PASSAGES[:7])

    assert np.abs(np.subtract(one, other)).max() > 0.01


async def test_many_searches_at_once_get_the_scores_they_get_one_by_one(reranker: Reranker) -> None:
    questions = [" ".join(WORDS[n : n + 3]) for n in range(12)]
    at_once = await asyncio.gather(*(reranker.score(question, PASSAGES) for question in questions))

    for question, scores in zip(questions, at_once, strict=True):
        assert scores == pytest.approx(await reranker.score(question, PASSAGES), abs=1e-5)


async def test_the_event_loop_runs_on_while_the_model_reads(reranker: Reranker) -> None:
    lags = []
    work = asyncio.ensure_future(reranker.score(QUESTION, ["the train was late " * 12] * 1_500))
    while not work.done():
        began = time.perf_counter()
        await asyncio.sleep(0.005)
        lags.append(time.perf_counter() - began - 0.005)

    assert len(work.result()) == 1_500
    assert len(lags) > 10
    assert sorted(lags)[len(lags) // 2] < 0.05


async def test_who_leaves_takes_their_passages_along(folder: Path, tiny: ModuleType) -> None:
    reranker = tiny.open_model(folder, searches_waiting=1)
    long = asyncio.ensure_future(reranker.score(QUESTION, ["the train was late " * 12] * 50_000))
    await asyncio.sleep(0.2)
    long.cancel()

    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await long
        assert len(await reranker.score(QUESTION, ["bear"])) == 1
    await reranker.close()


async def test_more_searches_than_may_wait_are_told_so_at_once(folder: Path, tiny: ModuleType) -> None:
    reranker = tiny.open_model(folder, searches_waiting=2)
    inside = [asyncio.ensure_future(reranker.score(QUESTION, ["bear"] * 500)) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(OverloadedError, match="waiting for the reranker"):
        await reranker.score(QUESTION, ["bear"])
    await asyncio.gather(*inside)
    assert len(await reranker.score(QUESTION, ["bear"])) == 1
    await reranker.close()


async def test_a_closed_reranker_answers_nobody_and_leaves_nobody_waiting(folder: Path, tiny: ModuleType) -> None:
    reranker = tiny.open_model(folder)
    inside = asyncio.ensure_future(reranker.score(QUESTION, ["the train was late " * 12] * 50_000))
    await asyncio.sleep(0.1)

    async with asyncio.timeout(10):
        await reranker.close()
        with pytest.raises(UnavailableError, match="closed"):
            await inside
    with pytest.raises(UnavailableError, match="closed"):
        await reranker.score(QUESTION, ["bear"])


async def test_scores_that_are_no_numbers_are_a_failure(tmp_path: Path, tiny: ModuleType) -> None:
    with pytest.raises(InvalidError, match="no numbers"):
        open_reranker(str(tiny.make_model(tmp_path, WORDS, broken=True)), threads=1)


async def test_what_fails_in_the_library_is_one_word_of_ours(folder: Path, tiny: ModuleType) -> None:
    reranker = tiny.open_model(folder)
    del reranker._model[0].model.bert.encoder

    with pytest.raises(UnavailableError, match="The reranker failed"):
        await reranker.score(QUESTION, ["bear"])
    await reranker.close()


@pytest.mark.parametrize("model", ["no/such-model", "no such model at all"])
def test_an_unknown_model_is_one_clear_sentence(model: str) -> None:
    with pytest.raises(InvalidError, match="There is no reranker") as caught:
        open_reranker(model, threads=1)

    assert caught.value.field == "RERANKER_MODEL"


def test_a_classifier_is_no_reranker(tmp_path: Path, tiny: ModuleType) -> None:
    with pytest.raises(InvalidError, match="2 scores for a pair"):
        open_reranker(str(tiny.make_model(tmp_path, WORDS, labels=2)), threads=1)


def test_a_folder_with_a_broken_description_is_one_clear_sentence(tmp_path: Path, tiny: ModuleType) -> None:
    made = tiny.make_model(tmp_path, WORDS)
    config = orjson.loads((made / "config.json").read_bytes())
    (made / "config.json").write_bytes(orjson.dumps(config | {"hidden_size": 48}))

    with pytest.raises(InvalidError, match="There is no reranker"):
        open_reranker(str(made), threads=1)


@pytest.mark.parametrize("model", [None, ""])
def test_by_default_there_is_none(model: str | None) -> None:
    assert open_reranker(model, threads=1) is None


async def test_the_stand_in_gives_the_share_of_the_questions_words() -> None:
    scores = await OverlapReranker().score(
        "Growling bear, growling den", ["the BEAR in its den", "growling bear den", "", "bears"]
    )

    assert scores == [2 / 3, 1, 0, 0]
    assert await OverlapReranker().score("?!", ["bear"]) == [0]


async def test_a_closed_stand_in_is_unavailable() -> None:
    reranker = OverlapReranker()
    await reranker.close()

    with pytest.raises(UnavailableError, match="closed"):
        await reranker.score("bear", ["bear"])


def test_the_stand_in_imports_nothing_that_costs_seconds() -> None:
    program = (
        "import sys; from service.rerankers.loading import open_reranker; open_reranker('overlap', threads=1); "
        "open_reranker(None, threads=1); print([name for name in sys.modules if name in {'torch', 'transformers', "
        "'sentence_transformers'}])"
    )

    ran = subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, capture_output=True, text=True)

    assert (ran.stdout, ran.stderr) == ("[]\n", "")


async def test_the_setting_decides_which_one_a_service_has_and_its_end_closes_it(
    settings: Settings, folder: Path
) -> None:
    opened = []
    for model in (None, "overlap", str(folder)):
        async with open_resources(settings.model_copy(update={"reranker_model": model})) as resources:
            opened.append(resources.reranker)
            if resources.reranker is not None:
                assert len(await resources.reranker.score("bear", ["bear"])) == 1

    assert [each and each.name for each in opened] == [None, "overlap", folder.name]
    for each in opened[1:]:
        with pytest.raises(UnavailableError, match="closed"):
            await each.score("bear", ["bear"])  # type: ignore[union-attr]  # the first alone is None
