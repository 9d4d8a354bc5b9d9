"""Vectors of texts by the service's own embedder with the service's settings, computed once and kept in files."""

import asyncio
import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress

from bench.failures import BenchError
from service.cli.figures.vectors import save
from service.domain.errors import ServiceError
from service.embeddings.base import Embedder, Matrix, Vector
from service.embeddings.processor import fastest_numbers, processor_flags
from service.resources import open_own_embedder
from service.settings import Settings

BLOCK = 2_048  # Texts a file, so that more documents need only the vectors of what is new.
AT_ONCE = 32  # Queries.

# What Settings requires and no embedder reads.
ELSEWHERE = dict.fromkeys(
    (
        "database_url",
        "search_database_url",
        "s3_endpoint_url",
        "s3_bucket",
        "s3_access_key_id",
        "s3_secret_access_key",
    ),
    "unused",
)


def embedding_settings(environ: Mapping[str, str]) -> Settings:
    """As the service reads them, from the variables that begin with EMBEDDING_."""
    given = {name.lower(): value for name, value in environ.items() if name.startswith("EMBEDDING_")}
    try:
        return Settings.model_validate(ELSEWHERE | given)
    except ValidationError as error:
        raise BenchError(f"The settings of the embedder: {error}") from None


def fingerprint(settings: Settings) -> str:
    """Names the numbers that come out: the model, what it runs on, and what `auto` means on this processor."""
    chosen = settings.embedding_precision
    numbers = fastest_numbers(processor_flags()) if chosen == "auto" else chosen
    return f"{settings.embedding_model} {settings.embedding_runtime} {numbers}"


def vectors_of(passages: Sequence[str], queries: Sequence[str], *, cache: Path) -> tuple[Matrix, Matrix]:
    """One row of unit length each, `(n, dimension)` float32. Blocks; where nothing is cached it takes minutes."""
    with ThreadPoolExecutor(1) as aside:  # The caller may be inside of an event loop of its own.
        return aside.submit(asyncio.run, _both(passages, queries, cache)).result()


async def _both(passages: Sequence[str], queries: Sequence[str], cache: Path) -> tuple[Matrix, Matrix]:
    settings = embedding_settings(os.environ)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        async with _Embedding(cache, settings, progress) as embedding:
            return (
                await embedding.all_of("documents", passages, BLOCK),
                await embedding.all_of("queries", queries, len(queries)),
            )


class _Embedding:
    """Files named after what their vectors were made from; the model is loaded when one is missing."""

    def __init__(self, folder: Path, settings: Settings, progress: Progress) -> None:
        self._folder, self._settings, self._progress = folder, settings, progress
        self._embedder: Embedder | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._embedder is not None:
            await self._embedder.close()

    async def all_of(self, kind: str, texts: Sequence[str], block: int) -> Matrix:
        task = self._progress.add_task(f"Embedding {kind}", total=len(texts))
        found = []
        for start in range(0, len(texts), block):
            part = texts[start : start + block]
            file = self._file(kind, part)
            if not file.exists():
                save(await (self._passages(part) if kind == "documents" else self._queries(part)), file)
            found.append(np.load(file))
            self._progress.advance(task, len(part))
        return np.concatenate(found)

    async def _passages(self, texts: Sequence[str]) -> Matrix:
        return await self._opened().embed_passages(texts)

    async def _queries(self, texts: Sequence[str]) -> Matrix:
        """As the service does: each by itself or with whoever asks at the same time."""
        room, embedder = asyncio.Semaphore(AT_ONCE), self._opened()

        async def embed(text: str) -> Vector:
            async with room:
                return await embedder.embed_query(text)

        return np.stack(await asyncio.gather(*map(embed, texts)))

    def _opened(self) -> Embedder:
        if self._embedder is None:
            try:
                self._embedder = open_own_embedder(self._settings)
            except ServiceError as error:
                raise BenchError(str(error)) from None
        return self._embedder

    def _file(self, kind: str, texts: Sequence[str]) -> Path:
        digest = hashlib.sha256(f"{kind} {fingerprint(self._settings)}".encode())
        for text in texts:
            digest.update(b"\0" + text.encode("utf-8", "surrogatepass"))
        return self._folder / f"{digest.hexdigest()[:32]}.npy"
