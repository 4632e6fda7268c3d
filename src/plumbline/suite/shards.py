"""The division of a suite into shards. It must be the same on all machines that measure a shard of one run."""

import re
import statistics
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from plumbline.judging.baseline import durations
from plumbline.project import SETTINGS
from plumbline.results.environment import commit_time
from plumbline.results.files import newest_runs
from plumbline.results.schema import Shard
from plumbline.settings_file import settings_hash

_MARGIN = timedelta(hours=1)  # more than a run takes from its measurements to the upload of its history


def parse_shard(text: str) -> tuple[int, int]:
    """Return the number of a shard, counted from 1, and how many there are: (2, 5) for 2/5. Raises ValueError."""
    found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text, re.ASCII)
    number, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= of:
        raise ValueError(f"{text!r} names no shard: write 2/5 for the second of five")
    return number, of


def shard_of(option: str | None, suite: Path) -> Shard | None:
    """Return the shard that pytest's option names, before its tests are known."""
    return Shard(*parse_shard(option), settings_hash(suite / SETTINGS)) if option else None


def select(shard: Shard, keys: Iterable[str], suite: Path, results: Path) -> tuple[Shard, set[str]]:
    """Return the shard with the keys of all tests of the run, and the keys of its own tests.

    `results`: the folder with the history of runs, which has durations if no baseline has them.
    """
    ordered = sorted(keys)
    source, durations_s = durations(suite / "baselines")
    if not source:
        source, durations_s = _of_earlier_run(results, commit_time(suite))
    own = divide(ordered, durations_s, shard.of)[shard.number - 1]
    return replace(shard, keys=ordered, divided_by=source), {*own}


def _of_earlier_run(results: Path, committed: datetime | None) -> tuple[str, Mapping[str, float]]:
    """Return the newest run that ended well before the commit was made, and how long its tests took, in seconds.

    "" and nothing if there is none. All shards find the same run, even if other runs end while the shards start.
    """
    last = (committed - _MARGIN).isoformat() if committed else ""
    for run in newest_runs(results):
        known = {one.key: one.duration_s for one in run.benchmarks if one.duration_s}
        if run.created <= last and known:
            return f"the run of {run.created}", known
    return "", {}


def divide(keys: Collection[str], durations_s: Mapping[str, float], of: int) -> list[list[str]]:
    """Divide tests into shards that take about as long: the longest test first, each to the shard with the least.

    A test without a known duration counts as the median of the others. Source: Graham 1969, SIAM Journal on Applied
    Mathematics 17:416. No shard takes more than 4/3 of the time that the longest takes in the best division.
    """
    known_s = [durations_s[key] for key in keys if durations_s.get(key)]
    usual_s = statistics.median(known_s) if known_s else 1.0
    shards: list[list[str]] = [[] for _ in range(of)]
    loads_s = [0.0] * of
    for key in sorted(keys, key=lambda key: (-(durations_s.get(key) or usual_s), key)):
        least = loads_s.index(min(loads_s))
        shards[least].append(key)
        loads_s[least] += durations_s.get(key) or usual_s
    return shards
