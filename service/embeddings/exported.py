"""Graphs of models, exported once and kept: made whole or not at all, made anew when broken, and gated at every start."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import numpy as np

from service.embeddings.base import Matrix
from service.embeddings.encoder import Encoder
from service.embeddings.gate import LEAST, SENTENCES, least_agreement
from service.embeddings.processor import Computed

GRAPH, WEIGHTS, EXPECTED, DIGEST = "graph.xml", "graph.bin", "expected.npy", "sha256"
REVISION = "1"  # Of what export writes: raise it with the graph.
FILES = ("config.json", "tokenizer.json", "model.safetensors")
EXPORT_SECONDS = 120  # It takes two to four.
ROOT = Path(__file__).parents[2]


class NoFastRuntimeError(Exception):
    """Says in one sentence why torch has to serve."""


def default_cache() -> Path | None:
    """Where programs of this user keep what they can make again; None for a user without a home."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    with suppress(RuntimeError):
        return (named if named.is_absolute() else Path.home() / ".cache") / "hybrid-search"
    return None


def open_exported(folder: Path, *, name: str, numbers: Computed, threads: int, cache: Path | None) -> Encoder:
    """The model on OpenVINO, after the gate. Raises NoFastRuntimeError."""

    def gated(place: Path) -> Encoder:
        return _gated(folder, place, name=name, numbers=numbers, threads=threads)

    place = None if cache is None else cache / "graphs" / _name(folder, numbers)
    if place is not None and _can_write(place.parent):
        with _alone(place.parent / f"{place.name}.lock"):  # Who starts at the same time finds what the first made.
            if not place.exists():
                _export(folder, place, numbers)
            try:
                return gated(place)
            except NoFastRuntimeError:  # Perhaps only the file is broken: once more from the model.
                shutil.rmtree(place, ignore_errors=True)
                _export(folder, place, numbers)
                return gated(place)
    if place is not None and place.exists():  # Not ours to mend: an image's, for one.
        with suppress(NoFastRuntimeError):
            return gated(place)
    try:
        with tempfile.TemporaryDirectory(prefix="hybrid-search-") as gone:
            _export(folder, Path(gone) / "graph", numbers)
            return gated(Path(gone) / "graph")
    except OSError as error:
        raise NoFastRuntimeError(f"there is no place for the exported model: {error}") from error


def _name(folder: Path, numbers: Computed) -> str:
    return f"{_form(numbers)}-{REVISION}-{version('openvino')}-{model_digest(folder)}"


def model_digest(folder: Path) -> str:
    """Of the model and of what the gate asks it."""
    digest = hashlib.sha256()
    for file in FILES:
        with (folder / file).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    for sentence in SENTENCES:
        digest.update(sentence.encode() + b"\0")
    return digest.hexdigest()[:24]


def digest_of(place: Path) -> str:
    """Of all that export wrote, in .06 s: a runtime that maps a torn file ends the process instead of raising."""
    digest = hashlib.sha256()
    for file in (GRAPH, WEIGHTS, EXPECTED):
        with (place / file).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _form(numbers: Computed) -> str:
    """bfloat16 is computed from the graph that float32 has."""
    return "int8" if numbers == "int8" else "float32"


def _can_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    with file.open("wb") as held:
        with suppress(OSError):  # A file system without locks: then both export, and one of them wins.
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _export(folder: Path, place: Path, numbers: Computed) -> None:
    """Beside the place, then renamed to it."""
    for left in place.parent.glob("unfinished-*"):  # By a process that was killed.
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > EXPORT_SECONDS:
                shutil.rmtree(left)
    unfinished = Path(tempfile.mkdtemp(dir=place.parent, prefix="unfinished-"))
    try:
        command = [sys.executable, "-m", "service.embeddings.export"]
        subprocess.run(  # noqa: S603 - our own program
            [*command, str(folder.resolve()), str(unfinished.resolve()), _form(numbers)],
            cwd=ROOT,
            check=True,
            capture_output=True,
            timeout=EXPORT_SECONDS,
        )
        with suppress(OSError):  # Not empty: another process was faster, and its graph is as good.
            unfinished.rename(place)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.decode(errors="replace").strip().splitlines() or [f"it ended with {error.returncode}"])[-1]
        raise NoFastRuntimeError(f"the model could not be exported: {last}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise NoFastRuntimeError(f"the model could not be exported: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _gated(folder: Path, place: Path, *, name: str, numbers: Computed, threads: int) -> Encoder:
    try:
        from service.embeddings.openvino_bert import OpenvinoEncoder  # noqa: PLC0415 - imports the runtime

        if (place / DIGEST).read_text() != digest_of(place):
            _refuse_broken()
        expected: Matrix = np.load(place / EXPECTED)
        encoder = OpenvinoEncoder(folder, name=name, graph=place / GRAPH, numbers=numbers, threads=threads)
        agreement = least_agreement(encoder, expected)
    except NoFastRuntimeError:
        raise
    except Exception as error:  # whatever the runtime raises on a broken file or a processor that it does not know
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise NoFastRuntimeError(f"the exported model does not run: {said}") from error
    if not agreement >= LEAST[numbers]:
        raise NoFastRuntimeError(
            f"its vectors in {numbers} are not those of the reference: cosine {agreement:.4f}, at least {LEAST[numbers]}"
        )
    return encoder


def _refuse_broken() -> NoReturn:
    raise NoFastRuntimeError("the exported model is not what was written")
