"""Every tenant's collections, as only the owner sees them: where to begin with what concerns the whole database."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.tables import collections, tenants


@dataclass(frozen=True, slots=True)
class TenantsCollection:
    id: UUID
    tenant_id: UUID
    tenant: str
    name: str


async def all_collections(connection: AsyncConnection, names: Collection[str]) -> list[TenantsCollection]:
    """Those of these names, or all, that are not deleted. `connection` is the owner's."""
    c = collections.c
    statement = (
        select(c.id, c.tenant_id, tenants.c.name.label("tenant"), c.name)
        .join(tenants, tenants.c.id == c.tenant_id)
        .where(c.deleted_at.is_(None))
        .order_by(tenants.c.name, c.name)
    )
    if names:
        statement = statement.where(c.name.in_(names))
    return [TenantsCollection(**row) for row in (await connection.execute(statement)).mappings()]
