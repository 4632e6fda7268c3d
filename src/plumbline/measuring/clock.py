"""The clock for all timings."""

from time import perf_counter


class Clock:
    """Holds `perf_counter` as it was at import.

    Libraries that freeze the time, such as Freezegun, replace the attributes of modules, but not those of classes.
    """

    read = staticmethod(perf_counter)
