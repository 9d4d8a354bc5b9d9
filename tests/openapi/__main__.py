"""The figure: all checks of schemathesis on a service of its own. `python -m tests.openapi [CASES [SEED]]`."""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from service.cli.address import find_address
from service.cli.figures.first_search import started_service
from tests.openapi.rounds import ALL_PHASES, Findings, play

CASES = 5_000
EXAMPLES = 30
SECONDS = 1_800.0  # for all rounds; on an idle machine it takes some five minutes


async def measure(cases: int, seed: int) -> Findings:
    """The first round plays all phases, the others what is random, until there were enough cases."""
    findings, phases, end = Findings(), ALL_PHASES, time.monotonic() + SECONDS
    with tempfile.TemporaryDirectory(prefix="openapi-") as folder:
        # The document promises that `rerank` is taken, which needs a reranker.
        os.environ.setdefault("RERANKER_MODEL", "overlap")
        async with started_service(Path(folder)):
            address = find_address({"DATA_DIR": str(Path(folder) / "state")})
            while findings.cases < cases:
                left = end - time.monotonic()
                findings += await play(
                    address.url, address.api_key, examples=EXAMPLES, seed=seed, seconds=left, phases=phases
                )
                if not findings.is_clean:
                    break
                phases, seed = "fuzzing,stateful", seed + 1
    return findings


def main(arguments: list[str]) -> int:
    cases, seed = (int(each) for each in [*arguments, *(str(CASES), "1")[len(arguments) :]])
    findings = asyncio.run(measure(cases, seed))
    if not findings.is_clean:
        sys.stderr.write(findings.story)
        for trouble in findings.trouble:
            sys.stderr.write(f"{trouble}\n")
    sys.stdout.write(f"schemathesis, all checks: {findings}\n")
    return 0 if findings.is_clean and findings.cases >= cases else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
