import subprocess
import sys
from pathlib import Path

import pytest

from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.sides import Side, Sides, describe, foreign, make_twins, nothing_differs
from tests.support.project import ROOT
from tests.support.repository import Repository
from tests.unit.comparing.trees.helpers import SUITE, make


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A suite and a package in one commit."""
    return Repository.create(tmp_path / "repository", {**SUITE, "app/__init__.py": "", "app/core.py": "old"})


def test_twins_are_two_copies_of_the_working_tree(repository: Repository, cache: Path) -> None:
    """Their paths are of equal length, and another run uses them again."""
    repository.write({"app/core.py": "new"})
    sides = make_twins(repository.root, directories=[], cache=cache)
    assert nothing_differs(sides)
    assert sides.base.root != sides.head.root
    assert len(str(sides.base.root)) == len(str(sides.head.root))
    for side in (sides.base, sides.head):
        assert (side.root / "app" / "core.py").read_text() == "new"
    assert make_twins(repository.root, directories=[], cache=cache) == sides


def test_two_runs_at_once_make_one_copy(repository: Repository, cache: Path) -> None:
    """Two processes that start together wait for one another, and use the same copies."""
    program = (
        "import sys; from pathlib import Path; from tests.unit.comparing.trees.helpers import make;"
        "print(make(Path(sys.argv[1]), Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", program, str(repository.root), str(cache)]
    runs = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert outputs[0] == outputs[1]
    assert len(list((cache / "trees").iterdir())) == 2


def test_a_full_disk_is_reported(repository: Repository, full_disk: Path) -> None:
    """If the copies don't fit, the message names the folder, and nothing is left."""
    repository.commit({"app/large.txt": "x" * 200_000})
    with pytest.raises(NoBase, match=r"can't be made in .*full.*No space left on device"):
        make(repository.root, full_disk)
    assert [path for path in full_disk.rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_a_full_disk_is_reported_for_the_base_too(repository: Repository, full_disk: Path) -> None:
    """If only base's copy doesn't fit, the message has the reason that git omits."""
    base = repository.commit({"app/large.txt": "x" * 200_000})
    repository.commit({"app/large.txt": "x"})
    with pytest.raises(NoBase, match="No space left on device"):
        make(repository.root, full_disk, base)
    assert not list(full_disk.glob("trees/base-*"))


def test_a_module_from_elsewhere_is_foreign(tmp_path: Path) -> None:
    """A module from the working tree, from a sibling with a longer name, or not at all, makes a comparison invalid."""
    found = {
        "own": f"{tmp_path}/base/app/__init__.py",
        "theirs": "/repository/app/__init__.py",
        "sibling": f"{tmp_path}/base-2/app/__init__.py",
        "absent": "",
    }
    assert foreign(found, tmp_path / "base") == ["theirs", "sibling", "absent"]


def test_the_description_is_short() -> None:
    """Packages with both versions first, then the files; of many, how many more there are."""
    side = Side("base", Path("/"), Path("/"), Path("/"))
    packages = [("redis", "6.2.0", "8.0.1"), ("hiredis", "", "3.0"), ("orjson", "3.10", "")]
    sides = Sides(side, side, ["a.py"], packages, [], [])
    assert describe(sides) == [
        "redis 6.2.0 → 8.0.1",
        "hiredis (none) → 3.0",
        "orjson 3.10 → (none)",
        "1 file differs: a.py",
    ]
    many = Sides(side, side, [f"{number}.py" for number in range(9)], packages * 3, [], [])
    assert describe(many)[5:] == ["and 4 more packages", "9 files differ: 0.py, 1.py, 2.py, 3.py, 4.py and 4 more"]
