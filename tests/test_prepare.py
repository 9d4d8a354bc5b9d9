"""What `run` does before it starts API and worker, on a folder that has been used."""

from pathlib import Path

from service.cli.prepare import prepare
from service.db import jobs
from service.db.owner import as_owner
from service.local.stack import embedded_stack
from tests.stacks import UNSAFE

KIND = "index_text"


async def test_jobs_of_a_run_that_was_killed_are_taken_up_at_once(tmp_path: Path) -> None:
    async with embedded_stack(tmp_path / "state", settings=UNSAFE) as stack:
        first = await prepare(stack, embedding_model="hashing")
        async with as_owner(first["DATABASE_DIRECT_URL"]) as connection:
            await jobs.enqueue(connection, KIND, tenant_id=None)
            (held,) = await jobs.claim(connection, kinds=(KIND,), limit=1, lease_seconds=3_600)

        again = await prepare(stack, embedding_model="hashing")

        async with as_owner(again["DATABASE_DIRECT_URL"]) as connection:
            taken = await jobs.claim(connection, kinds=(KIND,), limit=1, lease_seconds=3_600)
            finished = await jobs.finish(connection, [held])
    assert [job.id for job in taken] == [held.id]
    assert finished == set()  # Whoever held it before has lost it.
    assert again == first
