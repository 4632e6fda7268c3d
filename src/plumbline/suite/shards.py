"""The division of a suite into shards. It must be the same on all machines that measure a shard of one run."""

import re
import statistics
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from msgspec.structs import replace

from plumbline.judging.baseline import durations
from plumbline.project import SETTINGS
from plumbline.results.schema import Shard
from plumbline.settings_file import settings_hash


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


def select(shard: Shard, keys: Iterable[str], suite: Path) -> tuple[Shard, set[str]]:
    """Return the shard with the keys of all tests of the run, and the keys of its own tests."""
    ordered = sorted(keys)
    baseline, durations_s = durations(suite / "baselines")
    own = divide(ordered, durations_s, shard.of)[shard.number - 1]
    return replace(shard, keys=ordered, divided_by=baseline), {*own}


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
