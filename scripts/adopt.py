"""`python -m scripts.adopt PATH`: writes a pytest-benchmark suite's tests anew, with `measure`, beside the old ones.

What can't be said plainly is left to a person, and named. `docs/migrating-from-pytest-benchmark.md` tells more.
"""

import argparse
import ast
import io
import itertools
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts._adopt_function import Conversion, Edit, Function, Left, Source, names_in, parameters

MARKS = ("pytest.mark.benchmark", "mark.benchmark")
PLUGINS = re.compile(r"\bpytest_(benchmark|codspeed)\b")
IMPORT = "from tests.performance.harness.measure import Measure"
Block = ast.ClassDef | ast.If
IMPORTS = ast.Import | ast.ImportFrom


@dataclass
class Converted:
    """What has become of a module."""

    text: str = ""
    tests: int = 0
    left: list[tuple[int, str, str]] = field(default_factory=list)
    """Line, test and reason."""
    kept_loops: list[tuple[int, str, str]] = field(default_factory=list)
    """The same of tests that are converted, and still run a loop themselves."""
    hooks: list[tuple[int, str]] = field(default_factory=list)
    """Line and name of what pytest takes for a hook, and refuses without the plugin."""
    lost: Counter[str] = field(default_factory=Counter)
    """Options that have no equivalent, and how many tests had them."""


def convert(text: str) -> Converted:
    """The module with its benchmarks converted, and without its other tests; raises SyntaxError or ValueError."""
    source = Source(text)
    done = Converted()
    functions = {node.name: node for node in source.tree.body if isinstance(node, Function)}
    annotate = "Measure" not in names_in(source.tree)
    unusable = {each.name for each in _functions(source.tree) if not _is_test(each) and _takes_benchmark(each)}
    edits: list[Edit] = []
    dropped: set[ast.AST] = set()
    annotated = False
    for function in _functions(source.tree):
        if function.name.startswith("pytest_benchmark_"):
            done.hooks.append((function.lineno, function.name))
        if not _is_test(function) and not _takes_benchmark(function):
            continue
        try:
            conversion = _convert(source, function, functions, annotate, unusable)
        except Left as reason:
            done.left.append((function.lineno, function.name, str(reason)))
        else:
            if conversion is not None:
                edits += conversion.edits
                annotated = annotated or conversion.annotated
                done.tests += 1
                if conversion.kept_loop:
                    done.kept_loops.append((function.lineno, function.name, conversion.kept_loop))
                done.lost.update(set(conversion.lost))
                continue
        dropped.add(function)
    if done.tests:
        _drop(source, source.tree, dropped, edits)
        edits += _without_marks(source, dropped, done.lost)
        done.text = _without_imports(text, source.apply(edits))
        if annotated:
            done.text = _with_import(done.text)
        if any(mark in done.text for mark in MARKS):
            done.lost["pytest.mark.benchmark, which it still names"] += 1
    return done


def _convert(
    source: Source, function: Function, functions: dict[str, Function], annotate: bool, unusable: set[str]
) -> Conversion | None:
    """The conversion of one test; None where it isn't a benchmark. Raises Left."""
    if not _is_test(function):
        calls = {ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
        is_helper = function.decorator_list or function.name in _used(source.tree.body)
        if calls & {"benchmark", "benchmark.pedantic"} and not is_helper:
            raise Left("takes benchmark and isn't called test_…")
        return None
    if needed := unusable & {each.arg for each in parameters(function)}:
        raise Left(f"needs {', '.join(sorted(needed))}, which takes benchmark")
    if not _takes_benchmark(function):
        if any(_is_mark(node) for node in function.decorator_list):
            raise Left("has the marker and not the fixture: a plain test, unless pytest-codspeed times all of it")
        if re.search(r"\bself\.benchmark\b|getfixturevalue\('benchmark'\)", ast.unparse(function)):
            raise Left("doesn't take benchmark as an argument")
        return None
    conversion = Conversion(source, function, functions, annotate)
    try:
        ast.parse(source.apply(conversion.edits))
    except SyntaxError:
        raise Left("can't be written as valid Python") from None
    return conversion


def _functions(tree: ast.Module | Block) -> Iterator[Function]:
    """The functions of a module and its classes, none that stand in functions."""
    for node in tree.body:
        if isinstance(node, Function):
            yield node
        elif isinstance(node, Block):
            yield from _functions(node)


def _is_test(function: Function) -> bool:
    return function.name.startswith("test")


def _takes_benchmark(function: Function) -> bool:
    return any(each.arg == "benchmark" for each in parameters(function))


def _is_mark(node: ast.expr) -> bool:
    return ast.unparse(node.func if isinstance(node, ast.Call) else node) in MARKS


def _drop(source: Source, tree: ast.Module | Block, dropped: set[ast.AST], edits: list[Edit]) -> None:
    """Take away the dropped functions, the classes that had nothing else, and the code that runs as a script."""
    for node in tree.body:
        if isinstance(node, Block):
            _drop(source, node, dropped, edits)
            body = {each for each in node.body if not _is_docstring(each)}
            is_script = isinstance(node, ast.If) and ast.unparse(node.test).startswith("__name__")
            if is_script or (body and body <= dropped):
                dropped.add(node)
        if node in dropped:
            edits.append(source.removal(node))


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _without_marks(source: Source, dropped: set[ast.AST], lost: Counter[str]) -> Iterator[Edit]:
    """Take away pytest-benchmark's own markers, and count their options."""
    for node in ast.walk(source.tree):
        if isinstance(node, Function | ast.ClassDef) and node not in dropped:
            marks = [each for each in node.decorator_list if _is_mark(each)]
            for mark in marks:
                start = source.start(mark) - 1
                yield Edit(start - len(source.indent(mark).encode()), source.line_end(mark) + 1)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            given = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value]
            marks = [each for each in given if _is_mark(each)]
            kept = [ast.unparse(each) for each in given if each not in marks]
            if marks and kept:
                yield Edit(source.start(node.value), source.end(node.value), f"[{', '.join(kept)}]")
            elif marks:
                yield source.removal(node)
        else:
            continue
        lost.update(each.arg for mark in marks if isinstance(mark, ast.Call) for each in mark.keywords if each.arg)


def _without_imports(old: str, text: str) -> str:
    """The text without the plugin's imports, and without those that only the left tests used."""
    source = Source(text)
    body = source.tree.body
    others = {node: _used(each for each in body if each is not node) for node in body if _names_plugin(node)}
    gone = [node for node, used in others.items() if not _bound(node) & used]
    edits = [source.removal(node) for node in gone]
    was_used, is_used = _used(ast.parse(old).body), _used(node for node in body if node not in gone)
    for node in body:
        if not isinstance(node, IMPORTS) or getattr(node, "module", "") == "__future__":
            continue
        is_plugin = PLUGINS.search(ast.unparse(node))
        names = {each: each.asname or each.name.partition(".")[0] for each in node.names}
        kept = [each for each, name in names.items() if name in is_used or (name not in was_used and not is_plugin)]
        if not kept:
            edits.append(source.removal(node))
        elif len(kept) < len(names):
            node.names = kept
            edits.append(Edit(source.start(node), source.end(node), ast.unparse(node)))
    return source.apply(edits).strip("\n") + "\n"


def _with_import(text: str) -> str:
    """The text with that of `Measure` below the imports at its top."""
    source = Source(text)
    head = list(itertools.takewhile(lambda node: isinstance(node, IMPORTS) or _is_docstring(node), source.tree.body))
    if not head:
        return f"{IMPORT}\n\n\n{text}"
    at = source.line_end(head[-1])
    return source.apply([Edit(at, at, f"\n\n{IMPORT}")])


def _names_plugin(node: ast.stmt) -> bool:
    """Whether a statement at the top, other than an import, is about pytest-benchmark or pytest-codspeed."""
    kinds = ast.If | ast.Try | ast.Assign | ast.Expr
    return isinstance(node, kinds) and not _is_docstring(node) and PLUGINS.search(ast.unparse(node)) is not None


def _used(statements: Iterable[ast.stmt]) -> set[str]:
    """Names that are used there outside of imports, in annotations that are strings as well."""
    names: set[str] = set()
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name | ast.arg):
                names |= names_in(node)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.update(re.findall(r"\w+", node.value))
    return names


def _bound(statement: ast.stmt) -> set[str]:
    """Names that a statement binds."""
    stored = (each.id for each in ast.walk(statement) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store))
    imported = (each.asname or each.name for each in ast.walk(statement) if isinstance(each, ast.alias))
    return {*stored, *imported}


def adopt(path: Path) -> int:
    """Convert a file or a folder of a suite and print what has become of it; returns the exit code."""
    if not path.exists():
        print(f"{path}: there is no such file or folder", file=sys.stderr)
        return 2
    found = converted = written = 0
    unread = False
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        if any(part.startswith(".") or part == "site-packages" for part in file.parts[len(path.parts) :]):
            continue
        try:
            text = file.read_text(encoding="utf-8-sig")
            done = convert(text) if "benchmark" in text else Converted()
        except (SyntaxError, ValueError, OSError, RecursionError) as error:
            reason = str(error).replace("<unknown>, ", "")
            print(f"{file}: left: it can't be read as Python {sys.version_info[0]}.{sys.version_info[1]}: {reason}")
            unread = True
            continue
        found += done.tests + len(done.left)
        converted += done.tests
        written += _write(file, done)
    if not found:
        where = "that can be read " if unread else ""
        print(f"{path}: no test there {where}uses the fixture `benchmark`", file=sys.stderr)
        return 2
    print(f"{written} of {found} benchmarks converted ({written / found:.0%})")
    return 2 if written < converted else 0


def _write(file: Path, done: Converted) -> int:
    """Write the new file, unless one is there, and print what was done; returns how many tests were written."""
    written = 0
    if done.tests:
        prefix = "" if file.stem.startswith("test_") else "test_"
        target = file.with_name(f"{prefix}{file.stem}_benchmarks.py")
        try:
            with target.open("x", encoding="utf-8") as stream:
                stream.write(done.text)
        except FileExistsError:
            print(f"{file}: left: {target.name} is there already, and is not overwritten: move it away first")
        except OSError as error:
            print(f"{file}: left: {target.name} can't be written: {error.strerror}")
        else:
            written = done.tests
            print(f"{target}: {written} of {written + len(done.left)} benchmarks")
            for option, tests in done.lost.items():
                print(f"    without {option} ({tests} times), which has no equivalent")
            for line, name, reason in done.kept_loops:
                print(f"{file}:{line}: no coroutine: {name} {reason}")
    for line, name in done.hooks:
        print(f"{file}:{line}: delete {name}: without its plugin pytest refuses that hook")
    for line, name, reason in done.left:
        print(f"{file}:{line}: left: {name} {reason}")
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.adopt", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", type=Path, metavar="PATH", help="a file or folder of a pytest-benchmark suite")
    path = parser.parse_args(arguments).path
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal can't show is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    return adopt(path)


if __name__ == "__main__":
    sys.exit(main())
