"""Embedding profiles: an embedder's name and dimension, and the partition and index that hold its vectors."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db import graphs
from service.db.owner import as_owner
from service.db.tables import collections, embedding_profiles
from service.domain.errors import ServiceError
from service.domain.ids import new_id


@dataclass(frozen=True, slots=True)
class EmbeddingProfile:
    id: UUID
    name: str
    dimension: int


class ProfileMissingError(ServiceError):
    """The database was never prepared for this embedder."""


async def find_profile(connection: AsyncConnection, name: str) -> EmbeddingProfile:
    p = embedding_profiles.c
    row = (await connection.execute(select(p.id, p.name, p.dimension).where(p.name == name))).one_or_none()
    if row is None:
        raise ProfileMissingError(f"the database has no embedding profile {name!r}: run `python -m service migrate`")
    return EmbeddingProfile(*row)


class ForeignProfileError(ServiceError):
    """Collections keep the vectors of another model than the one at hand."""


async def refuse_foreign_profiles(connection: AsyncConnection, name: str) -> None:
    """Raises ForeignProfileError when live collections use another profile. Needs a role that sees every tenant."""
    p, c = embedding_profiles.c, collections.c
    used = select(c.profile_id).where(c.deleted_at.is_(None))
    others = list((await connection.execute(select(p.name).where(p.id.in_(used), p.name != name))).scalars())
    if others:
        raise ForeignProfileError(
            f"collections use the embedding profile {', '.join(map(repr, sorted(others)))} and EMBEDDING_MODEL is"
            f" {name!r}: set it back, or delete those collections"
        )


async def ensure_profile(direct_url: str, *, name: str, dimension: int) -> EmbeddingProfile:
    """Makes the profile with its partition and HNSW index, as the owner; safe to repeat.

    Raises ForeignProfileError when live collections use another one.
    """
    async with as_owner(direct_url) as connection:
        await refuse_foreign_profiles(connection, name)
        p = embedding_profiles.c
        new = insert(embedding_profiles).values(id=new_id(), name=name, dimension=dimension)
        await connection.execute(new.on_conflict_do_nothing())
        profile = EmbeddingProfile(
            *(await connection.execute(select(p.id, p.name, p.dimension).where(p.name == name))).one()
        )
        if profile.dimension != dimension:
            raise ProfileMissingError(f"profile {name!r} has dimension {profile.dimension}, the embedder {dimension}")
        for statement in partition_ddl(profile):
            await connection.execute(text(statement))
        if not await graphs.is_awaited(connection, profile.id):
            await connection.execute(text(graphs.graph_ddl(profile, concurrently=False)))
    return profile


def partition_ddl(profile: EmbeddingProfile) -> list[str]:
    """DDL binds no parameters; a uuid and an int need no quoting rules. The parent has no dimension, so each partition checks."""
    partition, n = graphs.partition_name(profile.id), int(profile.dimension)
    return [
        f"create table if not exists {partition} partition of embeddings for values in ('{profile.id}')",
        f"""do $$ begin
            if not exists (select from pg_constraint where conname = '{partition}_dimension') then
                alter table {partition} add constraint {partition}_dimension check (vector_dims(embedding) = {n});
            end if;
        end $$""",
    ]
