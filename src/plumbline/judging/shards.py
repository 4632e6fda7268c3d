"""Merge the results of the shards of one run. `decide.conclude` gives the verdict of the whole."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from plumbline.judging.decide import FOUND_AGAIN, conclude
from plumbline.judging.missing import names_of
from plumbline.results.schema import Benchmark, Environment, Kind, Reason, Results, Shard, TestOutcome

Entry = TypeVar("Entry", Benchmark, TestOutcome)
PACKAGE = "pytest-plumbline"
# Reasons whose detail is a sentence, which can begin with the shard.
OF_A_SHARD: set[Kind] = {"ended", "comparison_invalid", "no_comparison"}


class Part(Struct, frozen=True):
    """The results of one shard, and the folder that they are in."""

    folder: str
    results: Results
    shard: Shard


def merge_shards(
    parts: Sequence[Part], unreadable: Sequence[str], *, settings_hash: str, fail_on: Sequence[str]
) -> Results:
    """Return the results of the whole run. It is invalid if a shard is missing, or if the shards are not of one run.

    `parts`: at least one. `unreadable`: why folders have no results of a shard. `settings_hash`: of the settings that
    `fail_on` is from.
    """
    parts = sorted(parts, key=lambda part: part.shard.number)
    runs = [part.results for part in parts]
    with_base = next((run for run in runs if run.base), runs[0])
    reasons = _reasons_of(parts)
    merged = replace(
        runs[0],
        environment=_environment_of(runs),
        benchmarks=_benchmarks_of(parts),
        tests=_first_of_each(test for run in runs for test in run.tests),
        created=max(run.created for run in runs),
        duration_s=max(run.duration_s for run in runs),
        exit_code=None,
        reasons=[
            *(Reason("shard_unreadable", why) for why in unreadable),
            *_missing_and_twice(parts),
            *_differences(parts, settings_hash),
            *(reason for reason in reasons if reason.kind != "unmeasured_allowed"),
        ],
        notes=[*_notes_on(parts), *dict.fromkeys(note for run in runs for note in run.notes)],
        baseline_differences=[*dict.fromkeys(one for run in runs for one in run.baseline_differences)],
        base=with_base.base,
        base_differences=with_base.base_differences,
        unjudged_packages=[*dict.fromkeys(one for run in runs for one in run.unjudged_packages)],
        collected_files=sorted({file for run in runs for file in run.collected_files}),
        deselected=sorted(set.intersection(*({*run.deselected} for run in runs))),
        app_elsewhere=sorted({key for run in runs for key in run.app_elsewhere}),
        service_lines=[*dict.fromkeys(line for run in runs for line in run.service_lines)],
        problems=[],
        shard=None,
    )
    return conclude(merged, [one for one in reasons if one.kind == "unmeasured_allowed"], fail_on)


def _missing_and_twice(parts: Sequence[Part]) -> list[Reason]:
    folders: dict[int, list[str]] = {}
    for part in parts:
        folders.setdefault(part.shard.number, []).append(part.folder)
    of = max(part.shard.of for part in parts)
    missing = [f"{number} of {of}" for number in range(1, of + 1) if number not in folders]
    twice = [Reason("shard_twice", str(number), found) for number, found in folders.items() if len(found) > 1]
    return [*([Reason("shard_missing", subjects=missing)] if missing else []), *twice]


def _differences(parts: Sequence[Part], settings_hash: str) -> list[Reason]:
    """Return the reason why these shards are not of one run, if they are not."""
    begun = [part for part in parts if part.shard.keys or not _ended(part)]  # the tests of the others are not known
    judged = [part for part in begun if part.results.baseline]  # the others ended before they were
    compared = [part for part in parts if part.results.base]
    known = [part for part in parts if part.results.environment.packages]
    found = {
        "the number of shards": _differing(parts, lambda part: str(part.shard.of)),
        "commits": _differing(parts, lambda part: _commit_of(part.results.environment)),
        "profiles": _differing(parts, lambda part: part.results.profile),
        "versions of Plumbline": _differing(known, lambda part: part.results.environment.packages.get(PACKAGE, "none")),
        "settings.toml": _differing(parts, lambda part: part.shard.settings_hash),
        "base commits": _differing(compared, lambda part: part.results.base),
        "whether it is a proposed change": _differing(judged, lambda part: "yes" if part.shard.proposed else "no"),
        "durations that divide them": _differing(begun, lambda part: part.shard.divided_by or "none"),
        "tests of the whole run": _differing(begun, lambda part: _tests_of(part, begun)),
    }
    texts = [f"{name}: {values}" for name, values in found.items() if values]
    if not texts and settings_hash != parts[0].shard.settings_hash:
        texts = [
            f"settings.toml here is not theirs: check out their commit, {_commit_of(parts[0].results.environment)}"
        ]
    if not texts and (wrong := _wrongly_divided(begun)):
        texts = [f"{len(wrong):,} of their tests ran in no shard or in several, such as {wrong[0]}"]
    return [Reason("shards_differ", "; ".join(texts))] if texts else []


def _differing(parts: Sequence[Part], value_of: Callable[[Part], str]) -> str:
    """Return the values with their shards, "" if there is only one value: `5 (shards 1, 2), 4 (shard 3)`."""
    values: dict[str, list[int]] = {}
    for part in parts:
        values.setdefault(value_of(part), []).append(part.shard.number)
    return ", ".join(f"{value} ({_shards(numbers)})" for value, numbers in values.items()) if len(values) > 1 else ""


def _shards(numbers: Sequence[int]) -> str:
    return f"shard{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _commit_of(environment: Environment) -> str:
    changes = " with uncommitted changes" if environment.dirty else ""
    return f"{environment.commit[:10] or 'none'}{changes}"


def _tests_of(part: Part, parts: Sequence[Part]) -> str:
    """Return the number of tests of the whole run, and one that not all shards know."""
    keys = {*part.shard.keys}
    common = set.intersection(*({*one.shard.keys} for one in parts))
    return f"{len(keys):,}" + (f" with {min(keys - common)}" if keys - common else "")


def _wrongly_divided(parts: Sequence[Part]) -> list[str]:
    """Return the tests that did not run in exactly one shard, if all shards are there and ran to their ends."""
    if not parts or len({part.shard.number for part in parts}) < parts[0].shard.of or any(map(_ended, parts)):
        return []
    shards = [{test.key for test in part.results.tests} for part in parts]
    return [key for key in parts[0].shard.keys if sum(key in shard for shard in shards) != 1]


def _ended(part: Part) -> bool:
    """Return whether something has ended this shard early."""
    return any(reason.kind not in FOUND_AGAIN for reason in part.results.reasons)


def _benchmarks_of(parts: Sequence[Part]) -> list[Benchmark]:
    """Return all benchmarks, and those of the baseline that no shard has measured, by its old name or a new one."""
    measured = _first_of_each(one for part in parts for one in part.results.benchmarks)
    known = names_of(measured)
    absent = _first_of_each(one for part in parts for one in part.shard.absent)
    return [*measured, *(one for one in absent if one.key not in known)]


def _reasons_of(parts: Sequence[Part]) -> list[Reason]:
    """Return the reasons of the shards that the whole run has as well. Equal ones are merged."""
    numbers: dict[tuple[Kind, str, bool], list[int]] = {}
    subjects: dict[tuple[Kind, str, bool], list[str]] = {}
    for part in parts:
        for reason in part.results.reasons:
            if reason.kind not in FOUND_AGAIN:
                which = (reason.kind, reason.detail, reason.when_repeated)
                numbers.setdefault(which, []).append(part.shard.number)
                subjects.setdefault(which, []).extend(reason.subjects)
    return [
        Reason(
            kind,
            f"{_shards(of)}: {detail}" if kind in OF_A_SHARD and len(of) < len(parts) else detail,
            subjects=[*dict.fromkeys(subjects[kind, detail, repeated])],
            when_repeated=repeated,
        )
        for (kind, detail, repeated), of in numbers.items()
    ]


def _environment_of(runs: Sequence[Results]) -> Environment:
    """Return the environment of the first shard, with the names of all machines: it is none that a baseline is of."""
    first = runs[0].environment
    machines, cpus = ([*dict.fromkeys(getattr(run.environment, name) for run in runs)] for name in ("machine", "cpu"))
    pin = first.pin if len(machines) == 1 else None
    return replace(first, machine=" + ".join(machines), cpu=" + ".join(cpus), pin=pin)


def _notes_on(parts: Sequence[Part]) -> list[str]:
    """Return what was merged, and what is different between the machines but is judged shard by shard."""

    def services(part: Part) -> str:
        of = part.results.environment
        named = (f"{name} {backend} {of.versions.get(name, '')}" for name, backend in sorted(of.services.items()))
        return ", ".join(map(str.strip, named)) or "none"

    found = {
        "CPUs": _differing(parts, lambda part: part.results.environment.cpu),
        "versions of Python": _differing(parts, lambda part: part.results.environment.python),
        "services": _differing(parts, services),
    }
    differing = [f"the shards had different {name}: {values}" for name, values in found.items() if values]
    return [f"merged from {_shards([part.shard.number for part in parts])}", *differing]


def _first_of_each(entries: Iterable[Entry]) -> list[Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        found.setdefault(entry.key, entry)
    return list(found.values())
