"""If-Match and If-None-Match, read into the domain's words."""

import re

from fastapi import Request

from service.domain.conditions import Condition, Tags

ENTITY_TAG = re.compile(r'\s*(W/)?"([^"]*)"\s*')
VERSION = re.compile("[1-9][0-9]{0,9}")


def read_condition(request: Request) -> Condition:
    return Condition(if_match=read_tags(request, "if-match"), if_none_match=read_tags(request, "if-none-match"))


def read_tags(request: Request, header: str) -> Tags | None:
    """The versions named. A weak tag, or one that this service never gave, is nobody's and meets no version."""
    values = request.headers.getlist(header)
    if not values:
        return None
    joined = ",".join(values).strip()
    if joined == "*":
        return "*"
    found = (ENTITY_TAG.fullmatch(part) for part in joined.split(","))
    return frozenset(int(m.group(2)) for m in found if m and not m.group(1) and VERSION.fullmatch(m.group(2)))
