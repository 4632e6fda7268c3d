"""The command line and the environment of a worker, without starting one."""

import os
import sys
from pathlib import Path

import pytest

from plumbline.comparing.statistics.controls import CONTROLS
from plumbline.comparing.trees.sides import Side, Sides
from plumbline.comparing.workers.command import pytest_configuration, worker_command, worker_environment
from tests.unit.comparing.workers.small_trees import ASYNC, WORK, plans_of


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    """Two empty trees."""
    for name in ("base", "head"):
        (tmp_path / name / "tests/performance").mkdir(parents=True)
    base, head = (Side(name, tmp_path / name, Path(sys.executable), tmp_path / name) for name in ("base", "head"))
    return Sides(base, head, files=[], packages=[], modules=[], import_from=[".", "src"])


def test_each_file_is_named_once_and_controls_are_not(sides: Sides) -> None:
    """The plugin collects the controls by itself."""
    command = worker_command(sides.base, sides.head.root, plans_of(WORK, ASYNC, *CONTROLS), "ci")
    assert command[:4] == ["-m", "pytest", "tests/performance/test_work.py", "-q"]
    assert not any("controls" in part for part in command)


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("tests/performance/pytest.toml", "", True),
        ("pytest.ini", "", True),
        ("pyproject.toml", "[tool.pytest]\n", True),
        ("pyproject.toml", "[tool.pytest.ini_options]\n", True),
        ("pyproject.toml", "[tool.ruff]\n", False),
    ],
)
def test_heads_configuration_of_pytest_is_for_both_sides(sides: Sides, file: str, text: str, found: bool) -> None:
    """If it is the suite's own, no conftest.py above the suite is loaded, as by pytest itself."""
    path = sides.head.root / file
    path.write_text(text)
    command = worker_command(sides.base, sides.head.root, plans_of(WORK), "ci")
    assert pytest_configuration(sides.head.root) == (path if found else None)
    assert (f"-c={path}" in command) == found
    top = sides.base.root / "tests/performance" if file.startswith("tests") else sides.base.root
    assert command[-1] == f"--confcutdir={top}"


def test_a_worker_imports_from_its_own_tree_and_with_the_hash_seed_of_its_pair(sides: Sides) -> None:
    """Commands come from its own environment."""
    environ = worker_environment(sides.base, sides, 7, None)
    assert environ["PYTHONPATH"] == os.pathsep.join([str(sides.base.root), str(sides.base.root / "src")])
    assert environ["PYTHONHASHSEED"] == "7"
    assert environ["PATH"].partition(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_in_a_rehearsal_a_worker_traces_what_it_reads(sides: Sides, tmp_path: Path) -> None:
    """Into a folder for its side, from the first import on."""
    plain, traced = (worker_environment(sides.head, sides, 7, folder) for folder in (None, tmp_path))
    changed = {name for name in plain.keys() | traced.keys() if plain.get(name) != traced.get(name)}
    assert changed == {"PERF_READS", "PYTHONPATH"}
    assert traced["PERF_READS"].startswith(str(tmp_path / "head"))
    assert traced["PYTHONPATH"].endswith(os.pathsep + plain["PYTHONPATH"])
