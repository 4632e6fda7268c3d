"""The baselines and accepted regressions of a base commit."""

import contextlib
from pathlib import Path

import msgspec

from plumbline.comparing.trees.base import Base
from plumbline.comparing.trees.git import Git
from plumbline.judging.accepted import FILE, decode_accepted
from plumbline.judging.evidence import Accepted
from plumbline.results.files import ResultsError, decode_results
from plumbline.results.schema import Results


def baselines_at(root: Path, base: Base, folder: Path) -> dict[str, Results]:
    """Return the baselines of the base commit that can be used, by file name."""
    git = Git(root)
    found: dict[str, Results] = {}
    if not (folder := folder.resolve()).is_relative_to(git.top):  # git does not follow links
        return found
    below = folder.relative_to(git.top).as_posix()
    for name in git.ask("ls-tree", "-z", "--name-only", base.commit, f"{below}/").split("\0"):
        if name.endswith(".json") and not name.endswith(f"/{FILE}"):
            file = git.top / name
            with contextlib.suppress(ResultsError):
                found[file.name] = decode_results(git.contents(base.commit, file).encode(), file)
    return found


def accepted_at(root: Path, base: Base, folder: Path) -> dict[str, Accepted]:
    """Return the accepted regressions of the base commit, none if their file is missing or cannot be used."""
    with contextlib.suppress(msgspec.DecodeError):
        return decode_accepted(Git(root).contents(base.commit, folder / FILE).encode())
    return {}
