"""Regressions that somebody has accepted, until the next baseline: `accepted.json` beside the baselines, to commit."""

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from plumbline.judging.counts import describe, grown_beyond, grown_counts
from plumbline.results.schema import Benchmark, Results, ResultsError, write_whole

FILE = "accepted.json"
TIMES_AS_MUCH = 2
"""A change makes more of a difference on one machine than on another: so many times what was accepted is beyond it."""


class Accepted(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What somebody has accepted of one benchmark, and why."""

    reason: str
    slower_by: float = 0.0
    """As a share; the upper end of the interval."""
    counts: dict[str, float] = {}
    """Those that had grown, as they were then."""


def read_accepted(folder: Path) -> dict[str, Accepted]:
    """By key of the benchmark; none where there is no file. Raises ResultsError where it is damaged."""
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Accepted])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise ResultsError(f"{path} can't be used: {error}; take it back from version control, or remove it") from None


def write_accepted(folder: Path, accepted: Mapping[str, Accepted]) -> None:
    """Write it, sorted; without any, there is no file. Raises ResultsError."""
    if accepted:
        text = msgspec.json.format(msgspec.json.encode(dict(sorted(accepted.items()))), indent=2).decode()
        write_whole(folder / FILE, text + "\n")
    else:
        (folder / FILE).unlink(missing_ok=True)


def matching(patterns: Sequence[str], keys: Collection[str]) -> tuple[list[str], list[str]]:
    """Keys that the patterns mean (a key, or one with * and ?), and the patterns that mean none."""
    found = {
        pattern: [key for key in keys if key == pattern or fnmatch.fnmatchcase(key, pattern)] for pattern in patterns
    }
    return sorted({key for keys in found.values() for key in keys}), [one for one, keys in found.items() if not keys]


def accepted_now(benchmark: Benchmark, reason: str) -> Accepted:
    """What is accepted of a benchmark as it was in a run."""
    grown = {change.name: change.new for change in grown_counts(benchmark)}
    return Accepted(reason, slower_by=round(max(benchmark.change_high or 0.0, 0.0), 3), counts=grown)


def accept(benchmarks: Collection[Benchmark], accepted: Mapping[str, Accepted], minimum_effect: float) -> None:
    """Let what somebody has accepted fail nothing any more, as long as it is not far beyond what it was then."""
    for benchmark in benchmarks:
        if benchmark.verdict == "regression" and (one := accepted.get(benchmark.key)):
            if beyond := _beyond(benchmark, one, minimum_effect):
                benchmark.reasons.append(f"{beyond}, which is beyond what was accepted: {one.reason}")
            else:
                benchmark.verdict = "accepted"
                benchmark.reasons.append(f"accepted: {one.reason}")


def _beyond(benchmark: Benchmark, accepted: Accepted, minimum_effect: float) -> str:
    """What has got worse since it was accepted; "" where nothing has."""
    if grown := grown_beyond(benchmark, accepted.counts):
        return ", ".join(map(describe, grown))
    if (benchmark.change_low or 0.0) > max(TIMES_AS_MUCH * accepted.slower_by, minimum_effect):
        return f"slower by {benchmark.change_low:.0%} at least, after {accepted.slower_by:.0%}"
    return ""


def outlived(accepted: Mapping[str, Accepted], baseline: Results) -> dict[str, Accepted]:
    """What is still accepted once this baseline has been recorded: only what it does not hold anew."""
    recorded = {benchmark.key for benchmark in baseline.benchmarks}
    return {key: one for key, one in accepted.items() if key not in recorded}
