"""The files of a run."""

from pathlib import Path

import pytest

from plumbline.commands.output import JUNIT, RESULTS, make_room
from plumbline.results.files import ResultsError


def test_results_are_none_of_the_files_that_git_lists(tmp_path: Path) -> None:
    """Of a new folder: one that was there before may have its own .gitignore, or hold more than results."""
    make_room(tmp_path / "new")
    assert (tmp_path / "new" / ".gitignore").read_text() == "*\n"
    (tmp_path / "old").mkdir()
    make_room(tmp_path / "old")
    assert not [*(tmp_path / "old").iterdir()]


def test_room_is_made_for_the_files_of_a_run(tmp_path: Path) -> None:
    for name in (RESULTS, JUNIT, "mine.txt"):
        (tmp_path / name).touch()
    make_room(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"can't be written"):
        make_room(tmp_path / "file")
