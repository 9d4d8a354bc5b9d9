"""A branch reads its parent's objects and never deletes or overwrites one, whatever is done on it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from service.blobs import Blobs, BlobStoreSettings, make_blob_key
from service.branches import objects
from service.branches.postgres import PostgresBranches
from service.cli.branch_address import settings_of
from service.domain.branches import PRIMARY, BranchError, UnknownBranchError, WrongPrefixError, object_prefix
from service.domain.ids import new_id
from service.ingest.sweep import Swept, sweep
from service.resources import Resources, open_blobs
from service.settings import Settings
from tests.api_calls import Api
from tests.branch_calls import a_primary, branches_of, inside, name_in, on_branch, resources_of, serving
from tests.make_blobs import drain, opened, put, sha256
from tests.stacks import Stack
from tests.worker_calls import until_idle, working_with

NAME = "preview/pr-12"
EVERYTHING = timedelta(seconds=-60)
FILES = {f"file-{number}": f"# File {number}\n\nOf bears and winters.\n".encode() * (number + 1) for number in range(6)}


@pytest.fixture(params=["", "production/"])
async def primary(
    request: pytest.FixtureRequest, stack: Stack, template: str, settings: Settings
) -> AsyncIterator[Settings]:
    """With and without a prefix of its own; the bucket is empty before and after."""
    await empty(settings)
    async with a_primary(stack, template, settings) as own:
        yield own.model_copy(update={"s3_prefix": request.param})
    await empty(settings)


async def empty(settings: Settings) -> None:
    for prefix in (
        "",
        object_prefix("", NAME),
        object_prefix("", "preview"),
        "production/",
        object_prefix("production/", NAME),
    ):
        async with opened(store_of(settings, prefix)) as blobs:
            await blobs.delete([blob.key async for blob in blobs.list_blobs(prefix)])
    async with opened(store_of(settings, "")) as blobs:
        assert [blob.key async for blob in blobs.list_blobs()] == []


def store_of(settings: Settings, prefix: str) -> BlobStoreSettings:
    return BlobStoreSettings(
        endpoint_url=settings.s3_endpoint_url,
        bucket=settings.s3_bucket,
        access_key_id=settings.s3_access_key_id.get_secret_value(),
        secret_access_key=settings.s3_secret_access_key.get_secret_value(),
        region=settings.s3_region,
        prefix=prefix,
    )


@pytest.fixture
def branches(stack: Stack, primary: Settings) -> PostgresBranches:
    return branches_of(stack, primary)


async def upload(api: Api, collection: str, name: str, body: bytes) -> None:
    response = await api.client.put(f"/v1/collections/{collection}/documents/{name}?filename={name}.md", content=body)
    assert response.status_code in {200, 201, 202}, response.text


async def remove(api: Api, collection: str, name: str) -> None:
    response = await api.client.delete(f"/v1/collections/{collection}/documents/{name}", headers={"If-Match": "*"})
    assert response.status_code == 204, response.text


async def work(stack: Stack, api: Api, settings: Settings) -> None:
    """A worker until nothing is left to do; it removes what is deleted at once."""
    async with inside(stack, name_in(settings.database_url)) as admin, working_with(resources_of(api))():
        await until_idle(admin)


async def every_byte(api: Api, collection: str) -> dict[str, bytes]:
    listed = await api.client.get(f"/v1/collections/{collection}/documents?limit=100")
    read = {}
    for document in listed.json()["documents"]:
        content = await api.client.get(f"/v1/documents/{document['id']}/content?stream=true")
        assert content.status_code == 200, content.text
        read[document["external_id"]] = content.content
    return read


async def all_keys(settings: Settings) -> set[str]:
    async with opened(store_of(settings, "")) as blobs:
        return {blob.key async for blob in blobs.list_blobs()}


async def swept(resources: Resources) -> Swept:
    return await sweep(primary=resources.primary, blobs=resources.blobs, older_than=EVERYTHING, dry_run=False)


async def test_after_everything_is_deleted_on_a_branch_every_byte_of_its_parent_is_there(
    stack: Stack, primary: Settings, branches: PostgresBranches
) -> None:
    async with serving(primary) as (api, key):
        collection, doomed = await api.make_collection(), await api.make_collection()
        for name, body in FILES.items():
            await upload(api, collection, name, body)
            await upload(api, doomed, name, body)
        await upload(api, collection, "queued", b"# Deleted in the parent\n")
        await work(stack, api, primary)
        await upload(api, collection, "unread", b"# Not yet indexed when the branch is made\n")
        await remove(api, collection, "queued")  # Its job is copied along, and the parent's worker is away.
        before = await all_keys(primary)
        await branches.create(NAME)

        own = await on_branch(branches, primary, NAME)
        async with serving(own, key) as (there, _):
            assert await every_byte(there, doomed) == FILES
            await upload(there, collection, "file-0", b"# Another version, on the branch\n")
            await upload(there, collection, "only-here", b"# Only on the branch\n")
            await work(stack, there, own)
            written = await all_keys(primary) - before
            assert len(written) == 2
            assert all(each.startswith(own.s3_prefix) for each in written)
            for name in (*FILES, "unread", "only-here"):
                await remove(there, collection, name)
            assert (await there.client.delete(f"/v1/collections/{doomed}")).status_code == 204
            await work(stack, there, own)
            await swept(resources_of(there))

        assert await all_keys(primary) == before
        await swept(resources_of(api))
        assert await all_keys(primary) == before
        assert await every_byte(api, doomed) == FILES
        assert await every_byte(api, collection) == FILES | {"unread": b"# Not yet indexed when the branch is made\n"}
        await work(stack, api, primary)
        assert len(before - await all_keys(primary)) == 1  # what the parent itself had deleted


async def test_the_sweep_of_neither_takes_what_only_the_other_names(
    stack: Stack, primary: Settings, branches: PostgresBranches
) -> None:
    async with serving(primary) as (api, key):
        collection = await api.make_collection()
        await upload(api, collection, "shared", FILES["file-0"])
        await branches.create(NAME)
        await upload(api, collection, "later", FILES["file-1"])
        own = await on_branch(branches, primary, NAME)
        async with serving(own, key) as (there, _):
            await upload(there, collection, "only-here", FILES["file-2"])
            tenant = new_id()
            async with inside(stack, name_in(primary.database_url)) as admin:
                tenant = await admin.fetchval("select id from tenants")
            named = await all_keys(primary)
            for each in (api, there):
                blobs = resources_of(each).blobs
                await put(blobs, b"orphan", key=make_blob_key(tenant, uuid4(), 1, prefix=blobs.prefix))
            found = [await swept(resources_of(each)) for each in (there, api)]

            assert [each.orphans for each in found] == [1, 1]
            assert await all_keys(primary) == named
            assert set(await every_byte(there, collection)) == {"shared", "only-here"}
        assert set(await every_byte(api, collection)) == {"shared", "later"}


async def test_deleting_or_resetting_a_branch_removes_its_own_objects_only(
    primary: Settings, branches: PostgresBranches
) -> None:
    async with serving(primary) as (api, key):
        collection = await api.make_collection()
        await upload(api, collection, "shared", FILES["file-0"])
        of_parent = await all_keys(primary)
        for name in ("preview", NAME):
            await branches.create(name)
            own = await on_branch(branches, primary, name)
            async with serving(own, key) as (there, _):
                await upload(there, collection, "only-here", FILES["file-1"])
                await remove(there, collection, "shared")
        both = await all_keys(primary)
        of_other = {each for each in both if each.startswith(object_prefix(primary.s3_prefix, NAME))}
        blobs = open_blobs(settings_of(primary, "preview"))
        _, reset = await objects.reset("preview", branches=branches, blobs=blobs)
        assert await all_keys(primary) == of_parent | of_other
        assert [each.name for each in await branches.list()] == [PRIMARY, "preview", NAME]
        deleted = await objects.delete("preview", branches=branches, blobs=blobs)
        await blobs.close()

        assert (reset, deleted, len(of_other)) == (1, 0, 1)
        assert await all_keys(primary) == of_parent | of_other
        assert await every_byte(api, collection) == {"shared": FILES["file-0"]}


async def test_what_a_killed_deletion_left_goes_only_when_it_is_said(
    primary: Settings, branches: PostgresBranches
) -> None:
    blobs = open_blobs(settings_of(primary, NAME))
    key = await put(blobs, b"left behind", key=make_blob_key(new_id(), uuid4(), 1, prefix=blobs.prefix))
    with pytest.raises(UnknownBranchError, match=r"still has objects \(1\), which --leftovers removes"):
        await objects.delete(NAME, branches=branches, blobs=blobs)
    assert await all_keys(primary) == {key}

    assert await objects.delete(NAME, branches=branches, blobs=blobs, leftovers=True) == 1
    assert await all_keys(primary) == set()
    await blobs.close()


async def test_a_deletion_that_is_refused_removes_no_object(primary: Settings, branches: PostgresBranches) -> None:
    await branches.create(NAME, protected=True)
    blobs = open_blobs(settings_of(primary, NAME))
    key = await put(blobs, b"kept", key=make_blob_key(new_id(), uuid4(), 1, prefix=blobs.prefix))
    for change in (objects.delete, objects.reset):
        with pytest.raises(BranchError, match="is protected"):
            await change(NAME, branches=branches, blobs=blobs)
    await blobs.close()

    assert await all_keys(primary) == {key}


async def test_the_store_reads_every_key_and_changes_its_own_only(primary: Settings) -> None:
    names = (PRIMARY, "preview", NAME)
    stores = {name: Blobs(store_of(primary, object_prefix(primary.s3_prefix, name))) for name in names}
    keys = {name: make_blob_key(new_id(), uuid4(), 1, prefix=store.prefix) for name, store in stores.items()}
    for name, store in stores.items():
        await put(store, name.encode(), key=keys[name])
    for name, store in stores.items():
        for other in set(names) - {name}:
            body = other.encode()
            assert await drain(await store.stream(keys[other], sha256=sha256(body))) == body
            await store.delete([keys[other]])
            await store.delete([keys[other], f"{store.prefix}nothing"])
            with pytest.raises(WrongPrefixError):
                await put(store, body, key=keys[other])
            with pytest.raises(WrongPrefixError):
                await put(store, body, key=make_blob_key(new_id(), uuid4(), 1, prefix=stores[other].prefix))
    assert await all_keys(primary) == set(keys.values())
    for name, store in stores.items():
        await store.delete([keys[name]])
        await store.close()
    assert await all_keys(primary) == set()
