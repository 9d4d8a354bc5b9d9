"""Who asks: the key decides the tenant."""

import time
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.db.keys import hash_key, tenant_of_key
from service.db.primary import Primary
from service.domain.errors import UnauthorizedError

LIFETIME = 5.0  # Seconds: how long a revoked key may go on working.
CAPACITY = 10_000

bearer = HTTPBearer(auto_error=False, description="An API key: `hs_` and 43 characters.")


class KeyCache:
    """The tenants of recently seen keys. Unknown keys are not remembered: nobody can fill it from outside."""

    def __init__(self, primary: Primary) -> None:
        self._primary = primary
        self._known: dict[bytes, tuple[UUID, float]] = {}

    async def tenant_of(self, key: str) -> UUID:
        """Raises UnauthorizedError, and UnavailableError when the database cannot be asked."""
        hashed, now = hash_key(key), time.monotonic()
        known = self._known.get(hashed)
        if known is not None and now < known[1]:
            return known[0]
        async with self._primary.begin() as connection:
            tenant_id = await tenant_of_key(connection, key)
        self._known.pop(hashed, None)
        if tenant_id is None:
            raise UnauthorizedError("this API key is unknown or revoked")
        if len(self._known) >= CAPACITY:
            self._known.pop(next(iter(self._known)))  # The oldest: a dict remembers the order.
        self._known[hashed] = (tenant_id, now + LIFETIME)
        return tenant_id


async def authenticate(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> UUID:
    """The tenant of the request."""
    if credentials is None:
        raise UnauthorizedError("an API key is required: Authorization: Bearer <key>")
    keys: KeyCache = request.app.state.keys
    return await keys.tenant_of(credentials.credentials)


TenantId = Annotated[UUID, Depends(authenticate)]
