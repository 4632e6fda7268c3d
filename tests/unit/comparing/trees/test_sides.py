import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.sides import Side, Sides, describe, foreign, make_twins, python_path
from plumbline.results.environment import origins
from tests.support.project import ROOT, make_environment, pip_install
from tests.support.repository import Repository
from tests.unit.comparing.trees.helpers import SOURCE, SUITE, answer, asked, make


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
    assert not sides.differ
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


MAKE = """
import json, sys
from pathlib import Path
from plumbline.comparing.trees.sides import make_sides, python_path
sides = make_sides(
    Path(sys.argv[1]), "HEAD", recorded_packages={}, directories=[], cache=Path(sys.argv[2]), say=lambda line: None
)
both = {side.name: [str(side.root), str(side.python), python_path(side, sides)] for side in (sides.base, sides.head)}
print(json.dumps([both, sides.modules]))
"""


def test_a_flat_project_imports_its_own_code(repository: Repository, cache: Path) -> None:
    """Each side finds a package at the root in its own copy."""
    repository.write({"app/core.py": "new"})
    sides = make(repository.root, cache)
    for side in (sides.base, sides.head):
        found = asked(side.root, side.python, python_path(side, sides), ["app", "tests"])
        assert found == {name: str(side.root / name / "__init__.py") for name in ("app", "tests")}


def test_files_that_cannot_be_imported_are_no_modules(repository: Repository, cache: Path) -> None:
    """Documents, scripts outside of packages, and modules that are new or gone are no modules that differ in both."""
    repository.commit({"docs/conf.py": "old", "README.md": "old", "not-a-name.py": "old", "single.py": "old"})
    repository.write({"docs/conf.py": "new", "README.md": "new", "not-a-name.py": "new", "single.py": "new"})
    repository.write({"new_package/__init__.py": "", "app/queries.sql": "new"})
    sides = make(repository.root, cache)
    assert sides.modules == ["app", "single"]


@pytest.mark.parametrize("layout", ["pth", "finder", "copy"])
def test_an_installed_project_imports_its_own_code(tmp_path: Path, cache: Path, layout: str) -> None:
    """Installed editably, by a path or a hook, or as a copy: base still imports base's code, in folders of any name."""
    folder = "src" if layout == "pth" else "python"
    package_dir = '"" = "src"' if layout == "pth" else 'plumb_sample = "python/plumb_sample"'
    pyproject = f"""
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "plumb-sample"
        version = "1"
        [tool.setuptools]
        packages = ["plumb_sample"]
        package-dir = {{ {package_dir} }}
    """
    repository = Repository.create(
        tmp_path / "repository",
        {**SUITE, "pyproject.toml": pyproject, f"{folder}/plumb_sample/__init__.py": "WHICH = 'base'"},
    )
    repository.write({f"{folder}/plumb_sample/__init__.py": "WHICH = 'head'"})
    python = installed(tmp_path / "environment", repository.root, editable=layout != "copy")

    both, modules = answer(python, MAKE, str(repository.root), str(cache), cwd=tmp_path, PYTHONPATH=str(SOURCE))

    assert modules == ["plumb_sample"]
    for root, side_python, path in both.values():
        found = asked(Path(root), Path(side_python), path, modules)
        assert found == {"plumb_sample": f"{root}/{folder}/plumb_sample/__init__.py"}
        assert foreign(found, Path(root)) == []


def test_both_sides_import_heads_plumbline(tmp_path: Path, cache: Path) -> None:
    """In a repository that contains the package, the base's copy gets it from head, so it is no difference either."""
    repository = Repository.create(tmp_path / "repository", {**SUITE, "src/app.py": "old"})
    package = repository.root / "src" / "plumbline"
    shutil.copytree(SOURCE / "plumbline", package, ignore=shutil.ignore_patterns("__pycache__"))
    source = (SOURCE / "plumbline" / "__init__.py").read_text()
    old, new = (re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', source) for version in ("0.0.1", "0.0.2"))
    repository.commit({"src/plumbline/__init__.py": old, "src/plumbline/removed.py": ""})
    (package / "removed.py").unlink()
    repository.write({"src/app.py": "new", "src/plumbline/__init__.py": new, "src/plumbline/added.py": ""})
    python_paths = os.pathsep.join([str(repository.root / "src"), str(SOURCE)])

    both, modules = answer(
        Path(sys.executable), MAKE, str(repository.root), str(cache), cwd=tmp_path, PYTHONPATH=python_paths
    )

    assert modules == ["app"]
    for root, python, path in both.values():
        ask = "import json, plumbline; print(json.dumps([plumbline.__version__, plumbline.__file__]))"
        assert answer(Path(python), ask, cwd=Path(root), PYTHONPATH=path) == [
            "0.0.2",
            f"{root}/src/plumbline/__init__.py",
        ]
        names = {file.name for file in Path(root, "src", "plumbline").iterdir()}
        assert "added.py" in names
        assert "removed.py" not in names


def test_origins_run_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module is found without being run; links are followed, a namespace is its first folder, absence is empty."""
    (tmp_path / "real.py").write_text("raise SystemExit")
    (tmp_path / "linked_module.py").symlink_to(tmp_path / "real.py")
    (tmp_path / "name_space").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert origins(["linked_module", "name_space", "no_such_module", "__main__"]) == {
        "linked_module": os.path.realpath(tmp_path / "real.py"),
        "name_space": os.path.realpath(tmp_path / "name_space"),
        "no_such_module": "",
        "__main__": origins(["__main__"])["__main__"],
    }


def installed(environment: Path, project: Path, *, editable: bool) -> Path:
    """The Python of an environment that sees our packages and has a project installed."""
    subprocess.run(make_environment(str(environment)), check=True)
    python = environment / "bin" / "python"
    [site_packages] = environment.glob("lib/*/site-packages")
    (site_packages / "ours.pth").write_text(sysconfig.get_path("purelib"))
    install = [*pip_install(str(python)), *(["--editable"] if editable else []), str(project)]
    subprocess.run(install, check=True, capture_output=True)
    return python
