"""`init` finds the source of a new suite for a repository that has none."""

from plumbline.commands import copying
from tests.support.project import ROOT


def test_the_template_is_where_this_package_was_installed_from() -> None:
    """These tests run on an installation of this folder."""
    assert copying._installed_from() == [str(ROOT)]


def test_the_commands_of_this_environment_are_used() -> None:
    assert [copying._tool(name)[1:] for name in ("copier", "nox")] == [["-m", "copier"], ["-m", "nox"]]
