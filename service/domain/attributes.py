"""The client's key-values: what can be stored at all, what a collection declares of them, and how a patch changes them."""

import json
from collections.abc import Mapping
from math import isfinite

from service.domain.documents import JsonObject, type_names
from service.domain.errors import InvalidError
from service.domain.filter_values import INT64, READERS, UNSTORABLE, read_text
from service.domain.names import CONTROLS

MAX_BYTES = 64 * 1024  # They are copied into every search hit.
MAX_DEPTH = 20
MAX_DECLARED = 64  # Each is an index, paid for by every write.
MAX_INDEXED = 2_000  # Bytes of a declared string, which is an index entry (of at most 2,704).
MAX_NAME, MAX_NAMES = 200, 10  # Characters of a declared path, and its parts.


def check_storable(value: object, *, at: str = "attributes", depth: int = 0) -> None:
    """Raises InvalidError, naming the path, for what JSON can say and the database cannot keep."""
    if not isinstance(value, dict | list):
        check_scalar(value, at=at)
        return
    if depth == MAX_DEPTH:
        raise InvalidError(f"at most {MAX_DEPTH} lists and objects inside one another", field=at)
    for key, member in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(key, str) and UNSTORABLE.search(key):
            raise InvalidError("a key holds a NUL or half a surrogate pair", field=at)
        check_storable(member, at=f"{at}.{key}", depth=depth + 1)


def check_scalar(value: object, *, at: str) -> None:
    if isinstance(value, str) and UNSTORABLE.search(value):
        raise InvalidError("a NUL or half a surrogate pair cannot be stored", field=at)
    if isinstance(value, float) and not isfinite(value):
        raise InvalidError("a number must be finite", field=at)
    if isinstance(value, int) and value not in INT64:
        raise InvalidError("an integer must fit into 64 bits", field=at)


def check_size(attributes: JsonObject) -> None:
    if len(json.dumps(attributes, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_BYTES:
        raise InvalidError(f"attributes have at most {MAX_BYTES} bytes as JSON", field="attributes")


def conforming(attributes: JsonObject, declared: Mapping[str, str]) -> JsonObject:
    """The attributes with every declared one of its type (2020.0 becomes the integer 2020); raises InvalidError."""
    for path, type_ in declared.items():
        attributes = conforming_member(attributes, path.split("."), type_, at=f"attributes.{path}")
    return attributes


def conforming_member(parent: JsonObject, names: list[str], type_: str, *, at: str) -> JsonObject:
    value = parent.get(names[0])
    if value is None:
        return parent
    if len(names) > 1:
        if not isinstance(value, dict):
            return parent
        member: object = conforming_member(value, names[1:], type_, at=at)
    else:
        member = of_type(value, type_, at=at)
    return parent if member is value else {**parent, names[0]: member}


def of_type(value: object, type_: str, *, at: str) -> object:
    if type_ == "string[]":
        if not isinstance(value, list):
            raise InvalidError("a list of strings is needed here", field=at)
        for i, each in enumerate(value):
            read_text(each, at=f"{at}.{i}")
        return value
    if isinstance(value, str) and len(value.encode()) > MAX_INDEXED:
        raise InvalidError(f"a declared string has at most {MAX_INDEXED} bytes of UTF-8", field=at)
    read = READERS[type_](value, at=at)
    return read if type_ == "integer" and isinstance(value, float) else value


def declaring(declared: Mapping[str, str], changes: Mapping[str, object]) -> dict[str, str]:
    """The declarations after a patch: a type declares, null withdraws. Raises InvalidError."""
    after = dict(declared)
    for name, type_ in changes.items():
        at = f"attributes.{name}"
        if not is_path(name):
            raise InvalidError(f"a name has 1 to {MAX_NAME} characters, and names between its dots", field=at)
        if type_ is None:
            after.pop(name, None)
        elif not isinstance(type_, str) or type_ not in type_names:
            raise InvalidError(f"a type is one of {', '.join(type_names)}", field=at)
        else:
            after[name] = type_
    if len(after) > MAX_DECLARED:
        raise InvalidError(f"a collection declares at most {MAX_DECLARED} attributes", field="attributes")
    return after


def is_path(name: str) -> bool:
    names = name.split(".")
    return len(name) <= MAX_NAME and len(names) <= MAX_NAMES and all(names) and not CONTROLS.search(name)


def merge_patch(target: object, patch: object) -> object:
    """RFC 7396: members of an object are merged, null removes, anything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def same_json(one: object, other: object) -> bool:
    """Equality of JSON values: Python's calls true and 1 the same."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_json(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return one == other
