"""The separate environment of an application."""

import sys
from pathlib import Path

import pytest

from plumbline.comparing.trees.application import (
    ApplicationEnvironment,
    application_changes,
    application_environment,
    application_python,
)
from plumbline.comparing.trees.asked import asked_for
from plumbline.comparing.trees.git import NoBase
from plumbline.project import SUITE
from plumbline.results.schema import UnjudgedPackage
from plumbline.services.errors import NotReady
from plumbline.settings import AppSettings, InstallSettings, Settings

OTHER_PYTHON = "#!/bin/sh\necho '[[3, 8], []]'\n"


def environment(folder: Path, **packages: str) -> ApplicationEnvironment:
    """Write the parts of an environment with these packages that a comparison reads."""
    for name, version in packages.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return ApplicationEnvironment(folder / "python", (str(folder),))


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    for name, version in ("base", "1"), ("head", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "requirements.txt").write_text(f"web=={version}\nsame==1\n")
    return tmp_path / "base", tmp_path / "head"


def test_packages_of_two_environments_differ_by_what_is_installed(trees: tuple[Path, Path], tmp_path: Path) -> None:
    """Packages that the lock files leave out count, too."""
    base = environment(tmp_path / "1", web="1", same="1", below="1")
    head = environment(tmp_path / "2", web="2", same="1", below="2", new="1")
    assert application_changes(*trees, "", base, head) == (
        [("below", "1", "2"), ("new", "", "1"), ("web", "1", "2")],
        [],
    )


def test_one_environment_for_both_sides_judges_no_change_of_a_lock_file(
    trees: tuple[Path, Path], tmp_path: Path
) -> None:
    both = environment(tmp_path / "2", web="2", same="1")
    unjudged = UnjudgedPackage("web", "one_environment", "1", "2", "2", "requirements.txt")
    assert application_changes(*trees, "", both, both) == ([], [unjudged])
    assert application_changes(trees[1], trees[1], "", both, both) == ([], [])


def test_a_lock_file_of_an_unknown_format_cannot_be_judged(trees: tuple[Path, Path], tmp_path: Path) -> None:
    for number, tree in enumerate(trees):
        (tree / "uv.lock").write_text(f"version = {number + 8}")
    base, head = (environment(tmp_path / name, web="1") for name in "12")
    assert application_changes(*trees, "", base, head) == ([], [UnjudgedPackage("uv.lock", "unknown_format")])


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("nowhere", "python = 'nowhere' of [app] in settings.toml can't be run: "),
        ("old", "python = 'old' of [app] in settings.toml is Python 3.8: "),
        ("false", "python = 'false' of [app] in settings.toml can't be run: "),
    ],
)
def test_a_python_that_cannot_serve_the_application_is_named(tmp_path: Path, python: str, message: str) -> None:
    for name, text in ("old", OTHER_PYTHON), ("false", "#!/bin/sh\necho broken >&2\nexit 1\n"):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    settings = Settings(app=AppSettings("a:b", python=python))
    with pytest.raises(NotReady) as error:
        application_python(settings, tmp_path)
    assert str(error.value).startswith(f"app is not ready: {message}")


def test_the_python_of_a_folder_is_found(tmp_path: Path) -> None:
    """The path is relative to the working tree, for each copy of the application."""
    (tmp_path / "venv").symlink_to(Path(sys.executable).parents[1])
    settings = Settings(app=AppSettings("a:b", python="venv"))
    found = application_environment(settings, tmp_path, Path("/copy"), Path("/copy"), tmp_path, print)
    assert found is not None
    assert found.python == tmp_path / "venv" / "bin" / "python"
    shared = Settings(app=AppSettings("a:b"))
    assert application_environment(shared, tmp_path, tmp_path, tmp_path, tmp_path, print) is None


def test_a_project_that_says_nothing_of_its_packages_has_no_environment(tmp_path: Path) -> None:
    settings = Settings(app=AppSettings("a:b", environment="own"))
    with pytest.raises(NoBase, match=r"can't be made:\nthere is no lock file, and no requirements\.txt or pyproject"):
        application_environment(settings, tmp_path, tmp_path, tmp_path, tmp_path / "cache", print)


def test_each_of_two_environments_holds_its_own_part(tmp_path: Path) -> None:
    """Versions of the application's lock file do not apply to the suite."""
    (tmp_path / SUITE).mkdir(parents=True)
    (tmp_path / SUITE / "requirements.txt").write_text("pytest-plumbline\n-e .\n")
    (tmp_path / "requirements.txt").write_text("httpx==0.23.3\n")
    suite, _ = asked_for(tmp_path, tmp_path, InstallSettings(), ["rich==13"], "suite")
    assert ([*suite.files], [*suite.lines], [*suite.pins]) == ([f"{SUITE}/requirements.txt"], [], [])
    assert [*suite.preferred] == ["rich==13"]
    application, source = asked_for(tmp_path, tmp_path, InstallSettings(application="dependencies"), (), "application")
    assert ([*application.files], [*application.pins]) == (["requirements.txt"], ["httpx==0.23.3"])
    assert source == ["requirements.txt"]
