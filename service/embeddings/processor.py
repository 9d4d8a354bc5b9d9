"""What the processor can multiply, and so which numbers are fastest on it."""

from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Literal, TypeAlias

Computed: TypeAlias = Literal["float32", "bfloat16", "int8"]

CPUINFO = Path("/proc/cpuinfo")


def processor_flags(file: Path = CPUINFO) -> frozenset[str]:
    """Linux on x86 names them; what does not is a machine that nobody has measured."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), frozenset())


def fastest_numbers(flags: AbstractSet[str]) -> Computed | None:
    """bfloat16 before int8: it is within a third of its speed, and its vectors are those of float32 to the fifth digit.

    None without AVX2, where the fast runtime was never tried.
    """
    if flags & {"avx512_bf16", "amx_bf16"}:
        return "bfloat16"
    if "avx512_vnni" in flags:
        return "int8"
    return "float32" if "avx2" in flags else None
