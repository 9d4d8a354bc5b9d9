import math
from collections.abc import Sequence

import pytest

from service.domain.vectors import unit
from service.resources import Resources
from tests.api_calls import Api, code
from tests.search_calls import fill

ZEROS = [0.0] * 383


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        ([5e-324, 0.0], (1.0, 0.0)),
        ([-5e-324, 5e-324], (-math.sqrt(0.5), math.sqrt(0.5))),
        ([3e-200, 4e-200], (0.6, 0.8)),
        ([3e300, 4e300], (0.6, 0.8)),
        ([65_504.0, 5e-324], (1.0, 0.0)),
        ([0.0, -7.0], (0.0, -1.0)),
    ],
)
def test_any_vector_but_zero_has_a_direction(vector: Sequence[float], expected: tuple[float, ...]) -> None:
    assert unit(vector) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("number", [5e-324, 1e-310, 1e-30, 65_504.0])
async def test_a_document_may_have_a_vector_of_any_length(api: Api, resources: Resources, number: float) -> None:
    collection = await api.make_collection()
    await fill(api, resources, collection, [{"text": "one", "vector": [number, *ZEROS]}])

    asked = {"mode": "semantic", "vector": [1.0, *ZEROS]}
    found = (await api.client.post(f"/v1/collections/{collection}/search", json=asked)).json()["hits"]

    assert [hit["score"] for hit in found] == pytest.approx([1.0])


async def test_a_vector_of_zeros_is_refused(api: Api, collection: str) -> None:
    assert code(await api.post(collection, {"text": "one", "vector": [0.0, *ZEROS]})) == (422, "invalid")
