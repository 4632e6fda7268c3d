"""The record of what `plumbline.install` has installed in an environment.

Each command reads it, so this module imports little.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from plumbline.project import SETTINGS, SUITE

RECORD = "plumbline.json"  # in the environment
NAMED = ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "Pipfile.lock", "uv.toml", ".python-version")
METADATA = ("pyproject.toml", "setup.py", "setup.cfg")
PATTERNS = ("requirements*.txt", "requirements/*.txt")

# Keys: `source`, the files that list requirements; `digest` of these and the Python version; `packages`, as in a
# requirements file; `files`, more files that count; `code`, Python files installed as copies; `code_digest` of these.
Record = dict[str, list[str]]


def read_record() -> Record | None:
    """Return the record of this environment, or None if something else installed it."""
    with contextlib.suppress(OSError, ValueError):
        record: Record = json.loads(Path(sys.prefix, RECORD).read_text(encoding="utf-8"))
        return record
    return None


def write_record(record: Record | None) -> None:
    """Write the record of this environment, or remove it while the environment changes."""
    path = Path(sys.prefix, RECORD)
    path.unlink(missing_ok=True)
    if record:
        path.write_text(json.dumps(record), encoding="utf-8")


def top_of(project: Path) -> Path:
    """Return the root of the project's repository, or the project if there is no repository."""
    return next((folder for folder in (project, *project.parents) if (folder / ".git").exists()), project)


def digest(project: Path, top: Path, files: Iterable[str], *others: str) -> str:
    """Return a digest of all files that can list a project's requirements, and of other values."""
    folders = [project, *(parent for parent in project.parents if parent.is_relative_to(top))]
    paths = [folder / name for folder in folders for name in (*NAMED, *METADATA)]
    paths += [path for folder in folders for pattern in PATTERNS for path in sorted(folder.glob(pattern))]
    paths += [project / SUITE / SETTINGS, *sorted((project / SUITE).glob("requirements*.txt"))]
    found = hashlib.sha256("\0".join(others).encode())
    for path in [*paths, *(project / name for name in files)]:
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            name = path.relative_to(top).as_posix() if path.is_relative_to(top) else path.name
            found.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


def tell(text: str) -> None:
    """Write to stderr, unless its reader has gone or its disk is full: that must not end an installation."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        from plumbline.processes import drop_output

        drop_output(sys.stderr)
