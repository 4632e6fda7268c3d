"""The gate through `nox -s ci`, as its users run it."""

from .project import Project


def test_a_first_run_is_new_and_passes(project: Project) -> None:
    """Without a baseline every benchmark is new, and the run passes."""
    done = project.nox("ci")

    assert done.code == 0, done.output
    assert set(project.verdicts().values()) == {"new"}
    assert "nox -s baseline" in done.output


def test_a_regression_fails(project: Project) -> None:
    """A benchmark that has become slower fails the run, and the others pass."""
    assert project.nox("baseline").code == 0

    same = project.nox("ci")
    slower = project.nox("ci", SLOWER="1.5")

    assert same.code == 0, same.output
    assert slower.code == 1, slower.output
    assert project.verdicts()["test_suite.py::test_addition"] == "regression"
