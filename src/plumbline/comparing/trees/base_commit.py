"""The commit that the working tree is compared with."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plumbline.comparing.trees.git import FETCH_LIMIT_S, Git, NoBase
from plumbline.project import nox_command

# Variables that name the target of a change. The first that is set wins.
TARGETS = (
    "PERF_BASE",
    "GITHUB_BASE_REF",
    # When GitLab tests the merged result, HEAD contains the target's newest commit; otherwise this one is empty.
    "CI_MERGE_REQUEST_TARGET_BRANCH_SHA",
    "CI_MERGE_REQUEST_DIFF_BASE_SHA",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME",
)
ADVICE = "Fetch it by hand, or check out the whole history (GitHub: `fetch-depth: 0`; GitLab: `GIT_DEPTH: 0`)."


@dataclass(frozen=True)
class Base:
    """A base commit."""

    commit: str
    """The full hash."""
    why: str
    """Why it was chosen: "merge base with main (GITHUB_BASE_REF)"."""


def find_base(
    root: Path,
    revision: str = "",
    baseline: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    fetch_limit_s: float = FETCH_LIMIT_S,
) -> Base:
    """Return the commit to compare the working tree in `root` with.

    That is `revision` if it is given, else the merge base with the target of a pull request, a merge request or
    PERF_BASE, else the newest commit that changed the file `baseline`. A shallow clone is deepened, within
    `fetch_limit_s` seconds in all. Raises NoBase.
    """
    git = Git(root, environ, fetch_limit_s)
    if revision:
        return Base(_asked_for(git, revision), f"as asked: {revision}")
    name = next((name for name in TARGETS if environ.get(name)), "")
    if name:
        target = environ[name]
        return Base(_merge_base(git, target, name, environ), f"merge base with {target} ({name})")
    if baseline is None:
        raise NoBase(
            "there is no baseline, and so no commit to compare with: record one with"
            f" `{nox_command()} -s baseline`, or name the commit, as in `{nox_command()} -s compare -- main`"
        )
    return Base(_last_change(git, baseline), f"the newest commit that changed {baseline.name}")


def is_proposed(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the working tree is a proposed change, as in a pull request; `find_base` then uses its target."""
    return any(environ.get(name) for name in TARGETS)


def _asked_for(git: Git, revision: str) -> str:
    def find() -> str:
        return git.commit(revision) or git.commit(f"refs/remotes/{git.remote}/{revision}")

    found = find() or git.fetch_alone(revision) or (git.deepen(find) if git.boundaries() else "")
    if not found:
        raise NoBase(f"{revision!r} names no commit here{git.attempts()}. {ADVICE}")
    return found


def _merge_base(git: Git, target: str, name: str, environ: Mapping[str, str]) -> str:
    branch = f"refs/remotes/{git.remote}/{target}"
    names = [target, branch] if name == "PERF_BASE" else [branch, target]

    def find() -> str:
        tip = next(filter(None, map(git.commit, names)), "")
        return git.ask("merge-base", "HEAD", tip) if tip else ""

    is_hash = re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", target) is not None
    found = find() or git.deepen(find, "" if is_hash else f"+refs/heads/{target}:{branch}")
    if not found:
        # GitLab names the merge base itself: of a merged result, that is the target's newest commit.
        known = [target] if is_hash and name.startswith("CI_MERGE_REQUEST_") else []
        if name == "GITHUB_BASE_REF" and environ.get("GITHUB_REF", "").endswith("/merge"):
            # HEAD is GitHub's trial merge. Its first parent is the target's newest commit.
            known = re.findall(r"^parent (\w+)$", git.ask("cat-file", "-p", "HEAD"), re.MULTILINE)[:1]
        found = next(filter(None, map(git.fetch_alone, known)), "")
    if not found:
        raise NoBase(f"no merge base with {target} ({name}) can be found{git.attempts()}. {ADVICE}")
    return found


def _last_change(git: Git, file: Path) -> str:
    def find() -> str:
        # The oldest commit of a shallow clone seems to have made every file.
        commit = git.ask("log", "-1", "--format=%H", "--", str(file.absolute()))
        return "" if commit in git.boundaries() else commit

    found = find() or (git.deepen(find) if git.boundaries() else "")
    if not found:
        why = "the commit that last changed it is not in this shallow clone" if git.boundaries() else "it isn't in git"
        raise NoBase(f"{file.name} leads to no commit to compare with: {why}{git.attempts()}. {ADVICE}")
    return found
