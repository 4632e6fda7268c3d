"""Reading and writing results and baselines, whole or not at all."""

import contextlib
import json
import math
import os
import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import msgspec

from plumbline.project import nox_command
from plumbline.results.schema import SCHEMA, Benchmark, Results

MOST_RUNS = 200
T = TypeVar("T")
_KEPT = ("key", "unit", "verdict", "median", "mean", "p95", "p99", "samples", "change")
# Names: of benchmarks, tests, files, counts, and of what the schema enumerates.
_MATCHED = {
    *("key", "renamed_from", "subjects", "name", "file", "where", "collected_files", "deselected", "app_elsewhere"),
    *("environment", "profile", "created", "baseline", "baseline_commit", "baseline_created"),
    *("verdict", "kind", "outcome", "unit", "source_hash", "counts_varying", "counted"),
}
_NOT_KEPT = ("tests", "collected_files", "deselected", "base_differences", "service_lines", "problems")


class ResultsError(Exception):
    """A results or baseline file cannot be used or written: exit code 3."""


def read_results(path: Path) -> Results:
    """Read a results or baseline file; raises FileNotFoundError, and ResultsError if it is unreadable or damaged."""
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
    """Return the content of a file. Raises ResultsError if it is empty, corrupt, of another schema, or impossible."""
    if not data.strip():
        raise ResultsError(f"{path} is empty")
    try:
        schema = msgspec.json.decode(data, type=_SchemaOnly).schema
    except (msgspec.DecodeError, RecursionError) as error:  # ValidationError is one, too
        raise ResultsError(f"{path} is not a results file: {error}") from None
    if schema != SCHEMA:
        advice = "update Plumbline" if schema > SCHEMA else f"record it again with `{nox_command()} -s baseline`"
        raise ResultsError(f"{path} has schema {schema}, this version of Plumbline reads {SCHEMA}: {advice}")
    try:
        results = msgspec.convert(_with_typed_reasons(msgspec.json.decode(data)), Results)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ResultsError(f"{path} is damaged or was edited by hand: {error}") from None
    if twice := sorted(key for key, n in Counter(one.key for one in results.benchmarks).items() if n > 1):
        raise ResultsError(f"{path} holds {twice[0]} twice")
    return results


def _with_typed_reasons(document: Any) -> Any:
    """Turn the reasons of the first version, which were texts, into those that are shown as they are."""
    benchmarks = document.get("benchmarks")
    for entry in [document, *(benchmarks if isinstance(benchmarks, list) else [])]:
        if isinstance(entry, dict) and isinstance(reasons := entry.get("reasons"), list):
            entry["reasons"] = [{"kind": "ended", "detail": one} if isinstance(one, str) else one for one in reasons]
    return document


class _SchemaOnly(msgspec.Struct):
    schema: int


def write_results(path: Path, results: Results) -> None:
    write_whole(path, dump_results(results))


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all, through links; raises ResultsError, and then the old one is unchanged."""
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _without_name(target.parent) or temporary.open("xb") as file:
            file.write(text.encode(errors="replace"))
            file.flush()
            os.fsync(file.fileno())
            if not temporary.exists():
                # With a folder's descriptor, which this path makes no use of, Python follows the link.
                os.link(f"/proc/self/fd/{file.fileno()}", temporary, src_dir_fd=file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise ResultsError(f"{path} can't be written: {error.strerror}; what was there is unchanged") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _without_name(folder: Path) -> BinaryIO | None:
    """Return a new file that is gone if this process is killed; None if the system has no such files."""
    with contextlib.suppress(OSError, AttributeError):
        Path("/proc/self/fd").stat()  # gives it its name later
        return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666), "wb")
    return None


def redacted(record: T, scrub: Callable[[str], str]) -> T:
    """Return a record whose texts for readers `scrub` has gone over; what is matched with other records stays."""
    if isinstance(record, str):
        return cast(T, scrub(record))
    if isinstance(record, list | tuple) and record and isinstance(record[0], str | msgspec.Struct):
        return cast(T, [redacted(one, scrub) for one in record])
    if isinstance(record, msgspec.Struct):
        texts = {name: getattr(record, name) for name in record.__struct_fields__ if name not in _MATCHED}
        return msgspec.structs.replace(record, **{name: redacted(text, scrub) for name, text in texts.items()})
    return record


def dump_results(results: Results) -> str:
    """Return readable JSON: a line for each benchmark, test and package, sorted; figures have five digits."""
    fields = rounded(msgspec.to_builtins(results), digits=5)
    for name in fields.keys() & {"benchmarks", "tests"}:
        fields[name].sort(key=lambda entry: str(entry["key"]))
    lines = [f"  {json.dumps(name)}: {_block(value)}" for name, value in fields.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _block(value: object, indent: str = "  ") -> str:
    """A list of objects one line each, an object one line an entry, all else on one line."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        rows = [f"{indent}  {json.dumps(entry, ensure_ascii=False)}" for entry in value]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    if isinstance(value, dict) and value:
        rows = [f"{indent}  {json.dumps(key)}: {_block(entry, indent + '  ')}" for key, entry in sorted(value.items())]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    return json.dumps(value, ensure_ascii=False)


def rounded(value: Any, digits: int) -> Any:
    """Return a value whose floats have so many significant digits; raises ResultsError if one is not finite."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ResultsError(f"a figure is {value}: not written")
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: rounded(entry, digits) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry, digits) for entry in value]
    return value


def keep_run(folder: Path, results: Results) -> None:
    """Add a run that measured something to `history/`, without samples, and remove the oldest; raises ResultsError."""
    if not results.benchmarks or not results.created:
        return
    benchmarks = [Benchmark(counts={}, **{name: getattr(one, name) for name in _KEPT}) for one in results.benchmarks]
    kept = {"benchmarks": benchmarks, "environment": msgspec.structs.replace(results.environment, packages={})}
    lean = msgspec.structs.replace(results, **kept, **{key: [] for key in _NOT_KEPT})
    # Sorted by name, runs are sorted by time; some file systems refuse colons.
    name = f"{results.created.replace(':', '').replace('+0000', 'Z')}-{results.environment.commit[:10] or 'none'}.json"
    write_results(folder / "history" / name, lean)
    for path in sorted((folder / "history").glob("*.json"))[:-MOST_RUNS]:
        with contextlib.suppress(OSError):
            path.unlink()


def earlier_runs(folder: Path) -> list[Results]:
    """Return the runs of the history, oldest first, without those that cannot be read."""
    found = []
    for path in sorted((folder / "history").glob("*.json"))[-MOST_RUNS:]:
        with contextlib.suppress(ResultsError, OSError):
            found.append(read_results(path))
    return found
