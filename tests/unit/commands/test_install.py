import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from plumbline.commands import install
from plumbline.commands.base import CommandError
from plumbline.comparing.trees import installers
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.installers import InstallError
from plumbline.install import main
from plumbline.project import SUITE
from plumbline.settings import Settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a suite and an environment without a record. Nothing is installed."""
    (tmp_path / SUITE).mkdir(parents=True)
    (tmp_path / SUITE / "settings.toml").touch()
    (tmp_path / SUITE / "requirements.txt").touch()
    (tmp_path / "environment").mkdir()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    monkeypatch.setattr(install, "synchronise", lambda *_: None)
    monkeypatch.setattr(install, "run_installer", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (InstallError("No solution found when resolving"), "Change one of these versions, in the project or in "),
        (
            InstallError("Failed to build `shop`"),
            'If the application can\'t be built, set `application = "dependencies"`',
        ),
        (InstallError("Connection refused"), "If an index could not be reached, try again."),
        (NoBase("uv.lock can't be read: line 1"), "Correct that file, or write it again with its tool."),
        (OSError(28, "No space left on device"), "No space left on device"),
        (AttributeError("'int' object has no attribute 'get'"), "pyproject.toml or the lock file is malformed"),
    ],
)
@pytest.mark.usefixtures("project")
def test_what_cannot_be_installed_is_invalid(
    problem: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed installation is not a regression, and its message ends with advice."""

    def fail(_: object) -> NoReturn:
        raise problem

    monkeypatch.setattr(install, "resolve", fail)
    assert install.install("") == 3
    text = capsys.readouterr().err
    assert text.startswith("\nthe environment can't be made")
    assert line in text
    assert text.endswith("\nexit code 3\n")
    assert (Path(sys.prefix) / install.SESSION).is_file()


@pytest.mark.usefixtures("project")
def test_init_installs_again_with_settings_that_it_finds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure before it has looked is no error yet. The one after that ends with advice."""

    def fail(_: object) -> NoReturn:
        raise InstallError("Failed to build `shop`")

    monkeypatch.setattr(install, "resolve", fail)
    monkeypatch.setenv("NOX_CURRENT_SESSION", "init")
    assert install.install("") == 3
    assert capsys.readouterr().err.startswith("environment: tests/performance/requirements.txt can't be installed yet")
    with pytest.raises(CommandError, match=r"Failed to build `shop`\nIf the application can't be built, set"):
        install.install_settings(Path.cwd(), Settings())


@pytest.mark.parametrize(
    ("lock", "python", "shown"),
    [
        ("uv.lock", "", "the versions of uv.lock, in Python 3"),
        ("", "", "no lock file: the newest versions, in Python 3"),
        ("Pipfile.lock", "", "Pipfile.lock is not read, as its format is unknown: the newest versions, in Python 3"),
        ("uv.lock", "3.99", "the versions of uv.lock, in a Python ==3.99.* (`python` in"),
    ],
)
def test_what_the_sessions_install(project: Path, lock: str, python: str, shown: str) -> None:
    assert install.installed_from(project, Settings(python=python), lock).startswith(shown)


def test_an_environment_without_plumbline_is_not_made(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The requirements of the suite must include Plumbline."""

    def fail(*_: object) -> NoReturn:
        raise InstallError("No module named plumbline")

    monkeypatch.setattr(install, "resolve", lambda _: ["idna==3.7"])
    monkeypatch.setattr(install, "run_installer", fail)
    assert install.install("") == 3
    assert f"{SUITE}/requirements.txt does not ask for pytest-plumbline: add it there" in capsys.readouterr().err
    assert [*(project / "environment").iterdir()] == [Path(sys.prefix, install.SESSION)], "there is no record of it"


def test_wrong_settings_are_reported_by_the_command_that_follows(project: Path) -> None:
    """The next command reports them with the exit code for wrong usage."""
    (project / SUITE / "settings.toml").write_text("[install]\nextra = []")
    assert install.install("") == 0


def test_the_machines_own_python_is_left_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An installation would remove all packages that the project does not ask for."""
    monkeypatch.setattr(sys, "base_prefix", str(project / "environment"))
    assert install.install("") == 3
    assert "this would remove packages of the system's Python: run it with Nox" in capsys.readouterr().err


def test_the_token_of_an_index_is_not_recorded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["--index-url https://me:hush@example.org/simple", "idna==3.7"]
    monkeypatch.setattr(install, "resolve", lambda _: lines)
    assert install.install("") == 0
    record = (project / "environment" / "plumbline.json").read_text()
    assert "idna==3.7" in record
    assert "hush" not in record


def test_a_folder_that_is_installed_as_a_copy_is_installed_again_when_its_code_changes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself uv checks only pyproject.toml, so that old code would be measured."""
    code, commands = project / "libs/pricing/pricing.py", list[list[str]]()
    code.parent.mkdir(parents=True)
    code.write_text("OLD = 1\n")
    (code.parent / "pyproject.toml").write_text('[project]\nname = "pricing"\n')
    monkeypatch.setattr(install, "resolve", lambda _: ["./libs/pricing"])
    monkeypatch.setattr(installers, "_run_uv", lambda command, *_, **__: commands.append(command))
    monkeypatch.setattr(installers, "find_uv", lambda: ["uv"])
    monkeypatch.setattr(install, "synchronise", installers.synchronise)
    for text, count in (("OLD = 1\n", 1), ("OLD = 1\n", 1), ("NEW = 1\n", 2)):
        code.write_text(text)
        assert main([""]) == 0
        assert len(commands) == count
    assert "--reinstall-package=pricing" in commands[-1]


def test_init_ends_with_another_python_than_the_project_asks_for(project: Path) -> None:
    """Nothing could be installed, which is no conflict of packages. Without a session of Nox, nothing is installed."""
    (project / ".python-version").write_text("3.99\n")
    install.require_python(project, Settings())
    (project / "environment" / install.SESSION).touch()
    install.require_python(project, Settings(python=">=3.11"))
    assert install.wrong_python(project, Settings(python=">=3.11")) == ""
    with pytest.raises(CommandError, match=r"but \.python-version asks for ==3\.99\.\*: install that Python"):
        install.require_python(project, Settings())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_under_stderr_ends_no_installation() -> None:
    code = "from plumbline.installed import tell\ntell('one\\n')\ntell('two\\n')"
    with Path("/dev/full").open("w") as full:
        assert subprocess.run([sys.executable, "-c", code], stderr=full, check=False).returncode == 0
