"""`plumbline accept` takes only the right results."""

import argparse
from pathlib import Path

import pytest
from msgspec.structs import replace

from plumbline.commands import accept
from plumbline.commands.base import RESULTS, CommandError, Project
from plumbline.judging.accepted import read_accepted
from plumbline.results.files import write_results
from plumbline.settings import Settings
from tests.support.report_samples import benchmark, results
from tests.support.repository import Repository

KEY = "a.py::test_a"


@pytest.mark.parametrize("branch", ["main", ""])
def test_a_regression_of_this_branch(branch: str, tmp_path: Path) -> None:
    assert accepted(tmp_path, branch) == [KEY]


def test_results_of_another_branch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="of the branch slow, and this is main"):
        accepted(tmp_path, "slow")


def accepted(folder: Path, branch: str) -> list[str]:
    """Accept a regression that was measured on a branch, and return the accepted keys."""
    project = Project(Repository.create(folder / "shop", {"a.py": ""}).root, Settings())
    found = results(benchmark(KEY, "regression"), verdict="regression")
    project.results.mkdir()
    project.baselines.mkdir(parents=True)
    write_results(project.results / RESULTS, replace(found, environment=replace(found.environment, branch=branch)))
    accept.run(project, argparse.Namespace(keys=[KEY], reason="it does more"))
    return [*read_accepted(project.baselines)]
