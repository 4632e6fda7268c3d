"""Reading and writing results and baselines. A file is written completely or not at all."""

import contextlib
import errno
import json
import math
import os
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import msgspec

from plumbline.project import nox_command
from plumbline.results.schema import FORMER_SCHEMA, SCHEMA, Benchmark, Results

MOST_RUNS = 200
T = TypeVar("T")
_KEPT = ("key", "unit", "verdict", "median", "mean", "p95", "p99", "samples", "change")
# Fields that are compared with other records, so redaction must not change them.
_MATCHED = {
    *("keys", "settings_hash", "divided_by"),
    *("key", "renamed_from", "subjects", "name", "file", "where", "collected_files", "deselected", "app_elsewhere"),
    *("environment", "profile", "created", "baseline", "baseline_commit", "baseline_created"),
    *("verdict", "kind", "outcome", "unit", "source_hash", "counts_varying", "counted", "unread"),
}
_NOT_KEPT = ("tests", "collected_files", "deselected", "base_differences", "service_lines", "problems")


class ResultsError(Exception):
    """A results or baseline file cannot be read or written: exit code 3."""


def read_results(path: Path) -> Results:
    """Read a results or baseline file. Raises FileNotFoundError, or ResultsError if it is unreadable or damaged."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ResultsError(f"{path} can't be read: it is a pipe or a device")  # reading a pipe would wait
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise ResultsError(f"{path} is a link to a file that does not exist") from None
        raise
    except OSError as error:
        raise ResultsError(f"{path} can't be read: {error.strerror}") from None
    return decode_results(data, path)


def decode_results(data: bytes, path: Path) -> Results:
    """Decode the content of a file. Raises ResultsError if it is empty, damaged or has another schema."""
    if not data.strip():
        raise ResultsError(f"{path} is empty")
    try:
        schema = msgspec.json.decode(data, type=SchemaOnly).schema
    except (msgspec.DecodeError, RecursionError) as error:  # includes ValidationError
        raise ResultsError(f"{path} is not a results file: {error}") from None
    if schema not in (FORMER_SCHEMA, SCHEMA):
        advice = "update Plumbline" if schema > SCHEMA else f"record it again with `{nox_command()} -s baseline`"
        raise ResultsError(f"{path} has schema {schema}, but this version of Plumbline reads {SCHEMA}: {advice}")
    try:
        document = msgspec.json.decode(data)
        results = msgspec.convert(_from_version_0_1(document) if schema == FORMER_SCHEMA else document, Results)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ResultsError(f"{path} is damaged or was edited by hand: {error}") from None
    if twice := sorted(key for key, n in Counter(one.key for one in results.benchmarks).items() if n > 1):
        raise ResultsError(f"{path} has the benchmark {twice[0]} twice")
    return results


def field_twice(data: bytes) -> str:
    """Return a field that an object of a JSON document has twice, "" if there is none. Parsers take the last one."""
    found = list[str]()

    def note(pairs: list[tuple[str, object]]) -> None:
        found.extend(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)

    json.loads(data, object_pairs_hook=note)
    return found[0] if found else ""


def _from_version_0_1(document: Any) -> Any:
    """Convert the schema of version 0.1. Machine speed was `pace_s`. Reasons were texts, and later objects."""
    benchmarks = document.get("benchmarks")
    for entry in [document, *(benchmarks if isinstance(benchmarks, list) else [])]:
        if isinstance(entry, dict):
            if isinstance(reasons := entry.get("reasons"), list):
                typed = ({"kind": "ended", "detail": one} if isinstance(one, str) else one for one in reasons)
                entry["reasons"] = [*typed]
            if "pace_s" in entry:
                entry["machine_speed_s"] = entry.pop("pace_s")
    return document | {"schema": SCHEMA}


class SchemaOnly(msgspec.Struct):
    """The number of the schema, whatever else a file has."""

    schema: int


def write_results(path: Path, results: Results) -> None:
    write_whole(path, dump_results(results))


def write_whole(path: Path, text: str | bytes) -> None:
    """Write a file completely or not at all. Links are followed. Raises ResultsError.

    A device or a pipe stays what it is, and the text is written into it.
    """
    target = Path(os.path.realpath(path))
    if _is_device(path):
        return _write_into(path, text)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _without_name(target.parent) or temporary.open("xb") as file:
            file.write(text if isinstance(text, bytes) else text.encode(errors="replace"))
            file.flush()
            os.fsync(file.fileno())
            if not temporary.exists():
                # os.link follows the link of an absolute path only if src_dir_fd is given; its value is not used.
                os.link(f"/proc/self/fd/{file.fileno()}", temporary, src_dir_fd=file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise ResultsError(f"{path} can't be written: {error.strerror}; this file is unchanged") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _is_device(path: Path) -> bool:
    """Return whether a path is a device, a pipe or an open file of this process, such as /dev/stdout."""
    place = os.path.abspath(path)  # noqa: PTH100, resolving would find the file behind /dev/stdout
    if place.startswith(("/dev/", "/proc/")) and not place.startswith("/dev/shm/"):  # noqa: S108
        return not path.is_dir()
    return path.exists() and not path.is_file() and not path.is_dir()


def _write_into(path: Path, text: str | bytes) -> None:
    """Write into a device or a pipe. Raises ResultsError if that is not possible, or if no process reads the pipe."""
    try:
        if path.is_block_device():
            raise ResultsError(f"{path} can't be written: it is a disk; name a file")
        if sys.stdout is not None:
            sys.stdout.flush()
        # Opening a pipe that no process reads would wait for one.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
        os.set_blocking(descriptor, True)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode(errors="replace"))
    except OSError as error:
        unread = "no process reads this pipe" if error.errno == errno.ENXIO and path.is_fifo() else error.strerror
        raise ResultsError(f"{path} can't be written: {unread}") from None


def _without_name(folder: Path) -> BinaryIO | None:
    """Open a file without a name, which vanishes if this process is killed. None if the system has no such files."""
    with contextlib.suppress(OSError, AttributeError):
        Path("/proc/self/fd").stat()  # needed later to give the file its name
        return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666), "wb")
    return None


def redacted(record: T, scrub: Callable[[str], str]) -> T:
    """Apply `scrub` to the texts of a record, but not to names that are compared with other records."""
    if isinstance(record, str):
        return cast(T, scrub(record))
    if isinstance(record, list | tuple) and record and isinstance(record[0], str | msgspec.Struct):
        return cast(T, [redacted(one, scrub) for one in record])
    if isinstance(record, msgspec.Struct):
        texts = {name: getattr(record, name) for name in record.__struct_fields__ if name not in _MATCHED}
        return msgspec.structs.replace(record, **{name: redacted(text, scrub) for name, text in texts.items()})
    return record


def dump_results(results: Results) -> str:
    """Return JSON with a line for each benchmark, test and package, sorted. Numbers have five significant digits."""
    fields = rounded(msgspec.to_builtins(results), digits=5)
    for name in fields.keys() & {"benchmarks", "tests"}:
        fields[name].sort(key=lambda entry: str(entry["key"]))
    lines = [f"  {json.dumps(name)}: {_block(value)}" for name, value in fields.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _block(value: object, indent: str = "  ") -> str:
    """Return JSON with a line for each object of a list and for each entry of an object."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        rows = [f"{indent}  {json.dumps(entry, ensure_ascii=False)}" for entry in value]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    if isinstance(value, dict) and value:
        rows = [f"{indent}  {json.dumps(key)}: {_block(entry, indent + '  ')}" for key, entry in sorted(value.items())]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    return json.dumps(value, ensure_ascii=False)


def rounded(value: Any, digits: int) -> Any:
    """Round the floats in a value to so many significant digits. Raises ResultsError if a float is not finite."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ResultsError(f"the results can't be written: a number is {value}")
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: rounded(entry, digits) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry, digits) for entry in value]
    return value


def keep_run(folder: Path, results: Results) -> None:
    """Add a run to `history/`, without its samples, and remove the oldest runs. Raises ResultsError."""
    if not results.benchmarks or not results.created:
        return
    took_s = {test.key: test.duration_s for test in results.tests}
    benchmarks = [
        Benchmark(counts={}, duration_s=took_s.get(one.key, 0.0), **{name: getattr(one, name) for name in _KEPT})
        for one in results.benchmarks
    ]
    kept = {"benchmarks": benchmarks, "environment": msgspec.structs.replace(results.environment, packages={})}
    lean = msgspec.structs.replace(results, **kept, **{key: [] for key in _NOT_KEPT})
    # Names sort by time. Some file systems do not allow colons.
    name = f"{results.created.replace(':', '').replace('+0000', 'Z')}-{results.environment.commit[:10] or 'none'}.json"
    write_results(folder / "history" / name, lean)
    for path in sorted((folder / "history").glob("*.json"))[:-MOST_RUNS]:
        with contextlib.suppress(OSError):
            path.unlink()


def newest_runs(folder: Path) -> Iterator[Results]:
    """Yield the readable runs of the history, newest first."""
    for path in sorted((folder / "history").glob("*.json"), reverse=True):
        with contextlib.suppress(ResultsError, OSError):
            yield read_results(path)


def earlier_runs(folder: Path, most: int = MOST_RUNS) -> list[Results]:
    """Return the newest readable runs of the history, oldest first."""
    return [*islice(newest_runs(folder), most)][::-1]
