"""Git commands in the repository around a folder, and the commit that its working tree is compared with."""

import contextlib
import functools
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from plumbline.processes import last_lines, run_command
from plumbline.project import nox_command
from plumbline.results.files import ResultsError, decode_results
from plumbline.results.schema import Results

FETCH_LIMIT_S = 20.0
COMMAND_LIMIT_S = 120.0
DEEPENING = ("--deepen=50", "--deepen=500", "--unshallow")
MOST_SHOWN = 3
FROM_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")  # set in a git hook
NO_PROMPT = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "SSH_ASKPASS": "false", "GCM_INTERACTIVE": "never"}
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


class NoBase(Exception):
    """There is no base commit, or it cannot be rebuilt: the reason in a sentence for the reader."""


class Git:
    """The repository around a folder. Commands run in its root, never prompt, and are killed at a time limit."""

    def __init__(self, folder: Path) -> None:
        """Raises NoBase if there is no git or no repository."""
        self.top = folder
        ours = {name: value for name, value in os.environ.items() if name not in FROM_HOOKS}
        self._environ = {**ours, **NO_PROMPT, "LC_ALL": "C"}
        # `prefix` is the path of the folder below the root, with a slash at its end; empty if both are the same.
        self.prefix, top = self.run("rev-parse", "--show-prefix", "--show-toplevel").split("\n")[:2]
        self.top = Path(top).resolve()
        remotes = self.ask("remote").split()
        self.remote = "origin" if "origin" in remotes else next(iter(remotes), "")
        self._began_s = time.monotonic()
        self._failed_fetches: list[str] = []

    def run(self, *arguments: str, environ: Mapping[str, str] = {}) -> str:
        """Return the output of a command; raises NoBase with its last errors if it fails."""
        code, output, errors = self._run(*arguments, environ=environ)
        if code:
            raise NoBase(f"`git {arguments[0]}` failed in {self.top}: {last_lines(errors, 3) or f'exit code {code}'}")
        return output

    def ask(self, *arguments: str) -> str:
        """Return the output of a command, stripped; empty if it fails."""
        code, output, _ = self._run(*arguments)
        return output.strip() if code == 0 else ""

    def names(self, *options: str, environ: Mapping[str, str] = {}) -> list[str]:
        return self.run("ls-files", "-z", *options, environ=environ).split("\0")[:-1]

    def commit(self, *names: str) -> str:
        """Return the full hash of the commit that the first of these revisions names; empty if none is here."""
        command = ("rev-parse", "--verify", "--quiet", "--end-of-options")
        return next(filter(None, (self.ask(*command, f"{name}^{{commit}}") for name in names)), "")

    def boundaries(self) -> list[str]:
        """Return the commits at which a shallow clone ends; none for a complete clone."""
        file = self.top / self.ask("rev-parse", "--git-path", "shallow")
        return file.read_text(encoding="ascii").split() if file.is_file() else []

    def deepen(self, find: Callable[[], str], *refspecs: str) -> str:
        """Fetch more and more history, and `refspecs`, until `find` finds something; empty if it never does."""
        for option in DEEPENING:
            if not (boundaries := self.boundaries()):
                return find() if refspecs and self._fetch("", *refspecs) else ""
            # By commit, because HEAD may be on no branch of the remote; some servers serve branches only.
            if not self._fetch(option, *boundaries, *refspecs):
                self._fetch(option, *refspecs)
            if found := find():
                return found
        return ""

    def fetch_alone(self, name: str) -> str:
        """Fetch one commit, branch or tag without its history. Returns its hash; empty if that fails."""
        depth = "--depth=1" if self.boundaries() else ""  # would cut off the history of a complete clone
        is_name = re.fullmatch(r"[\w./-]+", name)
        return self.commit("FETCH_HEAD") if is_name and self._fetch(depth, name) else ""

    def attempts(self) -> str:
        """Return the fetches that failed and why, in brackets, for the end of a message."""
        failed = list(dict.fromkeys(self._failed_fetches))[:MOST_SHOWN]
        tried = f" (tried: {'; '.join(failed)})" if failed else ""
        return tried if self.remote else " (there is no remote to fetch from)"

    def _fetch(self, option: str, *names: str) -> bool:
        if not self.remote:
            return False
        options = [option] if option else []
        command = ("fetch", "--no-tags", "--quiet", "--no-recurse-submodules", *options, "--", self.remote, *names)
        left_s = self._began_s + FETCH_LIMIT_S - time.monotonic()
        code, errors = 1, f"not done in time: all fetching may take {FETCH_LIMIT_S:g} s"
        if left_s > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code, _, errors = self._run(*command, limit_s=left_s)
        if code:
            shown = " ".join(["git fetch", *options, self.remote, *names[-1:]])
            self._failed_fetches.append(f"`{shown}`: {last_lines(errors, 1)}")
        return code == 0

    def _run(
        self, *arguments: str, environ: Mapping[str, str] = {}, limit_s: float = COMMAND_LIMIT_S
    ) -> tuple[int, str, str]:
        command = ["git", "-C", str(self.top), "-c", f"core.hooksPath={os.devnull}", *arguments]
        try:
            return run_command(command, limit_s, {**self._environ, **environ})
        except FileNotFoundError:
            raise NoBase("git is not installed, so there is no commit to compare with") from None
        except subprocess.TimeoutExpired:
            if arguments[0] == "fetch":
                raise
            raise NoBase(f"`git {arguments[0]}` was not done within {limit_s:g} s in {self.top}") from None


@dataclass(frozen=True)
class Base:
    """A base commit."""

    commit: str  # the full hash
    why: str  # it was chosen: "merge base with main (GITHUB_BASE_REF)"


def is_proposed() -> bool:
    """Return whether the working tree is a proposed change, as in a pull request; `find_base` then uses its target."""
    return any(map(os.environ.get, TARGETS))


def find_base(root: Path, revision: str = "", baseline: Path | None = None) -> Base:
    """Return the commit to compare the working tree in `root` with.

    That is `revision` if it is given, else the merge base with the target of a pull request, a merge request or
    PERF_BASE, else the newest commit that changed the file `baseline`. A shallow clone is deepened, within
    FETCH_LIMIT_S seconds in all. Raises NoBase.
    """
    git = Git(root)
    if revision:
        find = functools.partial(git.commit, revision, f"refs/remotes/{git.remote}/{revision}")
        found = find() or git.fetch_alone(revision) or git.deepen(find)
        why, problem = f"as asked: {revision}", f"{revision!r} names no commit here"
    elif name := next(filter(os.environ.get, TARGETS), ""):
        found = _merge_base(git, os.environ[name], name)
        why = f"merge base with {os.environ[name]} ({name})"
        problem = f"no merge base with {os.environ[name]} ({name}) can be found"
    elif baseline is not None:
        find = functools.partial(_last_change, git, baseline)
        found = find() or git.deepen(find)
        why = f"the newest commit that changed {baseline.name}"
        lost = "the commit that last changed it is not in this shallow clone" if git.boundaries() else "it isn't in git"
        problem = f"{baseline.name} leads to no commit to compare with: {lost}"
    else:
        raise NoBase(
            "there is no baseline, and so no commit to compare with: record one with"
            f" `{nox_command()} -s baseline`, or name the commit, as in `{nox_command()} -s compare -- main`"
        )
    if not found:
        raise NoBase(f"{problem}{git.attempts()}. {ADVICE}")
    return Base(found, why)


def baseline_at(root: Path, base: Base, file: Path) -> Results | None:
    """Return the baseline file as it is in the base commit; None if it is not there, or cannot be used."""
    git = Git(root)
    shown = git.ask("show", f"{base.commit}:{git.prefix}{file.relative_to(root).as_posix()}")
    with contextlib.suppress(ResultsError):
        return decode_results(shown.encode(), file) if shown else None
    return None


def _merge_base(git: Git, target: str, variable: str) -> str:
    branch = f"refs/remotes/{git.remote}/{target}"
    names = [target, branch] if variable == "PERF_BASE" else [branch, target]

    def find() -> str:
        tip = git.commit(*names)
        return git.ask("merge-base", "HEAD", tip) if tip else ""

    is_hash = re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", target) is not None
    known, ref, merge = "", os.environ.get("GITHUB_REF", ""), os.environ.get("GITHUB_SHA")
    if is_hash and variable.startswith("CI_MERGE_REQUEST_"):
        known = target  # GitLab names the merge base itself: of a merged result, that is the target's newest commit
    elif variable == "GITHUB_BASE_REF" and ref.endswith("/merge") and git.commit("HEAD") == merge:
        # HEAD is GitHub's trial merge. Its first parent is the target's newest commit.
        known = git.ask("cat-file", "-p", "HEAD").partition("\nparent ")[2].partition("\n")[0]
    refspecs = [] if is_hash else [f"+refs/heads/{target}:{branch}"]
    return find() or (git.fetch_alone(known) if known else "") or git.deepen(find, *refspecs)


def _last_change(git: Git, file: Path) -> str:
    commit = git.ask("log", "-1", "--format=%H", "--", str(file.absolute()))
    return "" if commit in git.boundaries() else commit  # where a shallow clone ends, a commit seems to make every file
