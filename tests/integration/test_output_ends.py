"""A run whose output is no longer read: it writes its files, and never passes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import SUITE, Project

FAILS = "\n\ndef test_fails() -> None:\n    assert not 'x' * 100_000\n"


@pytest.mark.parametrize("output", ["a closed pipe", "a full device", "closed"])
def test_a_run_continues_when_its_output_is_closed(tmp_path: Path, output: str) -> None:
    """Also with pytest in its own process, and more output than any buffer holds."""
    project = Project.create(tmp_path / "project", tmp_path, steady=True)
    project.write("test_suite.py", SUITE + (FAILS if output == "a closed pipe" else ""))
    if output == "a closed pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full" if output == "a full device" else os.devnull, os.O_WRONLY)
    foreign = ("PERF_", "PYTEST_", "GITHUB_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    command = [sys.executable, "-m", "plumbline", "ci", "--", "-rA", "--tb=long"]
    if output == "closed":
        command = ["sh", "-c", 'exec "$0" "$@" >&-', *command]

    done = subprocess.run(command, cwd=project.root, stdout=writer, stderr=subprocess.PIPE, text=True, env=environ)

    os.close(writer)
    assert done.returncode == (1 if output == "a closed pipe" else 3), done.stderr
    assert ("the standard output can't be written" in done.stderr) == (output != "a closed pipe")
    assert "Traceback" not in done.stderr
    assert set(project.verdicts().values()) == {"new"}
    for name in ("results.json", "report.md", "junit.xml"):
        assert (project.root / "perf-results" / name).stat().st_size > 100
