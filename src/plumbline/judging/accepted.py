"""Accepted regressions: `accepted.json` beside the baselines, to commit. They are valid until the next baseline."""

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from plumbline.judging.counts import grown_beyond, grown_counts
from plumbline.judging.evidence import Accepted
from plumbline.judging.explaining import growth
from plumbline.results.files import ResultsError, write_whole
from plumbline.results.schema import Benchmark, Reason, Results

FILE = "accepted.json"
TIMES_AS_MUCH = 2  # the same change can cost up to twice as much on another machine


def read_accepted(folder: Path) -> dict[str, Accepted]:
    """Return the accepted regressions by key of the benchmark. Raises ResultsError if the file is damaged."""
    path = folder / FILE
    try:
        return decode_accepted(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise ResultsError(f"{path} can't be used: {error}; restore it from version control, or remove it") from None


def decode_accepted(data: bytes) -> dict[str, Accepted]:
    """Return the content of an accepted.json. Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=dict[str, Accepted])


def write_accepted(folder: Path, accepted: Mapping[str, Accepted]) -> None:
    """Write accepted.json, sorted, or remove it if nothing is accepted. Raises ResultsError."""
    if accepted:
        text = msgspec.json.format(msgspec.json.encode(dict(sorted(accepted.items()))), indent=2).decode()
        write_whole(folder / FILE, text + "\n")
    else:
        (folder / FILE).unlink(missing_ok=True)


def matching(patterns: Sequence[str], keys: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the keys that match a pattern (a key, * and ? allowed), and the patterns that match no key."""
    # Brackets belong to the key of a parametrised test. They are no set of characters.
    plain = {pattern: pattern.replace("[", "[[]") for pattern in patterns}
    found = {pattern: [key for key in keys if fnmatch.fnmatchcase(key, one)] for pattern, one in plain.items()}
    return sorted({key for keys in found.values() for key in keys}), [one for one, keys in found.items() if not keys]


def accepted_now(benchmark: Benchmark, reason: str) -> Accepted:
    grown = {change.name: max(change.new, change.most) for change in grown_counts(benchmark)}
    tails = {one.tail: round(one.high, 3) for one in benchmark.tails if one.slower}
    return Accepted(reason, slower_by=round(max(benchmark.change_high or 0.0, 0.0), 3), counts=grown, tails=tails)


def with_accepted(
    benchmark: Benchmark, accepted: Accepted | None, minimum_effect: float, *, worse_than_base: bool = False
) -> Benchmark:
    """Change the verdict of a regression to accepted, unless it is much larger than the accepted one.

    `worse_than_base`: whether it is worse than a base in which the same was accepted already.
    """
    if accepted is None or benchmark.verdict != "regression":
        return benchmark
    changes = [(benchmark.change_low or 0.0, accepted.slower_by, minimum_effect)]
    changes += [(one.low, accepted.tails.get(one.tail, 0.0), 0.0) for one in benchmark.tails if one.slower]
    beyond = [(low, known) for low, known, least in changes if low > max(TIMES_AS_MUCH * known, least)]
    if worse_than_base:
        reason = Reason("accepted_before", accepted.reason, subjects=[benchmark.key])
    elif grown := grown_beyond(benchmark, accepted.counts):
        reason = Reason("beyond_accepted", accepted.reason, counts=[growth(change) for change in grown])
    elif beyond:
        low, known = beyond[0]
        reason = Reason("beyond_accepted", accepted.reason, share=low, accepted_share=known)
    else:
        reasons = [*benchmark.reasons, Reason("accepted", accepted.reason)]
        return msgspec.structs.replace(benchmark, verdict="accepted", reasons=reasons)
    return msgspec.structs.replace(benchmark, reasons=[*benchmark.reasons, reason])


def still_accepted(
    accepted: Mapping[str, Accepted], baseline: Results, before: Mapping[str, Accepted] | None
) -> dict[str, Accepted]:
    """Return the accepted regressions of benchmarks that a new baseline does not contain, and of a proposed change.

    `before`: what the base of a proposed change has accepted already; None if this is no proposed change.
    """
    recorded = {benchmark.key for benchmark in baseline.benchmarks}
    new = set() if before is None else {key for key, one in accepted.items() if before.get(key) != one}
    return {key: one for key, one in accepted.items() if key not in recorded or key in new}
