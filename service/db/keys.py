"""API keys: only their SHA-256 is kept, and only `tenant_of_key` may look one up."""

import hashlib
import re
import secrets
from uuid import UUID

from sqlalchemy import LargeBinary, bindparam, func, insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.tables import api_keys, tenants
from service.domain.ids import new_id

KEY = re.compile(r"hs_[A-Za-z0-9_-]{43}")  # 32 random bytes: nothing to guess, so a fast hash is enough.

TENANT_OF_KEY = select(func.tenant_of_key(bindparam("hash", type_=LargeBinary)))


def hash_key(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


async def tenant_of_key(connection: AsyncConnection, key: str) -> UUID | None:
    """The tenant whose live key this is. Needs no tenant in the transaction: it is what finds one."""
    if not KEY.fullmatch(key):
        return None
    tenant_id: UUID | None = (await connection.execute(TENANT_OF_KEY, {"hash": hash_key(key)})).scalar_one()
    return tenant_id


async def create_key(connection: AsyncConnection, tenant_name: str, key_name: str) -> str:
    """Makes a key, and the tenant unless it exists. As the owner; the key is shown now and never again."""
    key = f"hs_{secrets.token_urlsafe(32)}"
    tenant = postgresql.insert(tenants).values(id=new_id(), name=tenant_name)
    await connection.execute(tenant.on_conflict_do_nothing(index_elements=[tenants.c.name]))
    tenant_id = select(tenants.c.id).where(tenants.c.name == tenant_name).scalar_subquery()
    await connection.execute(
        insert(api_keys).values(id=new_id(), tenant_id=tenant_id, name=key_name, key_hash=hash_key(key))
    )
    return key
