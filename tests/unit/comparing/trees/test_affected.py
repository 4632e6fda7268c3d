import sys
from pathlib import Path

import pytest

from plumbline.comparing.trees.affected import (
    EVERY,
    Changed,
    affected,
    changed_functions,
    changed_paths,
    files_of_other_values,
    may_make,
    paths_of_packages,
)
from plumbline.comparing.trees.at_start.sitecustomize import STAGES
from plumbline.comparing.trees.ignored import Extras
from plumbline.comparing.trees.sides import Side, Sides
from tests.unit.comparing.trees.helpers import reads


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    folder = tmp_path / "traces"
    folder.mkdir()
    return folder


def test_a_path_stands_for_all_below_it(tmp_path: Path, traces: Path) -> None:
    """It can be read through a link or compiled by pytest. A path with the same beginning is another one."""
    (tmp_path / "link").symlink_to(tmp_path / "package")
    (traces / "app").write_text(
        f"{tmp_path}/link/module.py\n{tmp_path}/other/__pycache__/test_it.cpython-311-pytest-9.0.1.pyc\n"
    )
    for name in ("package", "package/module.py", "link", "other/test_it.py"):
        assert reads(["app"], traces, {tmp_path / name}), name
    for name in ("pack", "package/other.py", "other/test.py"):
        assert not reads(["app"], traces, {tmp_path / name}), name


def test_one_process_is_enough_and_one_without_a_trace_affects_all(tmp_path: Path, traces: Path) -> None:
    for name in ("app", "worker"):
        (traces / name).write_text(f"{tmp_path}/{name}.py\n")
    assert reads(["app", "worker"], traces, {tmp_path / "worker.py"})
    assert not reads(["app", "worker"], traces, {tmp_path / "prepare.py"})
    assert reads(["app", "prepare"], traces, {tmp_path / "nobody.py"})
    assert not reads([], traces, {tmp_path / "app.py"})


FILE, DATA, PURE = Path("/tree/file.py"), Path("/tree/data.csv"), Path("/site/pure")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], set()),
        (["% /tree/file.py", "% /site/pure/part.py"], set()),
        (["% /tree/file.py", "/tree/file.py"], None),
        (["/tree/__pycache__/file.cpython-311.pyc"], None),
        (["/site/pure/__pycache__/part.cpython-311.pyc"], None),
        (["@ 1 7 f /tree/file.py", "@ 3 7 f /tree/file.py"], {"a"}),
        (["@ 1 7 f /tree/file.py", "@ 3 7 f /tree/file.py", "@ 4 7 f /tree/file.py"], {"a", "b"}),
        (["@ 1 7 f /tree/file.py"], None),
        (["@ 1 7 f /tree/file.py", "@ 2 7 f /tree/file.py", "@ 4 7 f /tree/file.py"], None),
        (["@ 1 7 f /tree/file.py", "@ 3 8 f /tree/file.py"], None),
        (["@ 1 7 f /tree/file.py", "@ 3 7 g /tree/file.py"], None),
        (["@ 5 7 f /tree/file.py"], {"b", "c"}),
        (["@ 5 7 f /tree/file.py", "@ 1 7 f /tree/file.py"], None),
        (["@ 5 7 f /tree/file.py", "@ 1 7 f /tree/file.py", "@ 3 7 f /tree/file.py"], {"a", "b", "c"}),
        (["@ 0 7 f /tree/file.py", "@ 1 7 f /tree/file.py", "@ 3 7 f /tree/file.py"], None),
        (["@ 1 7 * /site/pure"], {"a"}),
        (["@ 0 7 * /site/pure"], None),
        (["/site/pure/data.json"], None),
        (["/tree/data.csv"], None),
    ],
)
def test_benchmarks_are_affected_by_the_calls_in_a_trace(
    traces: Path, lines: list[str], expected: set[str] | None
) -> None:
    """All are affected by calls before the first benchmark, or by calls only in a first run."""
    stages = '["first", "a"]\n["first", "b"]\n["again", "a"]\n["again", "b"]\n["fixture", "b", "c"]\n'
    (traces / STAGES).write_text(stages)
    (traces / "tests").write_text("".join(f"{line}\n" for line in lines))
    changed: Changed = {FILE: {"f", "g"}, DATA: None, PURE: EVERY}
    assert affected(["tests"], traces, changed) == expected
    (traces / "tests").rename(traces / "worker")
    assert affected(["worker"], traces, changed) == (None if any(line.startswith("@") for line in lines) else expected)


def test_calls_of_what_did_not_change_affect_nothing(traces: Path) -> None:
    """Calls of unjudged packages are recorded, too."""
    (traces / "worker").write_text("@ 0 7 * /site/other\n% /site/other/part.py\n")
    assert affected(["worker"], traces, {PURE: EVERY}) == set()
    assert affected(["worker"], traces, {Path("/site/other"): EVERY}) is None


@pytest.mark.parametrize(
    ("lines", "changed", "expected"),
    [
        (["% /tree/file.py"], {FILE: {"f"}}, True),
        (["% /tree/file.py"], {FILE: set()}, False),
        (["% /site/pure/part.py"], {PURE: EVERY}, False),
        (["/tree/data.csv"], {DATA: None}, True),
        (["/tree/other.py", "$ python"], {FILE: {"f"}}, False),
        (None, {FILE: {"f"}}, True),
    ],
)
def test_functions_that_differ_may_make_something_that_stays(
    traces: Path, lines: list[str] | None, changed: Changed, expected: bool
) -> None:
    if lines is not None:
        (traces / "tests").write_text("".join(f"{line}\n" for line in lines))
    assert may_make(["tests"], traces, changed) is expected


def install(site: Path, name: str, files: list[str] | None) -> None:
    """Write a package as an installer does."""
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    if files is not None:
        (folder / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{folder.name}/METADATA"]))


def test_paths_of_packages_are_their_top_level_files_and_folders(tmp_path: Path) -> None:
    """Missing packages and files outside of the folder do not count."""
    install(tmp_path, "pure", ["pure/__init__.py", "pure/deep/er.py", "_pure.py", "__pycache__/_pure.cpython-311.pyc"])
    install(tmp_path, "tool", ["../../bin/tool", "tool.py"])
    install(tmp_path, "fast", ["fast/__init__.py", "fast/_fast.cpython-311-x86_64-linux-gnu.so"])
    found = paths_of_packages(["pure", "tool", "fast", "absent"], [str(tmp_path)])
    pure = dict.fromkeys([tmp_path / "pure", tmp_path / "_pure.py", tmp_path / "tool.py"], EVERY)
    assert found == {**pure, tmp_path / "fast": None}


@pytest.mark.parametrize("files", [["early/__init__.py", "early.pth"], None], ids=["at the start", "no record"])
def test_paths_are_unknown_without_a_record_or_with_code_at_the_start(tmp_path: Path, files: list[str] | None) -> None:
    install(tmp_path, "pure", ["pure/__init__.py"])
    install(tmp_path, "early", files)
    assert paths_of_packages(["pure", "early"], [str(tmp_path)]) is None


@pytest.mark.parametrize(("base", "head", "functions"), [("1", "2", EVERY), ("", "2", None), ("1", "", None)])
def test_a_package_that_one_side_lacks_acts_without_a_call(base: str, head: str, functions: object) -> None:
    """Code can check whether the package can be imported."""
    side = Side("head", Path("/tree"), Path(sys.executable), Path("/tree"))
    sides = Sides(side, side, [], [("pytest", base, head)], [], [], Extras([], []), Path("/"))
    changed = changed_paths(sides)["head"]
    assert changed is not None
    assert changed[Path(pytest.__file__).parent] == functions


VALUES = '''"""A package."""
import os
from typing import Any
__version__ = "1"
WAIT_S = 1
class Options:
    size = 1
    def method(self):
        return 1
'''


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("WAIT_S = 1", "WAIT_S = 2", True),
        ("    size = 1", "    size = 2", True),
        ("import os", "from package.other import WAIT_S as PAUSE_S", True),
        ("WAIT_S = 1", "WAIT_S = (", True),
        ('"1"', '"2"', False),
        ("A package", "The package", False),
        ("return 1", "return 2", False),
        ("typing import Any", "typing import Any, Protocol", False),
    ],
)
def test_a_package_whose_values_differ_acts_without_a_call(tmp_path: Path, old: str, new: str, found: bool) -> None:
    """Importing code may use a constant. A version number makes nothing slower."""
    for side, text in (("base", VALUES), ("head", VALUES.replace(old, new))):
        install(tmp_path / side, "package", ["package.py"])
        (tmp_path / side / "package.py").write_text(text)
    folders = [[str(tmp_path / side)] for side in ("base", "head")]
    assert files_of_other_values(["package"], *folders) == ({"package.py"} if found else set())


def test_packages_of_this_environment_are_found() -> None:
    found = paths_of_packages(["pytest"], sys.path)
    assert found is not None
    assert Path(pytest.__file__).parent in found


BASE = """\
import os
from json import dumps

LIMIT = 10

def f(a, b=LIMIT):
    return a

class C:
    kind = "c"

    @property
    def p(self):
        return 1

    @p.setter
    def p(self, value):
        pass

    async def m(self):
        def inner():
            return 1
        return inner

@cache
def kept():
    return LIMIT
"""


def changed_between(folder: Path, base: str, head: str) -> set[str] | None:
    (folder / "base.py").write_text(base)
    (folder / "head.py").write_text(head)
    return changed_functions(folder / "base.py", folder / "head.py")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("return a", "return a  # nothing", set()),
        ("return a", "return b", {"f"}),
        ("            return 1", "            return 2", {"C.m"}),
        ("pass", "return", {"C.p"}),
        ("return a", "return g()\n\ndef g():\n    return 1", {"f", "g"}),
        ("import dumps", "import dumps, loads", set()),
        ("import os", "import os\nimport os.path as paths, sys", set()),
        ("import os", "import os\nfrom datetime import UTC", set()),
        ("async def m(self):", "async def m(self):\n        global LIMIT", {"C.m"}),
        ("LIMIT = 10", "LIMIT = 20", None),
        ("b=LIMIT", "b=1", None),
        ("async def m", "def m", None),
        ('kind = "c"', 'kind = "d"', None),
        ("class C:", "class C(dict):", None),
        ("return a", "return g()\n\n@register\ndef g():\n    return 1", None),
        ("return a", "return g()\n\ndef g(a=make()):\n    return 1", None),
        ("    async def m", "    def n(self): return 1\n\n    async def m", {"C.n"}),
        ("    async def m", "    n = 1\n\n    async def m", None),
        ("    async def m", "    @property\n    def n(self): return 1\n\n    async def m", None),
        ("    async def m", "    def f(self): return 1\n\n    async def m", None),
        ("class C:", "def dumps(): pass\n\nclass C:", None),
        ("    async def m", "    def __len__(self): return 1\n\n    async def m", None),
        ("import os", "import os\nimport redis", None),
        ("import os", "import os\nfrom .other import name", None),
        ("import os", "import os\nfrom json import *", None),
        ("import os", "import os\nimport sys as LIMIT", None),
        ("import os", "from __future__ import annotations\nimport os", None),
        ("import os", "import sys", None),
        ("return LIMIT", "return 1", None),
        ("return a", "return (", None),
        ("return a", "return '\0'", None),
    ],
)
def test_changed_functions_of_two_versions(tmp_path: Path, old: str, new: str, expected: set[str] | None) -> None:
    assert BASE.count(old) >= 1
    assert changed_between(tmp_path, BASE, BASE.replace(old, new, 1)) == expected


def test_a_removed_function_or_a_new_order_changes_more_than_a_function(tmp_path: Path) -> None:
    """A removed function may be looked up by name, and the order of statements matters."""
    assert changed_between(tmp_path, "x = 1\ny = 2\n", "y = 2\nx = 1\n") is None
    assert changed_between(tmp_path, "def f(): pass\ndef g(): pass\n", "def f(): pass\n") is None


@pytest.mark.parametrize("decorator", ["functools.lru_cache(maxsize=1)", "memoize", "numba.njit", "torch.compile"])
def test_a_cached_or_compiled_function_changes_more_than_a_function(tmp_path: Path, decorator: str) -> None:
    assert changed_between(tmp_path, f"@{decorator}\ndef f(): return 1\n", f"@{decorator}\ndef f(): return 2\n") is None
    assert changed_between(tmp_path, "@traced\ndef f(): return 1\n", "@traced\ndef f(): return 2\n") == {"f"}


def test_other_differences_than_of_python_code_are_no_functions(tmp_path: Path) -> None:
    """The effects of a file's mode, a link, other files and missing files are unknown."""
    source = "def f(): pass\n"
    assert changed_between(tmp_path, source, source) is None
    for name in ("base.txt", "head.txt"):
        (tmp_path / name).write_text(source)
    assert changed_functions(tmp_path / "base.txt", tmp_path / "head.txt") is None
    assert changed_functions(tmp_path / "missing.py", tmp_path / "head.py") is None
    (tmp_path / "link.py").symlink_to("base.py")
    assert changed_functions(tmp_path / "link.py", tmp_path / "head.py") is None
