"""The page on migrating from pytest-benchmark: what it shows before and after passes, each under its own plugin."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.documentation import DOCS
from tests.support.project import STEADY_SETTINGS, Project

PAGE = (DOCS / "how-to" / "from-pytest-benchmark.md").read_text(encoding="utf-8")
BEFORE = re.findall(r"\nBefore:\n\n```python\n(.*?)```", PAGE, re.DOTALL)
AFTER = re.findall(r"\nAfter:\n\n```python\n(.*?)```", PAGE, re.DOTALL)


def names_in(code: str) -> list[str]:
    """Return the names of the tests in a block of code."""
    functions = [one for one in ast.parse(code).body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [one.name for one in functions if one.name.startswith("test_")]


def write(folder: Path, blocks: list[str]) -> None:
    for number, code in enumerate(blocks):
        (folder / f"test_block_{number}.py").write_text(code, encoding="utf-8")


def test_each_block_has_its_counterpart() -> None:
    """The same tests stand before and after."""
    assert len(BEFORE) == len(AFTER) == PAGE.count("```python\n") / 2 > 2
    assert list(map(names_in, BEFORE)) == list(map(names_in, AFTER))


def test_before(tmp_path: Path, environments: Path) -> None:
    """The old tests pass with pytest-benchmark."""
    project = Project(tmp_path, environments)
    write(tmp_path, BEFORE)

    done = project.own_python("-m", "pytest", "-q", str(tmp_path))

    assert done.code == 0, done.output
    assert "benchmark: " in done.output


@pytest.mark.timeout(240)
def test_after(project: Project) -> None:
    """The new tests pass in a suite, and each is a benchmark."""
    (project.suite / "test_suite.py").unlink()
    project.write("settings.toml", STEADY_SETTINGS)
    write(project.suite, AFTER)

    done = project.run("ci")

    assert done.code == 0, done.output
    wanted = {name for code in AFTER for name in names_in(code)}
    assert {key.partition("::")[2].partition("[")[0] for key in project.verdicts()} == wanted
