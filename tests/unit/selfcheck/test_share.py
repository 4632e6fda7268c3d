"""Shares with their intervals."""

from plumbline.selfcheck.share import Share


def test_a_share_shows_its_interval_in_the_long_run() -> None:
    """No false alarm in 30 gates is no proof of none."""
    assert str(Share(0, 30)) == "0 of 30 (0.0%; in the long run 0.0% to 11.6%)"
