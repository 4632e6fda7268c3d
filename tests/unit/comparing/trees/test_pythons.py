import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from plumbline.comparing.trees import pythons
from plumbline.comparing.trees.installers import InstallError, find_uv
from plumbline.comparing.trees.pythons import other_python, use_python, wanted_python

HERE = ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize(
    ("files", "setting", "asked"),
    [
        ({}, "", ""),
        ({}, "3.13", "==3.13.*"),
        ({}, ">=3.12", ">=3.12"),
        ({".python-version": "3.12.1\n", "pyproject.toml": '[project]\nrequires-python = ">=3.11"'}, "", "==3.12.*"),
        ({".python-version": "3.12\n"}, "3.13.1", "==3.13.1.*"),
        ({".python-version": "cpython-3.12.1-linux\n"}, "", "==3.12.*"),
        ({".python-version": "my-environment\n"}, "", ""),
        ({".python-version": "3.7.7\n", "pyproject.toml": '[project]\nrequires-python = ">=3.7"'}, "", ">=3.7"),
        ({"../.python-version": "3.12\n"}, "", "==3.12.*"),
        ({"pyproject.toml": '[project]\nrequires-python = ">=3.11,<3.14"'}, "", ">=3.11,<3.14"),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.11"'}, "", ">=3.11,<4"),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "~3.11"'}, "", ">=3.11,<3.12"),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "*"'}, "", ""),
    ],
)
def test_a_project_asks_for_a_python(tmp_path: Path, files: dict[str, str], setting: str, asked: str) -> None:
    """The setting has priority over .python-version, which has priority over pyproject.toml."""
    project = tmp_path / "repository" / "shop"
    project.mkdir(parents=True)
    (tmp_path / ".python-version").write_text("3.1")  # outside of the repository
    for name, text in files.items():
        (project / name).write_text(text)
    found, source = wanted_python(project, tmp_path / "repository", setting)
    assert found == SpecifierSet(asked)
    assert bool(source) == bool(asked)


def test_a_setting_that_is_no_version(tmp_path: Path) -> None:
    """The error names the setting and its value."""
    with pytest.raises(InstallError, match=r"`python` in .*settings\.toml is 'three': write a version such as 3\.13"):
        wanted_python(tmp_path, tmp_path, "three")


@pytest.mark.parametrize("with_uv", [True, False], ids=["uv", "without uv"])
def test_a_python_that_cannot_be_had(with_uv: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment stays, and the error has the file that asks for it, and advice."""
    if not with_uv:
        monkeypatch.setattr(pythons, "find_uv", list)
    with pytest.raises(InstallError) as error:
        use_python(SpecifierSet("==3.99.*"), "pyproject.toml", sys.executable, tmp_path)
    lines = str(error.value).splitlines()
    assert lines[0].startswith("pyproject.toml asks for Python ==3.99.*, which is not installed: ")
    assert lines[1].startswith("Install it (`uv python install VERSION`), or set `python` in ")


@pytest.mark.parametrize(("asked", "request_"), [(">=3.12,<4", "3.12"), (">=3.12.4", ">=3.12.4"), ("==3.13.*", "3.13")])
def test_the_oldest_python_that_fits_is_tried_first(
    asked: str, request_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locked packages may have no wheels for newer ones."""
    requests = list[str]()

    def answer(command: Sequence[str]) -> tuple[int, str, str]:
        requests.append(command[-1])
        return 0, "/python\n", ""

    monkeypatch.setattr(pythons, "find_uv", lambda: ["uv"])
    monkeypatch.setattr(pythons, "_asked_of", answer)
    monkeypatch.setattr(pythons, "run_installer", lambda *_: None)
    monkeypatch.setattr(os, "execv", lambda *_: None)
    use_python(SpecifierSet(asked), "", "/usr/bin/false", tmp_path)
    assert requests == [request_]


@pytest.mark.parametrize("asked", ["", f"=={HERE}", ">=3.11"])
def test_noxs_own_python_is_kept_if_it_will_do(asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pythons, "run_installer", None)
    use_python(SpecifierSet(asked), "", sys.executable, tmp_path)


@pytest.mark.parametrize(
    ("before", "now", "settings", "found"),
    [
        ("3.9", "3.99", ("", ""), True),
        ("3.9", "3.9", ("", ""), False),
        ("{here}", "3.9", ("", ""), False),
        ("", "3.9", ("", ""), False),
        ("", "", ("3.9", "3.99"), True),
        ("", "", ("3.9", "3.9"), False),
    ],
)
def test_another_python_of_the_base_cannot_be_judged(
    before: str, now: str, settings: tuple[str, str], found: bool, tmp_path: Path
) -> None:
    """Both sides run on head's Python."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    for side, version in (("base", before), ("head", now)):
        (tmp_path / side).mkdir()
        if version:
            (tmp_path / side / ".python-version").write_text(version.format(here=here))
    unjudged = other_python(tmp_path / "base", tmp_path / "head", "", settings)
    assert [(one.name, one.cause) for one in unjudged] == ([("Python", "other_python")] if found else [])


def test_a_uv_that_cannot_be_run_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pyenv's `uv`, if the project names another Python than the one that has uv."""
    program = tmp_path / "uv"
    program.write_text("#!/bin/sh\necho 'pyenv: uv: command not found' >&2\nexit 127\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    assert str(program) not in find_uv()
