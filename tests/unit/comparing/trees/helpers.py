"""Helpers for tests of trees."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plumbline.comparing.trees.affected import affected
from plumbline.comparing.trees.sides import (
    Sides,
    make_sides,
)
from tests.support.project import ROOT

SUITE = {"tests/__init__.py": "", "tests/performance/test_it.py": "old", "conftest.py": "old", ".gitignore": "*.log\n"}


SOURCE = ROOT / "src"


ASK = """
import json, sys
from plumbline.results.environment import origins
print(json.dumps(origins(sys.argv[1:])))
"""


def make(
    root: Path,
    cache: Path,
    commit: str = "HEAD",
    directories: Sequence[str] = (),
    reported: list[str] | None = None,
    also_copy: Sequence[str] = (),
) -> Sides:
    """Make sides that use this environment."""
    say = (reported if reported is not None else []).append
    return make_sides(
        root, commit, directories=directories, cache=cache, results="results", also_copy=also_copy, say=say
    )


def asked(root: Path, python: Path, path: str, modules: Sequence[str]) -> dict[str, str]:
    """Return the origins of modules as a process of a side sees them."""
    return dict(answer(python, ASK, *modules, cwd=root, PYTHONPATH=os.pathsep.join([path, str(SOURCE)])))


def answer(python: Path, program: str, *arguments: str, cwd: Path, **environ: str) -> Any:
    """Return the JSON that a program prints."""
    done = subprocess.run(
        [str(python), "-c", program, *arguments],
        cwd=cwd,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def reads(names: list[str], traces: Path, changed: set[Path]) -> bool:
    """Return whether a process has read one of these paths, or a path below one."""
    found = affected(names, traces, dict.fromkeys(changed))
    assert not found
    return found is None
