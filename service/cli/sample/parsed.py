"""Entries from syntax trees: what a module says about itself, its classes, functions and methods."""

import ast
import inspect
import re
from collections.abc import Iterator

from service.cli.sample.entries import Entry, Kind, says_deprecated, source_link
from service.cli.sample.sources import Definition, Source, flat

RECEIVER = re.compile(r"^\w+(?:, /)?(?:, |$)")  # `self` or `cls`: a call does not name it.
TRAITS = {
    "property": "property",
    "cached_property": "property",
    "classmethod": "classmethod",
    "staticmethod": "staticmethod",
    "abstractmethod": "abstract",
    "contextmanager": "context-manager",
    "asynccontextmanager": "context-manager",
    "dataclass": "dataclass",
}
PROTOCOLS = {"__enter__": "context-manager", "__aenter__": "context-manager", "__next__": "iterator"}
EXCEPTIONS = ("Error", "Exception", "Warning")


def module_entry(source: Source, *, inherited: bool) -> Entry | None:
    text = documentation(source.tree)
    if not text:
        return None
    return Entry(
        name=source.name,
        kind="module",
        module=source.name,
        signature="",
        text=text,
        source=source_link(source.path, 1),
        line=1,
        deprecated=inherited or is_module_deprecated(source),
    )


def entries(node: Definition, source: Source, *, module: str, owner: str, inherited: bool = False) -> Iterator[Entry]:
    """A class or function and all that is public in it, under the name `owner` gives it.

    What belongs to something deprecated is deprecated too.
    """
    name, text = f"{owner}.{node.name}", documentation(node)
    deprecated = inherited or is_deprecated(node.body, text)
    kind: Kind = "class" if isinstance(node, ast.ClassDef) else "function" if owner == module else "method"
    if text:
        yield Entry(
            name=name,
            kind=kind,
            module=module,
            signature=signature(node, is_method=kind == "method"),
            text=text,
            source=source_link(source.path, node.lineno),
            line=node.lineno,
            deprecated=deprecated,
            tags=tuple(traits(node)),
        )
    if isinstance(node, ast.ClassDef):
        for member in members(node, source):
            if not member.name.startswith("_"):
                yield from entries(member, source, module=module, owner=name, inherited=deprecated)


def members(node: ast.ClassDef, source: Source) -> Iterator[Definition]:
    """Its own, then those of private bases in the same file: nobody looks for _ActionsContainer.add_argument."""
    yield from (each for each in flat(node.body) if isinstance(each, Definition))
    bases = {base.id for base in node.bases if isinstance(base, ast.Name) and base.id.startswith("_")}
    for other in source.definitions() if bases else ():
        if isinstance(other, ast.ClassDef) and other.name in bases:
            yield from members(other, source)


def documentation(node: ast.Module | Definition) -> str:
    return inspect.cleandoc(ast.get_docstring(node, clean=False) or "").strip()


def signature(node: Definition, *, is_method: bool) -> str:
    """As it is called: without `self`, and a class by its `__init__`."""
    if isinstance(node, ast.ClassDef):
        inits = [each for each in flat(node.body) if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        return signature(inits[0], is_method=True) if inits else ""
    decorators = {decorator_name(each) for each in node.decorator_list}
    if "property" in decorators or "cached_property" in decorators:
        return ""
    spelled = ast.unparse(node.args)
    if is_method and "staticmethod" not in decorators:
        spelled = RECEIVER.sub("", spelled)
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({spelled}){returned}"


def traits(node: Definition) -> set[str]:
    """What a reader may want to filter by: tags."""
    found = {TRAITS[name] for each in node.decorator_list if (name := decorator_name(each)) in TRAITS}
    if isinstance(node, ast.AsyncFunctionDef):
        found.add("async")
    if isinstance(node, ast.ClassDef):
        own = {each.name for each in flat(node.body) if isinstance(each, Definition)}
        found |= {tag for name, tag in PROTOCOLS.items() if name in own}
        bases = [ast.unparse(base) for base in node.bases]
        if any(base.endswith(EXCEPTIONS) for base in bases):
            found.add("exception")
        if any(base.endswith(("Enum", "Flag")) for base in bases):
            found.add("enum")
    return found


def decorator_name(node: ast.expr) -> str:
    return ast.unparse(node.func if isinstance(node, ast.Call) else node).rpartition(".")[2]


def is_module_deprecated(source: Source) -> bool:
    return is_deprecated(source.tree.body, documentation(source.tree))


def is_deprecated(body: list[ast.stmt], text: str) -> bool:
    """Its documentation says so, or the first thing it does is to warn; a warning under an `if` is about an argument."""
    return says_deprecated(text) or any(
        isinstance(each, ast.Expr) and isinstance(each.value, ast.Call) and _warns(each.value) for each in body
    )


def _warns(call: ast.Call) -> bool:
    name, arguments = ast.unparse(call.func), [ast.unparse(each) for each in call.args]
    return name.endswith("_deprecated") or (name.endswith("warn") and "DeprecationWarning" in arguments)
