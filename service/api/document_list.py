"""GET /v1/collections/{name}/documents: a page of a collection's documents, chosen and in order."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from service.api.answers import json_response, show_document, to_json
from service.api.auth import TenantId
from service.api.bodies import parse_json
from service.api.commit_tokens import After, told_where
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, fingerprint, make_cursor, read_id, read_position
from service.api.deps import EVERY_ROUTE, Tools
from service.api.filter_parameter import FilterText, read_filter
from service.api.openapi import told
from service.api.openapi.operations import AFTER, answers, with_headers
from service.api.paths import CollectionName
from service.db.collections import find_collection
from service.db.read_replica import following
from service.domain.documents import Status
from service.domain.errors import InvalidError, MalformedError
from service.domain.filter_values import read_text
from service.domain.sorting import MOMENTS, TEXTS, Position, parse_sort
from service.search.listing import Listing, list_page

router = APIRouter(prefix="/v1/collections/{name}/documents", tags=["documents"], dependencies=EVERY_ROUTE)

SortText = Annotated[
    str | None,
    Query(
        description="A minus before it: descending. Ties are ordered by id, in the same direction; what has no value comes last"
        " in both. Strings are compared by code point, a title by its first 512 characters; of an attribute strings come first,"
        " then numbers, then booleans, and a declared timestamp is a time. Lists, objects and strings over 2,000 bytes are no"
        " value.",
        json_schema_extra={"pattern": rf"^-?({'|'.join((*MOMENTS, *TEXTS))}|attributes(\.[^.\u0000]+){{1,10}})$"},
        openapi_examples={"newest first": {"value": "-created_at"}},
    ),
]


@router.get(
    "",
    operation_id="list_documents",
    responses=answers({200: told.DOCUMENTS}, 400, 404),
    openapi_extra=with_headers(AFTER),
)
async def get_all(
    name: CollectionName,
    *,
    tenant_id: TenantId,
    tools: Tools,
    commit: After,
    status: Status | None = None,
    filter: FilterText = None,  # noqa: A002  the contract's word
    sort: SortText = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """The documents of a collection, newest first or in the order of `sort`: all, those of one status, what a filter leaves.

    Filter and order look at the fields that search serves: a document that was never indexed has none but its external_id and
    its times. What is shown are the newest version's.
    """
    async with tools.primary.begin(tenant_id) as connection:
        collection = await find_collection(connection, tenant_id, name)
    wanted = Listing(read_filter(filter, collection), parse_sort(sort, declared=collection.attributes), status)
    in_order_of_ids = wanted.filter is None and wanted.sort is None
    this_list = fingerprint("documents", collection.id, status if in_order_of_ids else wanted)
    after = read_place(cursor, this_list) if in_order_of_ids else read_sorted(cursor, this_list)
    reader = following(tools.reader, commit)
    page, end = await list_page(wanted, collection, after=after, limit=limit, primary=tools.primary, reader=reader)
    following_page = None
    if end is not None:
        position = end.id if in_order_of_ids else to_json([end.value, str(end.id)]).decode()
        following_page = make_cursor(position, this_list)
    shown = {"documents": [show_document(each) for each in page], "next_cursor": following_page}
    return json_response(shown, headers=dict(told_where(reader)))


def read_place(cursor: str | None, of: str) -> Position | None:
    id_ = read_id(cursor, of)
    return None if id_ is None else Position(None, id_)


def read_sorted(cursor: str | None, of: str) -> Position | None:
    """Raises MalformedError and CursorMismatchError."""
    position = read_position(cursor, of)
    if position is None:
        return None
    try:
        value, id_ = parse_json(position.encode())
        return Position(None if value is None else read_text(value, at="cursor"), UUID(id_))
    except (MalformedError, InvalidError, ValueError, TypeError, AttributeError) as error:
        raise MalformedError("the cursor is not one of this service") from error
