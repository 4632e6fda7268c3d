from pathlib import Path

import pytest

from plumbline.comparing.trees import asked
from plumbline.comparing.trees.asked import asked_for, is_buildable, local_files
from plumbline.comparing.trees.installers import InstallError, resolve
from plumbline.comparing.trees.locks import read_toml
from plumbline.project import SUITE
from plumbline.settings import InstallSettings

SUITE_FILE = f"{SUITE}/requirements.txt"

PROJECT = '[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["sniffio", "idna"]\n'
BUILT = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
POETRY = '[tool.poetry]\nname = "some-shop"\n[tool.poetry.dependencies]\npython = "^3.11"\nidna = "*"\n'
BY_POETRY = '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'

POETRY_LOCK = """
[[package]]
name = "idna"
version = "3.7"
groups = ["main"]
[[package]]
name = "sniffio"
version = "1.3.0"
groups = ["dev"]
[metadata]
lock-version = "2.1"
"""
UV_LOCK = """
version = 1
requires-python = ">=3.11"
[[package]]
name = "idna"
version = "3.7"
source = { registry = "https://pypi.org/simple" }
[[package]]
name = "shop"
version = "1"
source = { virtual = "." }
dependencies = [{ name = "idna" }, { name = "sniffio", marker = "sys_platform == 'linux'" }]
[[package]]
name = "sniffio"
version = "1.3.0"
source = { registry = "https://pypi.org/simple" }
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a suite that has no requirements."""
    (tmp_path / SUITE).mkdir(parents=True)
    (tmp_path / SUITE_FILE).touch()
    return tmp_path


def test_a_lock_file_says_versions_and_pyproject_says_names(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions of groups are only preferred: they need not be installed or fit the suite."""
    monkeypatch.setattr(asked, "EXPORTS", {})
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "poetry.lock").write_text(POETRY_LOCK)
    found, source = asked_for(root, root, InstallSettings(), ["idna==3.1", "pytest==8.2", "-e ./vendor"])
    assert (found.files, found.pins, found.declared) == ([SUITE_FILE], ["idna==3.7"], True)
    assert found.preferred == ["sniffio==1.3.0", "pytest==8.2"]
    assert source == ["poetry.lock", "pyproject.toml", SUITE_FILE]


def test_uv_exports_its_own_lock_file(root: Path) -> None:
    """The log says so."""
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "uv.lock").write_text(UV_LOCK)
    found, source = asked_for(root, root, InstallSettings())
    assert [pin.replace('"', "'") for pin in found.pins] == ["idna==3.7", "sniffio==1.3.0; sys_platform == 'linux'"]
    assert source[0] == "uv.lock by `uv export`"


def test_a_lock_file_is_read_if_its_tool_cannot_be_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The versions are the same without uv, and if uv refuses the file."""
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "uv.lock").write_text(UV_LOCK)
    for command in ("no-such-tool", "false"):
        monkeypatch.setattr(asked, "EXPORTS", {"uv.lock": (f"{command} x", "", "")})
        monkeypatch.setattr(asked, "find_uv", lambda command=command: [command])
        found, source = asked_for(root, root, InstallSettings())
        assert (found.pins, source[0]) == (["idna==3.7", "sniffio==1.3.0"], "uv.lock")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["requirements.txt", "requirements-dev.txt"], ["requirements.txt"]),
        (["requirements-dev.txt", "requirements-prod.txt"], ["requirements-prod.txt"]),
        (["requirements/base.txt", "requirements/production.txt"], ["requirements/production.txt"]),
        (["requirements/web.txt", "requirements/test.txt"], ["requirements/web.txt"]),
        (["requirements-dev.txt"], []),
        (["uv.lock", "requirements.txt"], []),
    ],
)
def test_the_requirements_files_of_production_count(root: Path, files: list[str], expected: list[str]) -> None:
    """They count if there is no lock file."""
    for name in files:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("version = 1" if name == "uv.lock" else "idna==3.7")
    found, source = asked_for(root, root, InstallSettings())
    assert found.files == [SUITE_FILE, *expected]
    assert set(expected) <= set(source)


def test_settings_name_other_requirements_files(root: Path) -> None:
    """Other files do not count."""
    (root / "deploy.txt").write_text("idna==3.7")
    (root / "requirements.txt").write_text("idna==3.6")
    found, _ = asked_for(root, root, InstallSettings(requirements=["deploy.txt"]))
    assert found.files == [SUITE_FILE, "deploy.txt"]


@pytest.mark.parametrize(
    ("pyproject", "files", "buildable"),
    [
        (PROJECT, [], False),
        (PROJECT + BUILT, [], True),
        (PROJECT + BUILT + "[tool.uv]\npackage = false", [], False),
        (PROJECT + "[tool.uv]\npackage = true", [], True),
        (PROJECT + BUILT + "[tool.pdm]\ndistribution = false", [], False),
        (POETRY + BY_POETRY, ["some_shop/__init__.py"], True),
        (POETRY + BY_POETRY, ["src/some_shop.py"], True),
        (POETRY + BY_POETRY, ["app/__init__.py"], False),
        (POETRY.replace("name", 'packages = [{include = "app"}]\nname') + BY_POETRY, ["app/__init__.py"], True),
        (POETRY.replace("name", "package-mode = false\nname") + BY_POETRY, ["some_shop/__init__.py"], False),
        ("", ["setup.py"], True),
        ("[tool.ruff]\n", ["setup.py"], True),
        ("[tool.ruff]\n", ["manage.py"], False),
    ],
)
def test_a_project_that_cannot_be_installed_gives_its_dependencies(
    root: Path, pyproject: str, files: list[str], buildable: bool
) -> None:
    """Examples: Poetry without a package, uv without a build system, Django without pyproject.toml."""
    (root / "pyproject.toml").write_text(pyproject)
    for name in files:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    assert is_buildable(root, read_toml(root / "pyproject.toml")) is buildable
    found, _ = asked_for(root, root, InstallSettings())
    assert ("-e ." in found.lines) is buildable


def test_requirements_replace_a_pyproject_that_no_tool_can_read(root: Path) -> None:
    """uv and pip refuse a project whose name has a space."""
    (root / "pyproject.toml").write_text('[project]\nname = "My Shop"\nversion = "1"\ndynamic = ["dependencies"]\n')
    assert asked_for(root, root, InstallSettings())[0].declared
    (root / "requirements.txt").write_text("idna==3.7\n")
    found, files = asked_for(root, root, InstallSettings())
    assert (found.files, found.lines, found.declared) == ([SUITE_FILE, "requirements.txt"], [], False)
    assert files == ["requirements.txt", SUITE_FILE]


def test_the_suite_or_the_settings_may_ask_for_the_application(root: Path) -> None:
    """The suite's requirements have priority. Settings can leave out the application, or add extras."""
    (root / "pyproject.toml").write_text(PROJECT + BUILT)
    assert asked_for(root, root, InstallSettings(extras=["web"]))[0].lines == ["-e .[web]"]
    without = asked_for(root, root, InstallSettings(application="dependencies", extras=["web"]))[0]
    assert (without.lines, without.declared, without.extras) == ([], True, ["web"])
    off = asked_for(root, root, InstallSettings(application="off"))[0]
    assert (off.lines, off.declared) == ([], False)
    (root / SUITE_FILE).write_text("-e .[api]\n")
    assert asked_for(root, root, InstallSettings())[0].lines == []


def test_poetrys_dependencies_come_from_its_lock_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lock file they come from pyproject.toml, also if its build backend refuses to read it."""
    monkeypatch.setattr(asked, "EXPORTS", {})
    for text in (POETRY, POETRY.replace("name", "package-mode = false\nname") + BY_POETRY):
        (root / "pyproject.toml").write_text(text)
        assert asked_for(root, root, InstallSettings())[0].lines == ["idna"]
    (root / "pyproject.toml").write_text(POETRY.replace('"*"', '{path = "idna"}'))
    with pytest.raises(InstallError, match=r'list them in .*, and set `application = "off"` in \[install\]'):
        asked_for(root, root, InstallSettings())
    (root / "poetry.lock").write_text(POETRY_LOCK)
    assert asked_for(root, root, InstallSettings())[0].lines == ["idna==3.7"]


def test_a_lock_file_of_an_unknown_kind_is_named(root: Path) -> None:
    """Nothing is installed from it, and the log says so."""
    (root / "Pipfile.lock").write_text("{}")
    assert asked_for(root, root, InstallSettings())[1][0] == "Pipfile.lock is not read, as its format is unknown"


def test_files_that_are_named_elsewhere_count(root: Path) -> None:
    """Requirements files can include others, and local packages have metadata."""
    (root / "requirements.txt").write_text("-r more.txt")
    (root / "more.txt").write_text("idna==3.7")
    (root / "a lib").mkdir()
    (root / "a lib" / "pyproject.toml").touch()
    found, _ = asked_for(root, root, InstallSettings())
    expected = ["a lib/pyproject.toml", "more.txt", "requirements.txt", SUITE_FILE]
    for line in ("-e ./a lib", f"-e {(root / 'a lib').as_uri()}#egg=a", f"lib @ {(root / 'a lib').as_uri()}"):
        assert local_files(found, [line, "idna==3.7"]) == expected


@pytest.mark.parametrize("with_uv", [True, False], ids=["uv", "pip"])
def test_versions_that_cannot_be_had_are_an_error(root: Path, with_uv: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the last lines of the installer."""
    if not with_uv:
        monkeypatch.setattr("plumbline.comparing.trees.installers.find_uv", list)
    (root / SUITE_FILE).write_text("plumb-none==1")
    (root / "wheels").mkdir()
    for name in ("UV_NO_INDEX", "PIP_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(InstallError, match="plumb-none"):
        resolve(asked_for(root, root, InstallSettings())[0])
