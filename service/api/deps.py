"""What routes ask for: the resources, and the rules that hold on every one of them."""

from collections.abc import Iterator
from typing import Annotated, get_args, get_origin

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError

from service.api.auth import authenticate
from service.resources import Resources


# Asynchronous, as everything that `Depends` names: FastAPI sends plain functions through a thread, which costs more than they do.
async def get_resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


Tools = Annotated[Resources, Depends(get_resources)]


def query_parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """The names that a route declares, and whether each may be repeated."""
    for parameter in dependant.query_params:
        yield parameter.alias, is_list(parameter.field_info.annotation)
    for each in dependant.dependencies:
        yield from query_parameters(each)


def is_list(annotation: object) -> bool:
    return get_origin(annotation) is list or any(map(is_list, get_args(annotation)))


async def refuse_unknown_query(request: Request) -> None:
    """A misspelt parameter that is ignored is a wrong answer with status 200."""
    if not request.scope["query_string"]:
        return
    declared = dict(query_parameters(request.scope["route"].dependant))
    found = []
    for name in request.query_params:
        if name not in declared:
            found.append({"type": "extra_forbidden", "loc": ("query", name), "msg": "unknown query parameter"})
        elif not declared[name] and len(request.query_params.getlist(name)) > 1:
            found.append({"type": "repeated", "loc": ("query", name), "msg": "given more than once"})
    if found:
        raise RequestValidationError(found)


# In this order: without a key nobody learns what a route takes.
EVERY_ROUTE = [Depends(authenticate), Depends(refuse_unknown_query)]
