"""Facts about a Python file from its syntax tree. The file is only parsed, never run."""

import ast
import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MAX_SOURCE_CHARS = 1 << 20
"""Characters beyond which a file is not parsed. Ours: a tree needs 300 bytes each."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True)
class PythonFacts:
    """Facts from a syntax tree.

    Attributes:
        error: why the file does not parse, empty if it does.
        error_line: line of the error, from 1; 0 if unknown.
        module_docstring: whether the module has a docstring.
        docstring_characters: of all docstrings.
        definitions: public functions and classes, without tests and nested functions.
        documented: how many of `definitions` have a docstring.
        functions: (name, first line, last line) of every function.
        stubs: functions with an empty body.
        tests: functions with a name that starts with `test`.
        statements: number of statements.
        imports: number of import statements.
        depth: deepest nesting of blocks.
    """

    error: str = ""
    error_line: int = 0
    module_docstring: bool = False
    docstring_characters: int = 0
    definitions: int = 0
    documented: int = 0
    functions: list[tuple[str, int, int]] = field(default_factory=list)
    stubs: int = 0
    tests: int = 0
    statements: int = 0
    imports: int = 0
    depth: int = 0


def python_facts(text: str) -> PythonFacts | None:
    """Return the facts, None for a text that is too long to parse."""
    if len(text) > MAX_SOURCE_CHARS:
        return None
    facts = PythonFacts()
    try:
        with _without_warnings_and_gc():
            _collect(ast.parse(text), facts)
    except SyntaxError as error:
        facts.error, facts.error_line = error.msg or "invalid syntax", error.lineno or 0
    except (ValueError, RecursionError, MemoryError) as error:
        facts.error = f"not parsable ({type(error).__name__})"
    return facts


@contextmanager
def _without_warnings_and_gc() -> Iterator[None]:
    """Suppress warnings, and the garbage collector, which would scan a tree of live objects."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if collecting:
            gc.enable()


def _collect(tree: ast.Module, facts: PythonFacts) -> None:
    docstring = _docstring(tree.body)
    facts.module_docstring = docstring is not None
    facts.docstring_characters = len(docstring or "")
    # An explicit stack, because a chain of a thousand `elif` is nested a thousand deep.
    stack: list[tuple[list[ast.stmt], int, bool]] = [(tree.body, 0, False)]
    while stack:
        body, depth, in_function = stack.pop()
        facts.statements += len(body)
        facts.depth = max(facts.depth, depth)
        for node in body:
            if isinstance(node, Function | ast.ClassDef):
                _collect_definition(node, facts, in_function)
                stack.append((node.body, depth + 1, in_function or isinstance(node, Function)))
            elif isinstance(node, ast.Import | ast.ImportFrom):
                facts.imports += 1
            else:
                stack.extend((block, d + depth, in_function) for block, d in _blocks(node))


def _collect_definition(
    node: Function | ast.ClassDef, facts: PythonFacts, in_function: bool
) -> None:
    docstring = _docstring(node.body)
    facts.docstring_characters += len(docstring or "")
    is_test = node.name.lower().startswith("test")
    if not (in_function or is_test or node.name.startswith("_")):
        facts.definitions += 1
        facts.documented += docstring is not None
    if isinstance(node, Function):
        facts.tests += is_test
        facts.functions.append((node.name, node.lineno, node.end_lineno or node.lineno))
        facts.stubs += all(isinstance(s, ast.Pass | ast.Expr) and _is_empty(s) for s in node.body)


def _is_empty(node: ast.Pass | ast.Expr) -> bool:
    return isinstance(node, ast.Pass) or isinstance(node.value, ast.Constant)


def _docstring(body: list[ast.stmt]) -> str | None:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        value = first.value.value
        return value if isinstance(value, str) else None
    return None


def _blocks(node: ast.stmt) -> Iterator[tuple[list[ast.stmt], int]]:
    """Yield the blocks inside a statement with their extra depth; an `elif` adds none."""
    match node:
        case ast.If(body=body, orelse=orelse):
            yield body, 1
            yield orelse, int(not (len(orelse) == 1 and isinstance(orelse[0], ast.If)))
        case ast.For() | ast.AsyncFor() | ast.While():
            yield node.body, 1
            yield node.orelse, 1
        case ast.Try() | ast.TryStar():
            for block in (node.body, node.orelse, node.finalbody):
                yield block, 1
            for handler in node.handlers:
                yield handler.body, 1
        case ast.With() | ast.AsyncWith():
            yield node.body, 1
        case ast.Match(cases=cases):
            for case in cases:
                yield case.body, 1
