"""Whether this database and this S3_PREFIX belong together: a branch's rows name its parent's objects, too."""

from sqlalchemy import text

from service.db.primary import Primary
from service.domain.branches import Note, WrongPrefixError, is_branch_prefix

COMMENT = text("select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()")


async def check_prefix(primary: Primary, prefix: str) -> None:
    """Raises WrongPrefixError: with its parent's prefix a branch would delete its parent's objects, with a branch's
    prefix its parent would sweep those of the branch.
    """
    async with primary.begin() as connection:
        note = Note.read((await connection.execute(COMMENT)).scalar_one_or_none())
    if note is not None and note.s3_prefix != prefix:
        raise WrongPrefixError(
            f"this database is the branch {note.branch}, whose objects are under S3_PREFIX={note.s3_prefix} and not under"
            f" {prefix!r}: start it with what `service branch uri {note.branch}` prints"
        )
    if note is None and is_branch_prefix(prefix):
        raise WrongPrefixError(f"S3_PREFIX={prefix} is a branch's, and this database is no branch")
