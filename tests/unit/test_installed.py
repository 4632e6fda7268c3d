import json
import sys
from pathlib import Path

import pytest

from plumbline import install
from plumbline.installed import RECORD, digest, read_record, top_of, write_record
from plumbline.project import SUITE


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a folder of a repository, with its own environment."""
    folder = tmp_path / "repository" / "shop"
    (folder / SUITE).mkdir(parents=True)
    (folder / SUITE / "settings.toml").write_text("")
    (tmp_path / "repository" / ".git").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        *("uv.lock", "poetry.lock", "pyproject.toml", "setup.cfg", "requirements.txt", "requirements-prod.txt"),
        *("../uv.lock", "../.python-version", f"{SUITE}/requirements.txt", f"{SUITE}/settings.toml", "named.txt"),
    ],
)
def test_each_file_that_can_list_requirements_counts(project: Path, name: str) -> None:
    """A new, changed or deleted file changes the digest."""
    top = top_of(project)
    assert top == project.parent
    (project / name).unlink(missing_ok=True)
    without = digest(project, top, ["named.txt"])
    (project / name).write_text("a")
    first = digest(project, top, ["named.txt"])
    (project / name).write_text("b")
    second = digest(project, top, ["named.txt"])
    assert len({without, first, second}) == 3


def test_the_digest_of_a_copy_is_the_same(project: Path, tmp_path: Path) -> None:
    """So base and head can be compared."""
    (project / "uv.lock").write_text("a")
    here = digest(project, top_of(project), [])
    project.parent.rename(tmp_path / "moved")
    assert digest(tmp_path / "moved" / "shop", tmp_path / "moved", []) == here


def test_nothing_is_done_if_nothing_has_changed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output lists the sources of the environment. A change, or another Python of Nox, needs an installation."""
    monkeypatch.setattr("plumbline.commands.install.install", lambda _: 7)
    assert install.main(["python"]) == 7, "there is no record"
    key = digest(project, top_of(project), [], sys.version, "python")
    write_record({"digest": [key], "source": ["uv.lock", "pyproject.toml"], "packages": [], "files": []})
    assert install.main(["python"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "environment: uv.lock, pyproject.toml\n")
    assert install.main(["another"]) == 7
    (project / "uv.lock").touch()
    assert install.main(["python"]) == 7


def test_a_damaged_record_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a run that was killed while writing it."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    (tmp_path / RECORD).write_text("{")
    assert read_record() is None
    write_record({"digest": ["a"]})
    assert json.loads((tmp_path / RECORD).read_text()) == {"digest": ["a"]}
    write_record(None)
    assert read_record() is None
