"""The rules of the house as functions: text in, one "path:line: what is wrong" per violation out."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePath

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 50


@dataclass(frozen=True, slots=True)
class Importers:
    """Who may import a package (patterns under src/resource_wireguard), why, and whether only lazily."""

    modules: tuple[str, ...]
    why: str
    lazily: bool = False


IMPORTERS = {
    "subprocess": Importers(
        ("system/process.py",), "one place sees to it that every process has an argv list and a deadline"
    ),
    "click": Importers(
        ("cli/*.py", "features/*/cli.py", "features/*/cli/*.py"),
        "commands go through the bus; the CLI is one of its callers",
    ),
    "cryptography": Importers(
        ("store/seal.py", "store/passphrase.py", "model/keys.py", "engine/archive.py"),
        "few hands on key material (at rest, on the wire, in a back-up), and most commands need none",
        lazily=True,
    ),
    "ctypes": Importers(
        ("system/syscalls.py",),
        "calls without a type checker belong in one place, and most processes need none",
        lazily=True,
    ),
    "segno": Importers(
        ("cli/*.py", "features/*/cli/*.py"), "a QR code is a way to print, needed by one command", lazily=True
    ),
    "yaml": Importers(
        ("features/network/marked_yaml.py",),
        "events only, no constructor: what a stranger's YAML can do is settled in one place",
        lazily=True,
    ),
    "docker": Importers(
        ("system/docker.py",),
        "one place says what the daemon's refusals mean, and most commands never ask it",
        lazily=True,
    ),
    "hvac": Importers(
        ("store/vault.py",),
        "one place says what a Vault's refusals mean, and only an agent that has one pays for it",
        lazily=True,
    ),
    "sqlite3": Importers(
        ("store/*.py",), "SQL that is not behind the store's port cannot move to another database"
    ),
}

BROAD_EXCEPT_EDGES = {
    "engine/bus.py": "a caller gets an answer, whatever its command ran into",
    "engine/agent.py": "one failed pass must not end the process that repairs the next drift",
    "cli/main.py": "a user gets one line and an exit code, not a traceback",
}

REGISTRY_HOST = re.compile(r"\b(pypi|pythonhosted|debian|npmjs)\.(org|com)\b")
MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:root|home|work|Users)/\w|file:/{3}")
LOCK_LINE = re.compile(r"#.*|\s+#.*|\s+--hash=sha256:[0-9a-f]{64}( \\)?|[\w.-]+==[\w.]+ \\|")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^\s*(```|~~~)")


def wrong_imports(module: str, tree: ast.Module) -> Iterator[str]:
    """Imports of a guarded package by a module that may not, or not at module level."""
    eager = {id(node) for node in _run_at_import(tree)}
    for node in ast.walk(tree):
        for package in _packages(node):
            allowed = IMPORTERS.get(package)
            if allowed is None:
                continue
            if not any(fnmatch(module, pattern) for pattern in allowed.modules):
                places = " and ".join(allowed.modules)
                yield f"{module}:{node.lineno}: imports {package}; only {places} may: {allowed.why}"
            elif allowed.lazily and id(node) in eager:
                yield f"{module}:{node.lineno}: imports {package} at module level, not lazily: {allowed.why}"


def _packages(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        return {node.module.split(".")[0]}
    return set()


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: not in functions, not for type checkers only."""
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if not is_function and not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from _run_at_import(child)


def broad_excepts(module: str, tree: ast.Module) -> Iterator[str]:
    """Handlers that catch everything, outside of the program's edges; to clean up, there is ExitStack."""
    if module in BROAD_EXCEPT_EDGES:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and _catches_all(node):
            edges = ", ".join(BROAD_EXCEPT_EDGES)
            yield f"{module}:{node.lineno}: a broad except hides defects; only the edges have one ({edges})"


def _catches_all(handler: ast.ExceptHandler) -> bool:
    names = (
        {name.id for name in ast.walk(handler.type) if isinstance(name, ast.Name)} if handler.type else set()
    )
    return handler.type is None or bool(names & {"Exception", "BaseException"})


def oversize(module: str, text: str, tree: ast.Module) -> Iterator[str]:
    """Modules and functions too long to hold in one's head."""
    if (lines := len(text.splitlines())) > MAX_MODULE_LINES:
        yield f"{module}:1: {lines} lines; a module has at most {MAX_MODULE_LINES}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            if (lines := node.end_lineno - node.lineno + 1) > MAX_FUNCTION_LINES:
                limit = f"a function has at most {MAX_FUNCTION_LINES}"
                yield f"{module}:{node.lineno}: {node.name} has {lines} lines; {limit}"


def missing_docstring(module: str, tree: ast.Module) -> Iterator[str]:
    """A module that does not say what it is for."""
    if not ast.get_docstring(tree):
        yield f"{module}:1: a module's first line says what it is for"


def folders_without_init(modules: Iterable[PurePath]) -> Iterator[str]:
    """Folders of modules that are no package: mypy and import-linter would not look at what is in them."""
    paths = set(modules)
    folders = {folder for path in paths for folder in path.parents if len(folder.parts) > 1}  # all but src
    for folder in sorted(folders):
        if folder / "__init__.py" not in paths:
            yield f"{folder}: has no __init__.py, so no tool looks into it"


def machine_traces(path: str, text: str) -> Iterator[str]:
    """Registry hosts and paths of one machine: they make a checkout work for its author only."""
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern in (REGISTRY_HOST, MACHINE_PATH):
            if match := pattern.search(line):
                yield f"{path}:{number}: '{match.group()}' names a registry or a path of somebody's machine"


def foreign_lock_lines(path: str, text: str) -> Iterator[str]:
    """Lines of a lock that are neither pin, hash nor comment, such as the index of somebody's pip."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not LOCK_LINE.fullmatch(line):
            yield f"{path}:{number}: a lock has pins, hashes and comments only: {line.strip()}"


def dead_links(path: PurePath, text: str, files: set[PurePath]) -> Iterator[str]:
    """Relative links of a Markdown page that lead to no file (or folder of files) of the project."""
    folders = {folder for file in files for folder in file.parents}
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        fenced ^= bool(FENCE.match(line))
        for target in [] if fenced else LINK.findall(line):
            place = target.split("#")[0]
            if "://" in target or target.startswith("mailto:") or not place:
                continue
            if _normal(path.parent / place) not in files | folders:
                yield f"{path}:{number}: the link leads nowhere: {target}"


def _normal(path: PurePath) -> PurePath:
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return PurePath(*parts)
