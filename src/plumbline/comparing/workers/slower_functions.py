"""Which functions take more time in head than in base, by the profiles of both.

Times are longer than without a profiler, on both sides.
"""

import itertools
import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from plumbline.cache import digest
from plumbline.comparing.workers.profiler import PARTS, Profile
from plumbline.results.schema import FunctionTime

MOST_SHOWN = 12
# A function is shown if it slowed down by this share of what the worst one did.
LEAST_SHARE = 0.05
# In names of functions in which an event loop waits. They come last: they got slower because something else did.
WAITING = ("'poll'", "'select'", "'control'")
OURS = "plumbline"
# Folders that differ between environments; below the last one lies a folder for the minor version.
LIBRARIES = ("/site-packages/", "/dist-packages/", "/lib/python3.")


def slower_functions(key: str, folders: Mapping[str, Path], trees: Mapping[str, Path]) -> list[FunctionTime]:
    """Return the functions that take more time in head, the worst first; none if either side wrote no whole profile.

    `key`: of the benchmark. `folders` and `trees`: by side, where its profiles are, and the tree that it ran.
    """
    profiles = {side: folder / digest(key) for side, folder in folders.items()}
    operations = {side: test.operations for side, at in profiles.items() if (test := _read(at / "test.json"))}
    if operations.keys() != profiles.keys() or not all(map(sum, operations.values())):
        return []
    # By process, file and function: of each side, the time and the calls of one operation.
    found: dict[tuple[str, str, str], dict[str, tuple[float, float]]] = {}
    lines: dict[tuple[str, str, str], int] = {}
    for process, side in itertools.product(("test", "app"), profiles):
        seen = _of_process(profiles[side] / f"{process}.json", trees[side], operations[side])
        for (file, name), (time_s, calls, line) in seen.items():
            function = ("" if process == "test" else process, file, name)
            found.setdefault(function, {})[side] = time_s, calls
            lines[function] = line
    times = []
    for function, by_side in found.items():
        where, file, name = function
        (base_s, base_calls), (head_s, head_calls) = (by_side.get(side, (0.0, 0.0)) for side in ("base", "head"))
        times.append(FunctionTime(name, file, lines[function], base_s, head_s, base_calls, head_calls, where))
    return _worst(times)


def _of_process(path: Path, tree: Path, operations: Sequence[int]) -> dict[tuple[str, str], tuple[float, float, int]]:
    """Return by file and name the time of an operation in seconds, its calls, and the line; empty without a profile.

    `operations`: of the worker's parts. How they are spread over the application's parts is not known: evenly.
    """
    profile = _read(path) or Profile([])
    together = sum(operations)
    each: Sequence[float] = profile.operations or [together / PARTS] * PARTS
    parts = [(part, count) for part, count in zip(profile.parts, each, strict=False) if count]
    times_s: dict[tuple[str, str], list[float]] = {}
    calls: Counter[tuple[str, str]] = Counter()
    lines: dict[tuple[str, str], int] = {}
    for number, (part, count) in enumerate(parts):
        for seen in part:
            file = _below(seen.file, tree)
            key = file, seen.name
            calls[key] += seen.calls
            lines[key] = seen.line
            # The repository's own functions include the time of what they call; library functions do not.
            is_own = Path(seen.file).is_relative_to(tree) and OURS not in Path(file).parts
            parts_s = times_s.setdefault(key, [0.0] * len(parts))
            parts_s[number] += (seen.total_s if is_own else seen.own_s) / count
    return {key: (statistics.median(times_s[key]), calls[key] / together, lines[key]) for key in calls}


def _worst(functions: Collection[FunctionTime]) -> list[FunctionTime]:
    slower = sorted((one for one in functions if one.head_s > one.base_s), key=lambda one: one.base_s - one.head_s)
    waiting = [one for one in slower if any(word in one.name for word in WAITING)]
    working = [one for one in slower if one not in waiting]
    least_s = LEAST_SHARE * (working[0].head_s - working[0].base_s) if working else 0.0
    return [one for one in [*working, *waiting] if one.head_s - one.base_s >= least_s][:MOST_SHOWN]


def _below(file: str, tree: Path) -> str:
    """Return the path below the tree or below the folder of packages, which is the same on both sides."""
    if Path(file).is_relative_to(tree):
        return Path(file).relative_to(tree).as_posix()
    for folder in LIBRARIES:
        if (at := file.rfind(folder)) >= 0:
            rest = file[at + len(folder) :]
            return rest.partition("/")[2] if folder.endswith("python3.") else rest
    return file


def _read(path: Path) -> Profile | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Profile)
    except (OSError, msgspec.DecodeError):
        return None
