"""Entries of what is written in C and has no source to parse: the modules are imported, which for these only loads them."""

import inspect
import warnings
from collections.abc import Collection, Iterator
from importlib import import_module
from typing import Any

from service.cli.sample.entries import Entry, documentation_link, says_deprecated

# `readline` writes to the terminal when it is loaded, the others draw or have nothing to say.
LEFT_OUT = {"readline", "_tkinter", "_curses", "_curses_panel", "posix", "nt", "xxlimited", "xxlimited_35", "xxsubtype"}


def load(module: str) -> Any:  # noqa: ANN401  (a module)
    """Import a module that is written in C; None for one that this machine cannot load."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Modules about to be removed say so.
        try:
            return import_module(module)
        except ImportError:
            return None


def native_module(name: str) -> Iterator[Entry]:
    """A public module and everything public in it."""
    if name in LEFT_OUT or (module := load(name)) is None:
        return
    if text := documentation(module):
        yield _entry(name, "module", module=name, signature="", text=text, tags=set())
    yield from native_names(name, module=name)


def native_names(origin: str, *, module: str, names: Collection[str] | None = None) -> Iterator[Entry]:
    """What `module` takes from `origin`, all of it when `names` is None."""
    if origin in LEFT_OUT - {"posix"} or (loaded := load(origin)) is None:
        return
    for name, found in sorted(vars(loaded).items()):
        if name.startswith("_") or (names is not None and name not in names):
            continue
        if not (inspect.isclass(found) or inspect.isbuiltin(found)) or found.__name__ != name:
            continue  # A constant, or another name of something.
        yield from _native(found, name=name if module == "builtins" else f"{module}.{name}", module=module)


def _native(found: Any, *, name: str, module: str) -> Iterator[Entry]:  # noqa: ANN401  (a class or function)
    tags = set()
    if inspect.isclass(found):
        tags |= {"exception"} if issubclass(found, BaseException) else set()
        tags |= {"context-manager"} if hasattr(found, "__enter__") else set()
        tags |= {"iterator"} if hasattr(found, "__next__") else set()
    kind = "class" if inspect.isclass(found) else "function"
    if text := documentation(found):
        yield _entry(name, kind, module=module, signature=signature(found), text=text, tags=tags)
    if not inspect.isclass(found):
        return
    for member, each in sorted(vars(found).items()):
        if member.startswith("_") or not (inspect.isroutine(each) or isinstance(each, staticmethod | classmethod)):
            continue
        if text := documentation(each):
            called = signature(getattr(found, member))
            yield _entry(f"{name}.{member}", "method", module=module, signature=called, text=text, tags=set())


def _entry(name: str, kind: Any, *, module: str, signature: str, text: str, tags: set[str]) -> Entry:  # noqa: ANN401
    return Entry(
        name=name,
        kind=kind,
        module=module,
        signature=signature,
        text=text,
        source=documentation_link(module),
        deprecated=says_deprecated(text),
        tags=(*tags, "c"),
    )


def documentation(found: Any) -> str:  # noqa: ANN401
    text = getattr(found, "__doc__", None)
    return inspect.cleandoc(text).strip() if isinstance(text, str) else ""


def signature(found: Any) -> str:  # noqa: ANN401
    """As it is called, without `self`; nothing where C code does not say."""
    try:
        spelled = inspect.signature(found)
    except (ValueError, TypeError):
        return ""
    kept = [each for each in spelled.parameters.values() if each.name not in {"self", "type"}]
    return str(spelled.replace(parameters=kept))
