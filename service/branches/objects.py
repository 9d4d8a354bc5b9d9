"""What a branch leaves in the bucket: under its own prefix, and gone with the state that named it."""

from service.blobs import Blobs
from service.branches.base import Branches
from service.domain.branches import Copied, UnknownBranchError


async def reset(name: str, *, branches: Branches, blobs: Blobs) -> tuple[Copied, int]:
    """`blobs` has the branch's prefix. Only what is there before is removed after: nothing that the new state could name."""
    keys = await own_keys(blobs)
    copied = await branches.reset(name)
    await blobs.delete(keys)
    return copied, len(keys)


async def delete(name: str, *, branches: Branches, blobs: Blobs, leftovers: bool = False) -> int:
    """The objects after the database: a row without its object would be worse. Returns how many there were.

    `leftovers`: also of a branch that is gone already, when this was killed between the two.
    """
    keys = await own_keys(blobs)
    try:
        await branches.delete(name)
    except UnknownBranchError as error:
        if keys and not leftovers:
            raise UnknownBranchError(
                f"{error}; its prefix {blobs.prefix} still has objects ({len(keys)}), which --leftovers removes,"
                " when no other server's branch has this name and bucket"
            ) from None
        if not keys:
            raise
    await blobs.delete(keys)
    return len(keys)


async def own_keys(blobs: Blobs) -> list[str]:
    return [blob.key async for blob in blobs.list_blobs(blobs.prefix)]
