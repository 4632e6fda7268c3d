"""The clock of all timings."""

from time import perf_counter


class Clock:
    """Holds the clock as it was at import.

    Tests that freeze or replace the time (by Freezegun, or by `monkeypatch`) do so in modules, never inside a class.
    """

    read = staticmethod(perf_counter)
