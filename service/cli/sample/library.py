"""The documentation of the standard library, each name once and under the name that a program uses."""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from service.cli.sample.entries import Entry
from service.cli.sample.natives import native_module, native_names
from service.cli.sample.parsed import entries, is_module_deprecated, module_entry
from service.cli.sample.sources import Source, is_native


@dataclass(frozen=True)
class Export:
    """A public module takes `name` from `origin`, which is private, its own submodule, or written in C."""

    module: str
    origin: str
    name: str


def document_library(sources: Iterable[Source]) -> Iterator[Entry]:
    """Every public module, class, function and method with a documentation, no name twice."""
    by_name = {source.name: source for source in sources}
    exports = list(find_exports(by_name))
    given: set[str] = set()
    for entry in chain(own_entries(by_name, exports), exported_entries(by_name, exports), native_entries(by_name)):
        if entry.name not in given:
            given.add(entry.name)
            yield entry


def own_entries(by_name: Mapping[str, Source], exports: Iterable[Export]) -> Iterator[Entry]:
    """What public modules define, but for what their package passes on as its own."""
    passed_on = {(export.origin, export.name) for export in exports}
    for source in by_name.values():
        if not source.is_public:
            continue
        deprecated = any(is_module_deprecated(by_name[name]) for name in lineage(source.name) if name in by_name)
        if entry := module_entry(source, inherited=deprecated):
            yield entry
        for node in source.definitions():
            if not node.name.startswith("_") and (source.name, node.name) not in passed_on:
                yield from entries(node, source, module=source.name, owner=source.name, inherited=deprecated)


def exported_entries(by_name: Mapping[str, Source], exports: Iterable[Export]) -> Iterator[Entry]:
    passed_on = {(export.origin, export.name) for export in exports}
    for export in exports:
        if (export.module, export.name) in passed_on:
            continue
        origin = by_name.get(export.origin)
        if origin is None:
            names = None if export.name == "*" else {export.name}
            yield from native_names(export.origin, module=export.module, names=names)
            continue
        for node in origin.definitions():
            if node.name == export.name:
                yield from entries(node, origin, module=export.module, owner=export.module)


def native_entries(by_name: Mapping[str, Source]) -> Iterator[Entry]:
    for name in sorted(sys.stdlib_module_names - by_name.keys()):
        if not name.startswith("_") and is_native(name):
            yield from native_module(name)


def lineage(name: str) -> list[str]:
    """A module and the packages around it: os.path, os."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def find_exports(by_name: Mapping[str, Source]) -> Iterator[Export]:
    for source in by_name.values():
        if not source.is_public:
            continue
        exported = source.exported()
        for origin, aliases in source.imports():
            for alias in aliases:
                yield from _exports(alias, source=source, origin=origin, exported=exported, by_name=by_name)
        yield from _lazily(source, exported or set(), by_name)


def _exports(
    alias: ast.alias, *, source: Source, origin: str, exported: set[str] | None, by_name: Mapping[str, Source]
) -> Iterator[Export]:
    found = by_name.get(origin)
    if found is None:
        passes_on = origin.startswith("_") or origin == "posix"  # Other native modules are documented themselves.
        if passes_on and is_native(origin) and alias.asname in {None, alias.name} and not alias.name.startswith("_"):
            yield Export(source.name, origin, alias.name)
        return
    if found.is_public and not origin.startswith(f"{source.name}."):
        return  # It is documented where it is at home.
    names = {alias.name} if alias.name != "*" else found.exported() or {each.name for each in found.definitions()}
    for name in sorted(names):
        if not name.startswith("_") and (exported is None or name in exported):
            yield Export(source.name, origin, name)


def _lazily(source: Source, exported: set[str], by_name: Mapping[str, Source]) -> Iterator[Export]:
    """What a package lists and finds in a submodule only when it is asked for, as concurrent.futures does."""
    if source.package != source.name:
        return
    imported = {alias.name for _, aliases in source.imports() for alias in aliases}
    missing = exported - imported - {node.name for node in source.definitions()}
    for name, below in by_name.items():
        if name.startswith(f"{source.name}."):
            for node in below.definitions():
                if node.name in missing:
                    yield Export(source.name, name, node.name)
