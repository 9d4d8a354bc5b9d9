"""What stands in a path: documented here, judged by the routes, because an ill-formed name is a 404 and not a 422."""

from typing import Annotated

from fastapi import Path

from service.domain.names import COLLECTION_NAME, EXTERNAL_ID_LENGTH

CollectionName = Annotated[
    str,
    Path(
        description="The collection's name.",
        json_schema_extra={"pattern": f"^{COLLECTION_NAME.pattern}$"},
        openapi_examples={"books": {"value": "books"}},
    ),
]
DocumentId = Annotated[
    str,
    Path(
        description="The id that the service gave to the document.",
        json_schema_extra={"format": "uuid"},
        openapi_examples={"a document": {"value": "019aa0c4-7d2f-7c3e-9f64-0d3a5b0c1e22"}},
    ),
]
DocumentKey = Annotated[
    str,
    Path(
        description="The external_id, percent-encoded; it may hold `/`.",
        json_schema_extra={
            "minLength": 1,
            "maxLength": EXTERNAL_ID_LENGTH,
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$",
        },
        openapi_examples={"moby-dick": {"value": "moby-dick"}},
    ),
]
