"""The sweeper takes what nobody names, and nothing else: on the real store, with the module's own database."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.blobs import Blobs, BlobStoreSettings, make_blob_key, tenant_of_blob_key
from service.ingest import sweep as sweeping
from service.ingest.sweep import Swept, sweep
from service.resources import Resources
from service.settings import Settings
from tests.api_calls import Api
from tests.make_blobs import put
from tests.test_cli_doors import doors, sentences
from tests.worker_calls import Working, environment_of, until_idle, working_with

EVERYTHING, NOTHING_YOUNG = timedelta(seconds=-60), timedelta(hours=1)
BRANCH = "preview/pr-1/"


@pytest.fixture
async def empty(resources: Resources) -> AsyncIterator[None]:
    """The store is one for all tests."""
    await resources.blobs.delete([blob.key async for blob in resources.blobs.list_blobs()])
    yield
    await resources.blobs.delete([blob.key async for blob in resources.blobs.list_blobs()])


pytestmark = pytest.mark.usefixtures("empty")


@pytest.fixture
async def tenant(api: Api, collection: str, admin: asyncpg.Connection) -> UUID:
    assert api
    found = await admin.fetchval("select tenant_id from collections where name = $1", collection)
    return UUID(str(found))


@pytest.fixture
async def branch(settings: Settings) -> AsyncIterator[Blobs]:
    """The same bucket as a branch of the database uses it."""
    blobs = Blobs(
        BlobStoreSettings(
            endpoint_url=settings.s3_endpoint_url,
            bucket=settings.s3_bucket,
            access_key_id=settings.s3_access_key_id.get_secret_value(),
            secret_access_key=settings.s3_secret_access_key.get_secret_value(),
            region=settings.s3_region,
            prefix=BRANCH,
        )
    )
    yield blobs
    await blobs.close()


async def add_file(api: Api, collection: str, name: str) -> None:
    response = await api.client.put(
        f"/v1/collections/{collection}/documents/{name}",
        content=f"the file {name}".encode(),
        headers={"Content-Type": "text/plain"},
    )
    assert response.status_code in {201, 202}, response.text


async def swept(resources: Resources, *, older_than: timedelta = EVERYTHING, dry_run: bool = False) -> Swept:
    return await sweep(primary=resources.primary, blobs=resources.blobs, older_than=older_than, dry_run=dry_run)


async def keys(resources: Resources) -> set[str]:
    return {blob.key async for blob in resources.blobs.list_blobs()}


async def test_only_what_no_version_names_is_deleted(
    api: Api, collection: str, tenant: UUID, resources: Resources
) -> None:
    for name in ("one", "two"):
        await add_file(api, collection, name)
    named = await keys(resources)
    orphans = {await put(resources.blobs, b"lost", key=make_blob_key(tenant, uuid4(), 1)) for _ in range(3)}

    counted = await swept(resources, dry_run=True)
    assert (counted.listed, counted.orphans, counted.bytes) == (5, 3, 12)
    assert await keys(resources) == named | orphans

    assert await swept(resources) == counted
    assert await keys(resources) == named
    content = await api.client.get(f"/v1/collections/{collection}/documents?limit=1")
    document = content.json()["documents"][0]["id"]
    assert (await api.client.get(f"/v1/documents/{document}/content?stream=true")).status_code == 200


async def test_what_is_young_may_be_an_upload_in_flight(tenant: UUID, resources: Resources) -> None:
    key = await put(resources.blobs, b"arriving", key=make_blob_key(tenant, uuid4(), 1))
    found = await swept(resources, older_than=NOTHING_YOUNG)

    assert (found.young, found.orphans) == (1, 0)
    assert await keys(resources) == {key}


async def test_what_a_deletion_keeps_for_its_grace_period_is_kept(
    api: Api, collection: str, resources: Resources, working: Working, admin: asyncpg.Connection
) -> None:
    await add_file(api, collection, "gone")
    (key,) = await keys(resources)
    place = f"/v1/collections/{collection}/documents/gone"
    assert (await api.client.delete(place, headers={"If-Match": "*"})).status_code == 204

    assert await admin.fetchval("select count(*) from document_versions where blob_key = $1", key) == 0
    assert (await swept(resources)).orphans == 0
    assert await keys(resources) == {key}
    async with working():
        await until_idle(admin)
    assert await keys(resources) == set()


async def test_what_this_service_did_not_make_is_left_alone(tenant: UUID, resources: Resources) -> None:
    strange = [
        "doctor/probe",
        "readme.txt",
        f"{tenant}/notes",
        f"{tenant}/{uuid4()}/one/{uuid4()}",
        f"backup/{tenant}/{uuid4()}/1/{uuid4()}",
        make_blob_key(tenant, uuid4(), 1, prefix=BRANCH),
    ]
    unknown = make_blob_key(uuid4(), uuid4(), 1)  # of a tenant that another database knows
    for key in (*strange, unknown):
        await put(resources.blobs, b"theirs", key=key)
    found = await swept(resources)

    assert (found.foreign, found.orphans) == (len(strange), 0)
    assert await keys(resources) == {*strange, unknown}


async def test_a_branch_sweeps_its_own_prefix_only(tenant: UUID, resources: Resources, branch: Blobs) -> None:
    of_parent = await put(resources.blobs, b"after the branch was made", key=make_blob_key(tenant, uuid4(), 1))
    await put(resources.blobs, b"its own", key=make_blob_key(tenant, uuid4(), 1, prefix=branch.prefix))
    found = await sweep(primary=resources.primary, blobs=branch, older_than=EVERYTHING, dry_run=False)

    assert (found.listed, found.orphans) == (1, 1)
    assert await keys(resources) == {of_parent}


async def test_a_deletion_in_a_branch_leaves_the_objects_of_its_parent(
    api: Api, collection: str, resources: Resources, branch: Blobs, admin: asyncpg.Connection
) -> None:
    await add_file(api, collection, "shared")
    (key,) = await keys(resources)
    await api.client.delete(f"/v1/collections/{collection}/documents/shared", headers={"If-Match": "*"})
    async with working_with(replace(resources, blobs=branch))():
        await until_idle(admin)

    assert await keys(resources) == {key}


async def test_batches_and_tenants_do_not_mix(
    api: Api, other_api: Api, resources: Resources, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "BATCH", 3)
    for each in (api, other_api):
        name = await each.make_collection()
        for number in range(4):
            await add_file(each, name, str(number))
    named = await keys(resources)
    tenants = await admin.fetch("select distinct tenant_id from collections")
    for row in tenants:
        for _ in range(4):
            await put(resources.blobs, b"lost", key=make_blob_key(UUID(str(row["tenant_id"])), uuid4(), 1))
    found = await swept(resources)

    assert found.orphans == 4 * len(tenants) >= 8
    assert await keys(resources) == named


def test_a_key_says_whose_it_is() -> None:
    tenant = uuid4()
    key = make_blob_key(tenant, uuid4(), 3, prefix=BRANCH)

    assert tenant_of_blob_key(key, prefix=BRANCH) == tenant
    assert tenant_of_blob_key(key) is None
    assert tenant_of_blob_key(key, prefix="preview/pr-2/") is None


async def test_the_command_deletes_only_when_the_bucket_is_its_own(
    tenant: UUID, settings: Settings, resources: Resources
) -> None:
    key = await put(resources.blobs, b"young", key=make_blob_key(tenant, uuid4(), 1))
    right = environment_of(settings)
    refused, counted, wrong, did, own = await doors(
        ("blobs sweep", right),
        ("blobs sweep --dry-run", right),
        ("blobs sweep", right | {"S3_PREFIX": "no-slash"}),
        ("blobs sweep --whole-bucket", right),
        ("blobs sweep", right | {"S3_PREFIX": BRANCH}),
    )

    assert "set S3_PREFIX, or say --whole-bucket" in sentences(refused)[0]
    assert "s3_prefix" in sentences(wrong)[0]
    assert counted[1].startswith("0 orphans of 0.0 MB would be deleted; of 1 objects 0 are named, 1 too young"), counted
    assert did[1].startswith("0 orphans of 0.0 MB were deleted"), did
    assert "of 0 objects" in own[1]
    assert await keys(resources) == {key}
