"""The sentences on which a fast runtime must give the vectors of the reference before it serves anybody."""

from collections.abc import Mapping

import numpy as np

from service.embeddings.base import Matrix
from service.embeddings.encoder import Encoder
from service.embeddings.processor import Computed

_ABSTRACT = (
    "The boundary layer over a heated flat plate in supersonic flow is solved by a series in the wall temperature, and "
    "compared with measurements of skin friction, pressure and heat transfer at four Mach numbers. "
)
SENTENCES = (
    "growling bear",
    "side effects of aspirin in children",
    "What similarity laws must be obeyed when constructing aeroelastic models of heated high-speed aircraft?",
    "Invoice 4711 of 3 March 2024: 12.50 EUR, due within 30 days.",
    "def total(rows): return sum(row.amount for row in rows if row.paid)",
    "naïve Café, STRASSE straße İstanbul",
    "русский текст, 漢字かな交じり文",
    "The cat sat on the mat. " * 5,
    _ABSTRACT,
    _ABSTRACT * 12,
)
# The least cosine of any sentence to the reference in float32. Measured: 1.0000, .9999 and .998.
LEAST: Mapping[Computed, float] = {"float32": 0.9999, "bfloat16": 0.9995, "int8": 0.996}


def gate_vectors(encoder: Encoder) -> Matrix:
    """One row a sentence: the short ones in one pass, and the last, which is cut, in another."""
    *short, long = encoder.tokenize(SENTENCES)
    return np.concatenate([encoder.encode(batch, purpose="passage") for batch in (short, [long])])


def least_agreement(encoder: Encoder, expected: Matrix) -> float:
    """The smallest cosine of any sentence, the first one also alone; not a number where a vector is not finite."""
    alone = encoder.encode(encoder.tokenize(SENTENCES[:1]), purpose="query")
    cosines = np.concatenate([np.sum(gate_vectors(encoder) * expected, axis=1), alone @ expected[0]])
    return float(cosines.min())
