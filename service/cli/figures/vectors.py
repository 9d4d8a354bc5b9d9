"""Vectors of texts, computed once with the service's own embedder and kept in a folder: for a model that is minutes."""

import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic import ValidationError, create_model
from rich.console import Console
from rich.progress import Progress

from service.cli.address import DATA_DIR
from service.cli.client import Json
from service.cli.failures import CommandError
from service.domain.errors import ServiceError
from service.domain.texts import ChunkText
from service.embeddings.base import Embedder, Matrix
from service.ingest.index import passages
from service.resources import open_own_embedder as open_settings_embedder
from service.settings import Settings

MODEL: str = Settings.model_fields["embedding_model"].default
AT_ONCE = 1_024  # Enough that texts of a length are embedded together, and few enough that progress is seen.

VectorsOption = Annotated[
    Path | None, typer.Option(help="Where computed vectors are kept for the next run; DATA_DIR/vectors by default.")
]


def own_embedder(environment: Mapping[str, str]) -> Embedder:
    """Raises CommandError for a variable that the service would refuse, and for a model that is not there."""
    fields = {name: field for name, field in Settings.model_fields.items() if name.startswith("embedding_")}
    given = {name: value for name in fields if (value := environment.get(name.upper()))}
    chosen: Any = create_model("Embedding", **{name: (field.annotation, field) for name, field in fields.items()})  # type: ignore[call-overload]  # names are only known at run time
    try:
        settings = chosen.model_validate(given)
        return open_settings_embedder(settings)
    except ValidationError as error:
        faults = "; ".join(f"{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors())
        raise CommandError(f"The settings cannot be used: {faults}.") from None
    except ServiceError as error:
        raise CommandError(str(error)) from None


@asynccontextmanager
async def open_own_embedder() -> AsyncIterator[Embedder]:
    """The embedder that the settings EMBEDDING_… name, in this process: they must be the service's."""
    embedder = own_embedder(os.environ)
    try:
        yield embedder
    finally:
        await embedder.close()


def folder_of_vectors(chosen: Path | None) -> Path:
    """Beside what `make run` keeps, so that whoever deletes the one deletes the other."""
    return chosen or Path(os.environ.get("DATA_DIR") or DATA_DIR) / "vectors"


def whole(document: Json) -> ChunkText:
    """The one chunk of a document that comes with a vector."""
    return ChunkText(0, document["text"], 0, len(document["text"]), None)


def whole_passages(documents: Sequence[Json], embedder: Embedder) -> list[str]:
    """What the worker would embed if each text were one chunk; what is beyond the model's length is cut by the model."""
    return [
        passage for document in documents for passage in passages(document.get("title"), [whole(document)], embedder)
    ]


async def cached_vectors(texts: Sequence[str], *, embedder: Embedder, folder: Path, console: Console) -> Matrix:
    """One row of unit length a text, from the file that is named after the model and all of the texts, else computed."""
    digest = hashlib.sha256(embedder.name.encode())
    for text in texts:
        digest.update(b"\0" + text.encode("utf-8", "surrogatepass"))
    file = folder / f"{digest.hexdigest()[:32]}.npy"
    if file.exists():
        return np.asarray(np.load(file), np.float32)
    vectors = await embedded(texts, embedder=embedder, console=console)
    save(vectors, file)
    return vectors


def save(vectors: Matrix, file: Path) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}.npy")
    np.save(unfinished, vectors)
    unfinished.replace(file)


async def embedded(texts: Sequence[str], *, embedder: Embedder, console: Console) -> Matrix:
    vectors = np.empty((len(texts), embedder.dimension), np.float32)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Embedding", total=len(texts))
        for start in range(0, len(texts), AT_ONCE):
            part = texts[start : start + AT_ONCE]
            vectors[start : start + len(part)] = await embedder.embed_passages(part)
            progress.advance(task, len(part))
    return vectors


def as_kept(vectors: Matrix) -> Matrix:
    """What the service keeps of vectors that it is given: unit length, then half precision; as float32, to compute with."""
    wide = vectors.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=-1, keepdims=True)
    return wide.astype(np.float32).astype(np.float16).astype(np.float32)
