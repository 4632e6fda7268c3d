"""`plumbline explain`, which needs no project."""

from pathlib import Path

import pytest

from plumbline import cli


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder is no project."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", [["count_grown"], ["count-grown"], ["count", "grown"]])
def test_a_code_is_explained(code: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", *code]) == 0

    shown = capsys.readouterr().out
    assert shown.startswith("count_grown (reasons of a benchmark)\n\nOne operation causes more statements")
    assert "`nox -s accept --" in shown


def test_an_exit_code_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "3"]) == 0
    assert capsys.readouterr().out.startswith("3 (exit codes)\n\nThe run is invalid: ")


def test_several_codes_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """As a report lists them; one that does not exist is wrong usage."""
    assert cli.main(["explain", "count_grown,", "compared"]) == 0
    assert "\n\n\ncompared (reasons of a benchmark)\n\n" in capsys.readouterr().out

    assert cli.main(["explain", "compared", "nothing"]) == 2


def test_all_codes_are_listed_by_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain"]) == 0

    shown = capsys.readouterr().out
    assert "\n\nExit codes\n  0   " in shown
    assert "\n\nVerdicts\n  pass  " in shown
    assert "\n  other_python  " in shown


def test_an_unknown_code_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """The message has the nearest ones."""
    assert cli.main(["explain", "count_grow"]) == 2
    assert "there is no code 'count_grow': did you mean count_grown or counts_grown?" in capsys.readouterr().err


def test_commands_are_those_of_the_project(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (nowhere / "perf-noxfile.py").touch()

    assert cli.main(["explain", "changed"]) == 0
    assert "`nox -f perf-noxfile.py -s baseline`" in capsys.readouterr().out


def test_a_page_that_sends_to_another_one_shows_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "counts_grown"]) == 0

    shown = capsys.readouterr().out
    assert "counts_grown (reasons of a run)" in shown
    assert "Usual causes: a query inside a loop" in shown
