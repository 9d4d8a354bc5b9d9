"""The source files of the standard library as syntax trees: nothing is imported, so nothing runs."""

import ast
import importlib.util
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Tests, demonstrations, an editor, and a hundred tables of characters: no documentation that anybody looks for.
LEFT_OUT = {"test", "tests", "idle_test", "idlelib", "turtledemo", "pydoc_data", "encodings", "antigravity", "this"}
LEFT_OUT |= {"lib2to3", "_bundled", "__main__", "__phello__"}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Source:
    """A module: `path` is relative to the library's folder, as in the repository of Python."""

    name: str
    path: str
    tree: ast.Module

    @property
    def is_public(self) -> bool:
        return not any(part.startswith("_") for part in self.name.split("."))

    @property
    def package(self) -> str:
        return self.name if self.path.endswith("__init__.py") else self.name.rpartition(".")[0]

    def definitions(self) -> Iterator[Definition]:
        for statement in flat(self.tree.body):
            if isinstance(statement, Definition):
                yield statement

    def imports(self) -> Iterator[tuple[str, list[ast.alias]]]:
        """Modules from which names are imported, by their full names."""
        for statement in flat(self.tree.body):
            if isinstance(statement, ast.ImportFrom):
                above = self.package.split(".")[: len(self.package.split(".")) - statement.level + 1]
                origin = [*(above if statement.level else []), *filter(None, [statement.module])]
                yield ".".join(origin), statement.names

    def exported(self) -> set[str] | None:
        """What `__all__` lists, None when it is absent or computed."""
        listed: set[str] = set()
        for statement in flat(self.tree.body):
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                try:
                    listed |= set(ast.literal_eval(statement.value))  # type: ignore[attr-defined]  # an Assign
                except ValueError:
                    return None
        return listed or None


def flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements, and those that an `if` or `try` around them decides about."""
    for statement in body:
        if isinstance(statement, ast.If):
            yield from flat([*statement.body, *statement.orelse])
        elif isinstance(statement, ast.Try):
            handlers = [each for handler in statement.handlers for each in handler.body]
            yield from flat([*statement.body, *handlers, *statement.orelse, *statement.finalbody])
        else:
            yield statement


def find_files() -> list[Path]:
    """Every source file of the library, private ones too: public modules take names from them."""
    root = library()
    files: list[Path] = []
    for name in sorted(sys.stdlib_module_names - LEFT_OUT):
        if (file := root / f"{name}.py").is_file():
            files.append(file)
        files.extend(file for file in (root / name).rglob("*.py") if not LEFT_OUT & set(parts(file)))
    return sorted(files)


def read_source(file: Path) -> Source | None:
    """Parse a file; None for one that is no Python of this version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # About escapes in old files.
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError):
            return None
    return Source(".".join(parts(file)), file.relative_to(library()).as_posix(), tree)


def parts(file: Path) -> tuple[str, ...]:
    names = file.relative_to(library()).with_suffix("").parts
    return names[:-1] if names[-1] == "__init__" else names


def library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def is_native(module: str) -> bool:
    """Whether a top-level module of the library is compiled into the interpreter or beside it."""
    if "." in module or module not in sys.stdlib_module_names:
        return False
    spec = importlib.util.find_spec(module)
    return spec is not None and (
        spec.origin == "built-in" or not (spec.origin or ".py").endswith((".py", ".pyc", "frozen"))
    )
