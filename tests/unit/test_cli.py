"""The command `plumbline`: help, examples, and what goes to pytest."""

import argparse
import importlib
import subprocess
import sys

import pytest

import plumbline
from plumbline import cli
from plumbline.commands.base import Project


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_each_command_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The example is a call of the command itself, with options that the command has."""
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])

    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    example = importlib.import_module(f"plumbline.commands.{name}").EXAMPLE
    assert f"Example: {example}" in shown
    assert ("go to pytest" in shown) == (name not in ("init", "doctor", "load", "accept", "report", "explain"))
    assert f"plumbline {name}" in example


def test_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """`plumbline --help` names each command and what it does."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])

    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} {text}" in shown for name, text in cli.COMMANDS.items())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["cii"],
        ["--frobnicate"],
        *(
            ["compare", ""],
            ["bisect", "v1", ""],
            ["load", "--host", " "],
            ["accept", "a", "--reason", ""],
        ),  # a variable that is not set
        *(["compare", "main", "--limit", "0"], ["bisect", "v1", "--limit", "nan"]),
        *(["selfcheck", f"--minutes={minutes}"] for minutes in ("0", "-1", "nan", "1e9", "soon")),
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No command or an unknown one is exit code 2, with the usage. So is a wrong argument."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)

    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: plumbline")


def test_arguments_of_pytest_are_refused_where_none_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """They would be ignored."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", "--", "-k", "checkout"])

    assert ended.value.code == 2
    assert "this command runs no tests: remove -- and what follows" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version stands under the name of the distribution."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pytest-plumbline {plumbline.__version__}\n"


def test_arguments_after_the_dashes_go_to_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options before `--` are the command's, all others pytest's, whatever they look like."""
    given: list[argparse.Namespace] = []
    module = importlib.import_module("plumbline.commands.compare")

    def run(_project: Project, options: argparse.Namespace) -> int:
        given.append(options)
        return 0

    monkeypatch.setattr(module, "run", run)

    assert cli.main(["compare", "main", "--limit", "7", "--", "-k", "checkout", "--limit=9"]) == 0

    [options] = given
    assert (options.revision, options.limit) == ("main", 7)
    assert options.pytest == ["-k", "checkout", "--limit=9"]


def test_the_module_is_the_command() -> None:
    """`python -m plumbline` is `plumbline`."""
    done = subprocess.run([sys.executable, "-m", "plumbline", "--version"], capture_output=True, text=True, check=True)

    assert done.stdout == f"pytest-plumbline {plumbline.__version__}\n"


def test_an_interruption_while_a_command_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It shows no traceback."""

    def interrupt(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupt)

    assert cli.main(["report"]) == 130
    assert capsys.readouterr().err == "\ninterrupted: no verdict\nexit code 130\n"
