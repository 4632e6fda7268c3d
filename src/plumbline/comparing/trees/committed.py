"""The baselines, accepted regressions and benchmarks of a base commit."""

import ast
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from plumbline.comparing.trees.base import Base
from plumbline.comparing.trees.git import Git
from plumbline.judging.accepted import FILE, decode_accepted
from plumbline.judging.evidence import Accepted
from plumbline.project import SUITE
from plumbline.results.files import ResultsError, decode_results
from plumbline.results.schema import Results


def baselines_at(root: Path, base: Base, folder: Path) -> dict[str, Results]:
    """Return the baselines of the base commit that can be used, by file name."""
    git = Git(root)
    found: dict[str, Results] = {}
    if not (folder := folder.resolve()).is_relative_to(git.top):  # git does not follow links
        return found
    below = folder.relative_to(git.top).as_posix()
    for name in git.ask("ls-tree", "-z", "--name-only", base.commit, f"{below}/").split("\0"):
        if name.endswith(".json") and not name.endswith(f"/{FILE}"):
            file = git.top / name
            with contextlib.suppress(ResultsError):
                found[file.name] = decode_results(git.contents(base.commit, file).encode(), file)
    return found


def accepted_at(root: Path, base: Base, folder: Path) -> dict[str, Accepted]:
    """Return the accepted regressions of the base commit, none if their file is missing or cannot be used."""
    with contextlib.suppress(msgspec.DecodeError):
        return decode_accepted(Git(root).contents(base.commit, folder / FILE).encode())
    return {}


def benchmarks_only_at(root: Path, base: Base) -> list[str]:
    """Return the keys of the benchmarks that the base commit has and the working tree lacks, without parameters.

    Benchmarks are recognised by their source: tests that take `measure`. Raises NoBase if git fails.
    """
    git, suite = Git(root), (root / SUITE).resolve()
    if not suite.is_relative_to(git.top):
        return []
    options = ("--name-only", "--no-renames", "--diff-filter=MDT", "-z")
    names = git.run("diff", *options, base.commit, "--", f":(top){suite.relative_to(git.top).as_posix()}/**.py")
    found = []
    for file in (git.top / name for name in names.split("\0")[:-1]):
        now = file.read_text("utf-8", errors="replace") if file.is_file() else ""
        gone = _benchmarks_in(git.contents(base.commit, file)) - _benchmarks_in(now)
        found += [f"{file.relative_to(suite).as_posix()}::{name}" for name in gone]
    return sorted(found)


def _benchmarks_in(source: str) -> set[str]:
    try:
        return {*_benchmarks_among(ast.parse(source).body)}
    except (SyntaxError, ValueError, RecursionError):
        return set()


def _benchmarks_among(statements: Sequence[ast.stmt], inside: str = "") -> Iterator[str]:
    for one in statements:
        if isinstance(one, ast.ClassDef) and one.name.startswith("Test"):
            yield from _benchmarks_among(one.body, f"{inside}{one.name}::")
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name.startswith("test"):
            takes = [argument.arg for argument in (*one.args.posonlyargs, *one.args.args, *one.args.kwonlyargs)]
            if "measure" in takes:
                yield f"{inside}{one.name}"
