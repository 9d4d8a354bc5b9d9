"""/v1/collections/{name}/bulk-load: a load so large that the index of its vectors is better built after it."""

from fastapi import APIRouter
from starlette.responses import Response

from service.api.answers import json_response
from service.api.auth import TenantId
from service.api.commit_tokens import committed
from service.api.deps import EVERY_ROUTE, Tools
from service.api.openapi import told
from service.api.openapi.operations import answers
from service.api.paths import CollectionName
from service.ingest.bulk import begin_bulk_load, end_bulk_load, look_at_bulk_load

router = APIRouter(prefix="/v1/collections/{name}/bulk-load", tags=["collections"], dependencies=EVERY_ROUTE)


@router.put("", operation_id="begin_bulk_load", responses=answers({200: told.CHANGED_BULK_LOAD}, 404))
async def put(name: CollectionName, tenant_id: TenantId, tools: Tools) -> Response:
    """Say that many documents will come. `preparing` becomes `deferred`, or `live` where the index is needed meanwhile."""
    standing = await begin_bulk_load(name, tenant_id=tenant_id, primary=tools.primary)
    return await committed(json_response({"index": standing}), tools.primary)


@router.get("", operation_id="get_bulk_load", responses=answers({200: told.BULK_LOAD}, 404))
async def get(name: CollectionName, tenant_id: TenantId, tools: Tools) -> Response:
    """How the index of vectors stands. While it is deferred, searches are exact, and the slower the more there is."""
    return json_response({"index": await look_at_bulk_load(name, tenant_id=tenant_id, primary=tools.primary)})


@router.delete("", operation_id="end_bulk_load", responses=answers({200: told.CHANGED_BULK_LOAD}, 404))
async def delete(name: CollectionName, tenant_id: TenantId, tools: Tools) -> Response:
    """Say that all have come: the index is built once they are indexed. A load that falls silent ends by itself."""
    standing = await end_bulk_load(name, tenant_id=tenant_id, primary=tools.primary)
    return await committed(json_response({"index": standing}), tools.primary)
