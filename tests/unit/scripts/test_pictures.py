"""The pictures of the documentation."""

from scripts.pictures import stale


def test_no_picture_is_older_than_what_it_shows() -> None:
    """`python -m scripts.pictures` makes them again; with `--render`, from the results that it has kept."""
    assert list(stale()) == []
