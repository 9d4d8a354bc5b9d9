"""Fusion and BM25 a second time, from the contract's formulas and in plain Python."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

Scores = Mapping[str, float]

K1, B = 1.2, 0.75


def window_of(scores: Scores, size: int) -> list[str]:
    """The ids of a leg's candidates, best first; ties by id."""
    return sorted(scores, key=lambda chunk: (-scores[chunk], chunk))[:size]


def linear(lexical: Scores, semantic: Scores, *, alpha: float = 0.6, window: int = 200) -> dict[str, float]:
    """`alpha * (s - min s) / (max s - min s) + (1 - alpha) * l / max l` over the union; a denominator of 0 gives 0.

    `lexical` may leave out chunks without a match; `semantic` names every chunk.
    """
    union = {*window_of(lexical, window), *window_of(semantic, window)}
    if not union:
        return {}
    said = {chunk: lexical.get(chunk, 0.0) for chunk in union}
    least, most = min(semantic[c] for c in union), max(semantic[c] for c in union)
    best = max(said.values())
    return {
        chunk: alpha * ((semantic[chunk] - least) / (most - least) if most > least else 0)
        + (1 - alpha) * (said[chunk] / best if best else 0)
        for chunk in union
    }


def rrf(
    lexical: Scores,
    semantic: Scores,
    *,
    k: float = 60,
    lexical_weight: float = 1,
    semantic_weight: float = 1,
    window: int = 200,
) -> dict[str, float]:
    """`sum(weight / (k + rank))`, rank from 1."""
    fused: dict[str, float] = {}
    for leg, weight in ((lexical, lexical_weight), (semantic, semantic_weight)):
        for rank, chunk in enumerate(window_of(leg, window), 1):
            fused[chunk] = fused.get(chunk, 0.0) + weight / (k + rank)
    return fused


def bm25(question: Sequence[str], chunks: Mapping[str, Counter[str]], *, average: float) -> dict[str, float]:
    """Robertson's BM25 with Lucene's idf, over each chunk's lexemes; `question` are distinct lexemes."""
    df = Counter(lexeme for lexemes in chunks.values() for lexeme in lexemes)
    scores: dict[str, float] = {}
    for name, lexemes in chunks.items():
        length = sum(lexemes.values())
        for lexeme in question:
            if tf := lexemes[lexeme]:
                idf = math.log(1 + (len(chunks) - df[lexeme] + 0.5) / (df[lexeme] + 0.5))
                weight = tf * (K1 + 1) / (tf + K1 * (1 - B + B * length / average))
                scores[name] = scores.get(name, 0.0) + idf * weight
    return scores
