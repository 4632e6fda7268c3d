import importlib.util
import os
import py_compile
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.ignored import LEVELS, Extras
from plumbline.comparing.trees.sides import Side, Sides, describe, foreign, make_sides, python_path
from plumbline.results.environment import installed_packages, origins
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


def texts(folder: Path) -> dict[str, str]:
    """Return the texts of the files in a folder, by path."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_copies_hold_the_commit_and_the_working_tree(repository: Repository, cache: Path) -> None:
    """Only head has uncommitted changes, untracked files and deletions."""
    repository.commit({"app/gone.py": "", "app/moved.py": ""})
    repository.write({"app/core.py": "new", "app/untracked.py": ""})
    (repository.root / "app" / "gone.py").unlink()
    repository.git("mv", "app/moved.py", "app/there.py")

    sides = make(repository.root, cache)

    assert texts(sides.head.root / "app") == {"__init__.py": "", "core.py": "new", "untracked.py": "", "there.py": ""}
    assert texts(sides.base.root / "app") == {"__init__.py": "", "core.py": "old", "gone.py": "", "moved.py": ""}
    assert sides.files == ["app/core.py", "app/gone.py", "app/moved.py", "app/there.py", "app/untracked.py"]
    assert sides.modules == ["app"]
    assert sides.differ


def test_copies_are_siblings_of_equal_length(repository: Repository, cache: Path) -> None:
    """Paths of different length could cause a difference. No copy is in .git."""
    before = repository.git("for-each-ref") + repository.git("worktree", "list")
    sides = make(repository.root, cache)
    assert len(str(sides.base.root)) == len(str(sides.head.root))
    assert sides.base.tree.parents[LEVELS + 1] == sides.head.tree.parents[LEVELS + 1] == cache / "trees"
    assert repository.git("for-each-ref") + repository.git("worktree", "list") == before
    assert repository.git("status", "--porcelain") == ""


def test_both_sides_have_heads_suite(repository: Repository, cache: Path) -> None:
    """Benchmarks that head changes, adds or deletes are the same in base."""
    repository.commit({"tests/performance/test_gone.py": "old"})
    (repository.root / "tests/performance/test_gone.py").unlink()
    (repository.root / "tests/__init__.py").unlink()
    repository.write({"tests/performance/test_it.py": "new", "tests/performance/test_new.py": "new"})
    repository.write({"conftest.py": "new"})

    sides = make(repository.root, cache)

    assert texts(sides.base.root / "tests") == {"performance/test_it.py": "new", "performance/test_new.py": "new"}
    assert (sides.base.root / "conftest.py").read_text() == "new"
    assert not sides.differ
    assert describe(sides) == [
        "nothing differs: the same files and packages, and for both sides the working tree's suite and Plumbline"
    ]


def test_a_base_from_before_the_suite_gets_it(tmp_path: Path, cache: Path) -> None:
    """A commit without a suite can be measured."""
    repository = Repository.create(tmp_path / "repository", {"app.py": "old"})
    base = repository.head()
    repository.commit(SUITE)
    sides = make(repository.root, cache, base)
    assert texts(sides.base.root) == {**{name: SUITE[name] for name in list(SUITE)[:3]}, "app.py": "old"}


def test_a_workspace_is_copied_around_its_project(tmp_path: Path, cache: Path) -> None:
    """The root of a side is the project's folder. The copy has its siblings, too."""
    files = {f"services/api/{name}": text for name, text in SUITE.items()}
    repository = Repository.create(
        tmp_path / "repository", {**files, "libs/common.py": "old", "tests/performance/test_other.py": "old"}
    )
    repository.write({"libs/common.py": "new", "tests/performance/test_other.py": "new"})
    repository.write({"services/api/tests/performance/test_it.py": "new"})

    sides = make(repository.root / "services" / "api", cache, directories=["../../libs"])

    assert sides.base.root == sides.base.tree / "services" / "api"
    assert (sides.base.root / "tests/performance/test_it.py").read_text() == "new"
    assert sides.files == ["libs/common.py", "tests/performance/test_other.py"]
    assert sides.import_from == [".", "../../libs"]
    assert sides.modules == ["common"]
    found = asked(sides.base.root, sides.base.python, python_path(sides.base, sides), ["common"])
    assert found == {"common": str(sides.base.root.parents[1] / "libs" / "common.py")}


def test_names_links_and_modes_survive(repository: Repository, cache: Path) -> None:
    """Odd file names, symbolic links and executable bits are the same in both copies."""
    repository.write({"app/a file.txt": "1", "app/ümläut.txt": "2", "run.sh": "3"})
    Path(os.fsdecode(os.fsencode(repository.root) + b"/app/latin-\xe9.txt")).write_text("4")
    (repository.root / "run.sh").chmod(0o755)
    (repository.root / "link").symlink_to("app")
    (repository.root / "dangling").symlink_to("nowhere")
    repository.commit()

    sides = make(repository.root, cache)

    assert not sides.differ
    for side in (sides.base, sides.head):
        found = sorted(os.fsencode(path.name) for path in (side.root / "app").iterdir())
        assert found == [b"__init__.py", b"a file.txt", b"core.py", b"latin-\xe9.txt", "ümläut.txt".encode()]
        assert os.access(side.root / "run.sh", os.X_OK)
        assert (side.root / "link").readlink() == Path("app")
        assert (side.root / "dangling").readlink() == Path("nowhere")

    (repository.root / "run.sh").chmod(0o644)
    Path(os.fsdecode(os.fsencode(repository.root) + b"/app/latin-\xe9.txt")).write_text("5")
    changed = make(repository.root, cache)
    assert describe(changed) == ["2 files differ: app/latin-\\udce9.txt, run.sh"]


def test_a_folder_that_became_a_link_is_not_written_through(
    repository: Repository, cache: Path, tmp_path: Path
) -> None:
    """It is a link in head, and its target does not change."""
    outside = tmp_path / "outside"
    shutil.move(repository.root / "app", outside)
    (repository.root / "app").symlink_to(outside)
    sides = make(repository.root, cache)
    assert (sides.head.root / "app").readlink() == outside
    assert (sides.base.root / "app" / "core.py").read_text() == "old"
    assert texts(outside) == {"__init__.py": "", "core.py": "old"}


def test_files_that_an_archive_omits_are_copied(repository: Repository, cache: Path) -> None:
    """`export-ignore` does not matter."""
    repository.commit({".gitattributes": "app export-ignore\n"})
    assert not make(repository.root, cache).differ


def test_submodules_are_at_the_commit_of_their_side(repository: Repository, tmp_path: Path, cache: Path) -> None:
    """Base has the commit that it names, head the one that is checked out."""
    library = Repository.create(tmp_path / "library", {"library.py": "old"})
    repository.git("submodule", "--quiet", "add", f"file://{library.root}", "vendor/a library")
    repository.commit()
    submodule = Repository(repository.root / "vendor" / "a library")
    submodule.commit({"library.py": "new"})

    sides = make(repository.root, cache, directories=["vendor/a library"])

    assert texts(sides.base.root / "vendor" / "a library") == {"library.py": "old"}
    assert (sides.head.root / "vendor" / "a library" / "library.py").read_text() == "new"
    assert sides.files == ["vendor/a library/library.py"]
    assert sides.modules == ["library"]


def test_a_missing_commit_of_a_submodule_is_named(repository: Repository, tmp_path: Path, cache: Path) -> None:
    """The message has the commit and a command."""
    library = Repository.create(tmp_path / "library", {"library.py": "old"})
    repository.git("submodule", "--quiet", "add", f"file://{library.root}", "vendor")
    repository.commit()
    shutil.rmtree(repository.root / "vendor")
    Repository.create(repository.root / "vendor", {"library.py": "another"})
    with pytest.raises(NoBase, match=r"of the submodule vendor is not here \(.*: `git -C vendor fetch"):
        make(repository.root, cache)


def test_a_submodule_that_is_not_checked_out_is_empty(repository: Repository, tmp_path: Path, cache: Path) -> None:
    """Both copies have an empty folder, as the working tree."""
    library = Repository.create(tmp_path / "library", {"library.py": "old"})
    repository.git("submodule", "--quiet", "add", f"file://{library.root}", "vendor")
    repository.commit()
    clone = repository.clone(tmp_path / "clone")
    sides = make(clone.root, cache)
    assert not sides.differ
    assert texts(sides.base.root / "vendor") == {}


def test_a_tracked_file_of_base_is_not_overwritten(repository: Repository, cache: Path) -> None:
    """A file that head generates and base tracks has base's content."""
    base = repository.commit({"app/_version.py": "tracked"})
    repository.git("rm", "--quiet", "--cached", "app/_version.py")
    repository.commit({".gitignore": "_version.py\n"})
    repository.write({"app/_version.py": "generated"})
    sides = make(repository.root, cache, base)
    assert (sides.base.root / "app" / "_version.py").read_text() == "tracked"
    assert sides.files == [".gitignore", "app/_version.py"]


@pytest.mark.parametrize("ignored", [".env*\n", "*.log\n"])
def test_secrets_outside_of_git_are_linked(repository: Repository, cache: Path, ignored: str) -> None:
    """Both sides can read `.env`, and neither stores a copy."""
    repository.commit({".gitignore": ignored})
    repository.write({".env": "TOKEN=hush", ".env.local": "TOKEN=hush"})
    sides = make(repository.root, cache)
    for side in (sides.base, sides.head):
        assert (side.root / ".env").read_text() == "TOKEN=hush"
        assert (side.root / ".env.local").is_symlink()
    assert not sides.differ
    stored = [path for path in cache.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in stored if "hush" in path.read_text()]


def test_an_identical_copy_is_used_again(repository: Repository, cache: Path) -> None:
    """A second run makes no copy, and a change only a new one of head."""
    first = make(repository.root, cache)
    made = {path: path.stat().st_ctime_ns for path in cache.rglob("core.py")}
    assert make(repository.root, cache) == first
    assert {path: path.stat().st_ctime_ns for path in cache.rglob("core.py")} == made
    repository.write({"app/core.py": "new"})
    changed = make(repository.root, cache)
    assert changed.base.root == first.base.root
    assert changed.head.root != first.head.root


def test_compiled_files_are_copied_and_stay_valid(repository: Repository, cache: Path) -> None:
    """They are neither listed nor compared."""
    for name in ("tests/performance/test_it.py", "app/core.py"):
        py_compile.compile(str(repository.root / name), doraise=True)
    sides = make(repository.root, cache)
    assert [name for name in sides.files if "__pycache__" in name] == []
    copies = [
        (sides.head, "app/core.py"),
        *((side, "tests/performance/test_it.py") for side in (sides.base, sides.head)),
    ]
    for side, name in copies:
        source = side.root / name
        header = Path(importlib.util.cache_from_source(source)).read_bytes()[:16]
        stat = source.stat()
        assert struct.unpack("<III", header[4:]) == (0, int(stat.st_mtime), stat.st_size)


def test_a_copy_that_was_changed_is_made_again(repository: Repository, cache: Path) -> None:
    """Files that the code under test overwrote are restored."""
    first = make(repository.root, cache)
    (first.base.root / "app" / "core.py").write_text("changed")
    (first.head.root / "app" / "core.py").unlink()
    second = make(repository.root, cache)
    assert second == first
    assert (second.base.root / "app" / "core.py").read_text() == "old"
    assert (second.head.root / "app" / "core.py").read_text() == "old"


def test_leftovers_of_a_killed_run_are_swept(repository: Repository, cache: Path) -> None:
    """An incomplete copy is made again or removed."""
    sides = make(repository.root, cache)
    kept = [side.tree.parents[LEVELS] for side in (sides.base, sides.head)]
    (kept[0] / "made").unlink()
    (sides.base.root / "app" / "core.py").unlink()
    (cache / "trees" / "head-half" / "tree").mkdir(parents=True)
    (cache / "environments" / "half").mkdir(parents=True)
    make(repository.root, cache)
    assert (sides.base.root / "app" / "core.py").read_text() == "old"
    assert sorted((cache / "trees").iterdir()) == sorted(kept)
    assert list((cache / "environments").iterdir()) == []


def test_a_missing_commit_is_named(repository: Repository, cache: Path) -> None:
    with pytest.raises(NoBase, match="the base commit 012345678901 is not in this repository"):
        make(repository.root, cache, "0123456789" * 4)


def test_twins_are_two_copies_of_the_working_tree(repository: Repository, cache: Path) -> None:
    """Their paths have the same length, and another run uses them again."""
    repository.write({"app/core.py": "new"})
    sides = make_sides(repository.root, None, directories=[], cache=cache)
    assert not sides.differ
    assert sides.base.root != sides.head.root
    assert len(str(sides.base.root)) == len(str(sides.head.root))
    for side in (sides.base, sides.head):
        assert (side.root / "app" / "core.py").read_text() == "new"
    assert make_sides(repository.root, None, directories=[], cache=cache) == sides


def test_two_runs_at_once_make_one_copy(repository: Repository, cache: Path) -> None:
    """They wait for each other and use the same copies."""
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
    """The message names the folder, and nothing is left."""
    repository.commit({"app/large.txt": "x" * 200_000})
    with pytest.raises(NoBase, match=r"can't be made in .*full.*No space left on device"):
        make(repository.root, full_disk)
    assert [path for path in full_disk.rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_a_full_disk_is_reported_for_the_base_too(repository: Repository, full_disk: Path) -> None:
    """The message has the reason, which git omits."""
    base = repository.commit({"app/large.txt": "x" * 200_000})
    repository.commit({"app/large.txt": "x"})
    with pytest.raises(NoBase, match="No space left on device"):
        make(repository.root, full_disk, base)
    assert not list(full_disk.glob("trees/base-*"))


def test_a_module_from_elsewhere_is_foreign(tmp_path: Path) -> None:
    """It may come from the working tree or from a sibling with a longer name, or be missing."""
    found = {
        "own": f"{tmp_path}/base/app/__init__.py",
        "theirs": "/repository/app/__init__.py",
        "sibling": f"{tmp_path}/base-2/app/__init__.py",
        "absent": "",
    }
    assert foreign(found, tmp_path / "base") == ["theirs", "sibling", "absent"]


def test_the_description_is_short() -> None:
    """Packages with both versions come first, then some of the files and the number of others."""
    side = Side("base", Path("/"), Path("/"), Path("/"))
    packages = [("redis", "6.2.0", "8.0.1"), ("hiredis", "", "3.0"), ("orjson", "3.10", "")]
    sides = Sides(side, side, ["a.py"], packages, [], [], Extras([], []), Path("/"))
    assert describe(sides) == [
        "redis 6.2.0 → 8.0.1",
        "hiredis (none) → 3.0",
        "orjson 3.10 → (none)",
        "1 file differs: a.py",
    ]
    nested = replace(side, root=Path("/backend"))
    inside = replace(sides, base=nested, head=nested, files=["backend/a.py", "b.py"])
    assert describe(inside)[-1] == "2 files differ: a.py, ../b.py"
    many = replace(sides, files=[f"{number}.py" for number in range(9)], packages=packages * 3)
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
    """Each side finds a package at the root of its own copy."""
    repository.write({"app/core.py": "new"})
    sides = make(repository.root, cache)
    for side in (sides.base, sides.head):
        found = asked(side.root, side.python, python_path(side, sides), ["app", "tests"])
        assert found == {name: str(side.root / name / "__init__.py") for name in ("app", "tests")}


def test_files_that_cannot_be_imported_are_no_modules(repository: Repository, cache: Path) -> None:
    """Documents, scripts outside of packages, and modules of only one side."""
    repository.commit({"docs/conf.py": "old", "README.md": "old", "not-a-name.py": "old", "single.py": "old"})
    repository.write({"docs/conf.py": "new", "README.md": "new", "not-a-name.py": "new", "single.py": "new"})
    repository.write({"new_package/__init__.py": "", "app/queries.sql": "new"})
    sides = make(repository.root, cache)
    assert sides.modules == ["app", "single"]


@pytest.mark.parametrize("layout", ["pth", "finder", "copy"])
def test_an_installed_project_imports_its_own_code(tmp_path: Path, cache: Path, layout: str) -> None:
    """Base imports base's code, whether the project is installed editable or not."""
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
    """In Plumbline's own repository, the copy of base gets the package from head."""
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
    """Links are followed, a namespace package is its first folder, and a missing module is ""."""
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
    """The Python of an environment with our packages and an installed project."""
    subprocess.run(make_environment(str(environment)), check=True)
    python = environment / "bin" / "python"
    [site_packages] = environment.glob("lib/*/site-packages")
    (site_packages / "ours.pth").write_text(sysconfig.get_path("purelib"))
    install = [*pip_install(str(python)), *(["--editable"] if editable else []), str(project)]
    subprocess.run(install, check=True, capture_output=True)
    return python


def test_both_sides_can_be_commits(repository: Repository, cache: Path) -> None:
    """Both have the suite of the working tree, which also configures pytest. The rest is the commits'."""
    first = repository.head()
    second = repository.commit({"app/core.py": "second", "tests/performance/test_it.py": "second"})
    repository.write({"app/core.py": "now", "app/untracked.py": "", "tests/performance/test_it.py": "now"})

    sides = make_sides(repository.root, first, directories=[], cache=cache, head_commit=second)

    assert texts(sides.base.root / "app") == {"__init__.py": "", "core.py": "old"}
    assert texts(sides.head.root / "app") == {"__init__.py": "", "core.py": "second"}
    assert {(one.root / "tests/performance/test_it.py").read_text() for one in (sides.base, sides.head)} == {"now"}
    assert (sides.suite_of / "app/core.py").read_text() == "now"
    assert sides.files == ["app/core.py"]
    assert not make_sides(repository.root, first, directories=[], cache=cache, head_commit=first).differ


def test_each_commit_has_the_packages_of_its_lock_file(
    repository: Repository, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only packages that differ between the two commits are shown, although both differ from this environment."""
    monkeypatch.setattr("plumbline.comparing.trees.sides.base_python", lambda pins, *_, **__: Path(str(pins)))
    installed = installed_packages()
    for redis, httpx in (("5.0.1", "0.26.0"), ("5.0.2", "0.26.0"), (installed["redis"], installed["httpx"])):
        packages = [
            f'[[package]]\nname = "{name}"\nversion = "{version}"\ngroups = ["main"]\n'
            for name, version in (("redis", redis), ("httpx", httpx))
        ]
        repository.commit({"poetry.lock": "".join(packages) + '[metadata]\nlock-version = "2.1"\n'})

    sides = make_sides(repository.root, "HEAD~2", directories=[], cache=cache, head_commit="HEAD~1")

    assert sides.packages == [("redis", "5.0.1", "5.0.2")]
    pythons = [str({"httpx": "0.26.0", "redis": version}) for version in ("5.0.1", "5.0.2")]
    assert [str(sides.base.python), str(sides.head.python)] == pythons
    assert not sides.unjudged
