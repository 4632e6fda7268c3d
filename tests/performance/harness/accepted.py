"""Regressions that somebody has accepted, until the next baseline: `accepted.json` beside the baselines, to commit."""

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from .results import Benchmark, Results, ResultsError, write_whole

FILE = "accepted.json"


def read_accepted(folder: Path) -> dict[str, str]:
    """Reasons by key of the benchmark; none where there is no file. Raises ResultsError where it is damaged."""
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise ResultsError(f"{path} can't be used: {error}; take it back from version control, or remove it") from None


def write_accepted(folder: Path, accepted: Mapping[str, str]) -> None:
    """Write it, sorted, one line each; without any, there is no file. Raises ResultsError."""
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


def accept(benchmarks: Collection[Benchmark], accepted: Mapping[str, str]) -> None:
    """Let what somebody has accepted fail nothing any more."""
    for benchmark in benchmarks:
        if benchmark.verdict == "regression" and benchmark.key in accepted:
            benchmark.verdict = "accepted"
            benchmark.reasons.append(f"accepted: {accepted[benchmark.key]}")


def outlived(accepted: Mapping[str, str], baseline: Results) -> dict[str, str]:
    """What is still accepted once this baseline has been recorded: only what it does not hold anew."""
    recorded = {benchmark.key for benchmark in baseline.benchmarks}
    return {key: reason for key, reason in accepted.items() if key not in recorded}
