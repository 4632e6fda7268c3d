"""The command that messages name."""

from pathlib import Path

import pytest

from plumbline.project import nox_command


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of PATH, below a folder that may be a cache."""
    folder = tmp_path / "cache" / "environment" / "bin"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def add(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch(mode=0o755)


def test_nox_that_is_installed(programs: Path) -> None:
    """uv marks each environment itself."""
    (programs.parent / "CACHEDIR.TAG").touch()
    add(programs, "nox", "uvx")

    assert nox_command() == "nox"


def test_nox_that_uvx_has_put_into_its_cache(programs: Path) -> None:
    """A shell does not find it."""
    add(programs, "nox", "uvx")
    (programs.parents[1] / "CACHEDIR.TAG").touch()
    Path("perf-noxfile.py").touch()

    assert nox_command() == "uvx nox -f perf-noxfile.py"


def test_neither_nox_nor_uv(programs: Path) -> None:
    assert programs.is_dir()
    assert nox_command() == "nox"


def test_uv_without_nox(programs: Path) -> None:
    add(programs, "uvx")

    assert nox_command() == "uvx nox"
