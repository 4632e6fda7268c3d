"""`plumbline init` in a repository without a suite: it copies one, and goes on in a session of the copy."""

import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.repository import Repository

from .copies import LIMIT_S, Copy, write_files

APP = """
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route


    async def answer(_request):
        return PlainTextResponse("{name}")


    app = Starlette(routes=[Route("/{name}", answer)])
    """
FILES = {
    "main.py": APP.format(name="first"),
    "second.py": APP.format(name="second"),
    "requirements.txt": "starlette==1.0.0\n",
    ".gitignore": ".venv/\n",
    ".gitlab-ci.yml": "test: {script: pytest}\n",
    "noxfile.py": '"""Sessions of theirs, without one that is called init."""\n',
}


@pytest.fixture
def theirs(tmp_path: Path) -> Copy:
    """A repository without a suite."""
    write_files(tmp_path / "shop", FILES)
    repository = Copy(tmp_path / "shop", "perf-noxfile.py")
    repository.begin()
    return repository


@pytest.mark.timeout(480)
def test_the_whole_of_it(theirs: Copy, template: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are shown and copied, and all options reach the session. Git adds nothing that a run has made.

    Their .gitignore lacks __pycache__: compiled modules of the suite are ignored, and `init` says so of others.
    """
    monkeypatch.setattr("tests.support.project.LIMIT_S", LIMIT_S)  # it also makes an environment
    command = ("-m", "plumbline", "init", f"--template={template.root}", "--yes", "--app=second:app")

    done = theirs.own_python(*command, PERF_SERVICES="embedded", PYTHONDONTWRITEBYTECODE="")

    assert done.code == 0, done.output
    shown = done.output.partition("The files are copied")[0]
    assert [name for name in theirs.own_files() - {*FILES} if f"  {name}\n" not in shown] == [
        "tests/performance/test_routes.py"  # which `init` has written later
    ]
    assert "  tests/performance/vendor/ (the source of Plumbline, " in shown
    settings = tomllib.loads((theirs.suite / "settings.toml").read_text(encoding="utf-8"))
    assert settings["app"] == {"asgi": "second:app", "health_path": "/second"}
    assert theirs.verdicts() == {"test_routes.py::test_get[/second]": "new"}
    assert ".gitlab-ci.yml:\n\ninclude:\n  - local: .gitlab/performance.yml\n" in done.output
    assert "  installed: the versions of requirements.txt, in Python 3" in done.output

    assert "`git add .` would add __pycache__/: add the line `__pycache__/` to .gitignore" in done.output
    theirs.git("add", ".")
    tracked = theirs.git("diff", "--cached", "--name-only").splitlines()
    assert theirs.git("diff", "--cached", "--name-only", "--diff-filter=M") == ""
    ours = {name for name in tracked if not name.startswith(("tests/performance/vendor/", "__pycache__/"))}
    assert ours == theirs.own_files() - {*FILES}
    assert [name for name in tracked if name.startswith("tests/") and "__pycache__" in name] == []


def test_nothing_is_copied_without_consent(theirs: Copy, template: Repository) -> None:
    """A repository that has a pipeline of GitLab would get one more of these."""
    done = theirs.own_python("-m", "plumbline", "init", f"--template={template.root}")

    assert done.code == 2, done.output
    assert "  tests/performance/settings.toml\n" in done.output
    assert "  .gitlab/performance.yml\n" in done.output
    assert ".github" not in done.output
    assert f"run `plumbline init --yes --template {template.root}`" in done.output
    assert theirs.git("status", "--porcelain") == ""


def test_no_is_an_answer(theirs: Copy, template: Repository) -> None:
    terminal, own = pty.openpty()
    os.write(terminal, b"n\n")
    try:
        command = [sys.executable, "-m", "plumbline", "init", f"--template={template.root}"]
        done = subprocess.run(command, cwd=theirs.root, stdin=own, capture_output=True, text=True, check=False)
    finally:
        os.close(own)
        os.close(terminal)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Copy them? [y/N] nothing was written\n")
    assert theirs.git("status", "--porcelain") == ""


def test_a_template_that_cannot_be_copied(theirs: Copy, tmp_path: Path) -> None:
    done = theirs.own_python("-m", "plumbline", "init", "--yes", f"--template={tmp_path / 'nowhere'}")

    assert (done.code, "the suite can't be copied: `" in done.output) == (2, True)
