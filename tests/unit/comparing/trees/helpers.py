"""What several tests of trees need."""

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
    """Sides that run in our own environment."""
    say = (reported if reported is not None else []).append
    return make_sides(
        root, commit, directories=directories, cache=cache, results="results", also_copy=also_copy, say=say
    )


def asked(root: Path, python: Path, path: str, modules: Sequence[str]) -> dict[str, str]:
    """Where a process of a side says that it imports modules from."""
    return dict(answer(python, ASK, *modules, cwd=root, PYTHONPATH=os.pathsep.join([path, str(SOURCE)])))


def answer(python: Path, program: str, *arguments: str, cwd: Path, **environ: str) -> Any:
    """What a program prints as JSON."""
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
    """Whether one of them has read one of these, or what is below it."""
    found = affected(names, traces, dict.fromkeys(changed))
    assert not found
    return found is None
