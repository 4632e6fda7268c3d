"""Which commit the working tree is compared with: asked of git and, where a clone is shallow, of its remote."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline.project import nox_command

FETCH_LIMIT_S = 20.0
COMMAND_LIMIT_S = 120.0
DEEPENING_SHARE = 0.75
"""Of the limit; what is left of it is for fetching one commit alone."""
DEEPENING = ("--deepen=50", "--deepen=500", "--unshallow")
MOST_TOLD = 3
TARGETS = (
    "PERF_BASE",
    "GITHUB_BASE_REF",
    # Where GitLab tests the merged result, HEAD contains the target's newest commit; elsewhere this one is empty.
    "CI_MERGE_REQUEST_TARGET_BRANCH_SHA",
    "CI_MERGE_REQUEST_DIFF_BASE_SHA",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME",
)
"""Variables that name what a change is to be merged into, the first that is set wins."""
FROM_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")
"""Set where git runs us out of a hook, and meant for git alone."""
ADVICE = "Fetch it by hand, or check out the whole history (GitHub: `fetch-depth: 0`; GitLab: `GIT_DEPTH: 0`)."


class NoBase(Exception):
    """Why the base can't be had or rebuilt, in a sentence for the reader."""


@dataclass(frozen=True)
class Base:
    commit: str
    """The full hash."""
    why: str
    """How it was chosen: "merge base with main (GITHUB_BASE_REF)"."""


def find_base(
    root: Path,
    revision: str = "",
    baseline: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    fetch_limit_s: float = FETCH_LIMIT_S,
) -> Base:
    """The commit to compare the working tree in `root` with.

    `revision` is compared with as it is. Without one, it is the merge base with the target of a pull or merge request, or
    with PERF_BASE; elsewhere the newest commit that changed the file `baseline`. A shallow clone is deepened, within
    `fetch_limit_s` in all. Raises NoBase.
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
            f"there is no baseline, and so no commit to compare with: record one with `{nox_command()} -s baseline`, or name the"
            f" commit, as in `{nox_command()} -s compare -- main`"
        )
    return Base(_last_change(git, baseline), f"the newest commit that changed {baseline.name}")


def is_proposed(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether there is something to be merged into, as in a pull request: what `find_base` compares with then."""
    return any(environ.get(name) for name in TARGETS)


def _asked_for(git: "Git", revision: str) -> str:
    def find() -> str:
        return git.commit(revision) or git.commit(f"refs/remotes/{git.remote}/{revision}")

    found = find() or git.fetch_alone(revision) or (git.deepen(find) if git.boundaries() else "")
    if not found:
        raise NoBase(f"{revision!r} names no commit here{git.what_was_tried()}. {ADVICE}")
    return found


def _merge_base(git: "Git", target: str, name: str, environ: Mapping[str, str]) -> str:
    branch = f"refs/remotes/{git.remote}/{target}"
    names = [target, branch] if name == "PERF_BASE" else [branch, target]

    def find() -> str:
        tip = next(filter(None, map(git.commit, names)), "")
        return git.ask("merge-base", "HEAD", tip) if tip else ""

    refspec = "" if _is_hash(target) else f"+refs/heads/{target}:{branch}"
    found = find() or git.deepen(find, refspec)
    if not found:
        # Either is the merge base itself: of a merged result, the target's newest commit is a parent of HEAD.
        known = [target] if _is_hash(target) and name.startswith("CI_MERGE_REQUEST_") else []
        if name == "GITHUB_BASE_REF" and environ.get("GITHUB_REF", "").endswith("/merge"):
            # HEAD is GitHub's comparison merge, whose first parent is the target's newest commit.
            known = re.findall(r"^parent (\w+)$", git.ask("cat-file", "-p", "HEAD"), re.MULTILINE)[:1]
        found = next(filter(None, map(git.fetch_alone, known)), "")
    if not found:
        raise NoBase(f"no merge base with {target} ({name}) can be found{git.what_was_tried()}. {ADVICE}")
    return found


def _last_change(git: "Git", file: Path) -> str:
    def find() -> str:
        # The oldest commit of a shallow clone looks as if it had made every file.
        commit = git.ask("log", "-1", "--format=%H", "--", str(file.absolute()))
        return "" if commit in git.boundaries() else commit

    found = find() or (git.deepen(find) if git.boundaries() else "")
    if not found:
        why = "the commit that last changed it is not in this shallow clone" if git.boundaries() else "it isn't in git"
        raise NoBase(f"{file.name} leads to no commit to compare with: {why}{git.what_was_tried()}. {ADVICE}")
    return found


class Git:
    """The repository around a folder; commands run in its root, prompt for nothing, and are killed when late."""

    def __init__(
        self, root: Path, environ: Mapping[str, str] = os.environ, fetch_limit_s: float = FETCH_LIMIT_S
    ) -> None:
        """Raises NoBase where there is no git, no repository, or no commit."""
        self._folder = root
        self._environ = {name: value for name, value in environ.items() if name not in FROM_HOOKS} | {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GCM_INTERACTIVE": "never",
            "LC_ALL": "C",
        }
        self._fetch_limit_s = fetch_limit_s
        self._fetching_since: float | None = None
        self._tried: list[str] = []
        self.top = Path(self.run("rev-parse", "--show-toplevel").strip("\n"))
        """The working tree's root."""
        self.prefix = self.run("rev-parse", "--show-prefix").strip("\n")
        """The folder's path below `top`, with a slash at its end; empty where they are the same."""
        remotes = self.ask("remote").split()
        self.remote = "origin" if "origin" in remotes else next(iter(remotes), "")
        ssh = environ.get("GIT_SSH_COMMAND") or self.ask("config", "core.sshCommand") or "ssh"
        self._environ["GIT_SSH_COMMAND"] = f"{ssh} -o BatchMode=yes"
        self._folder = self.top

    def run(self, *arguments: str, environ: Mapping[str, str] = {}) -> str:
        """What a command prints; raises NoBase with what it said where it fails."""
        code, output, errors = self._run(arguments, COMMAND_LIMIT_S, environ)
        if code:
            raise NoBase(f"`git {arguments[0]}` failed in {self._folder}: {_last_lines(errors) or f'exit code {code}'}")
        return output

    def ask(self, *arguments: str) -> str:
        """What a command prints, stripped; empty where it fails."""
        code, output, _ = self._run(arguments, COMMAND_LIMIT_S)
        return output.strip() if code == 0 else ""

    def commit(self, name: str) -> str:
        """The full hash of the commit that a revision names; empty where it is not here."""
        return self.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")

    def boundaries(self) -> list[str]:
        """The commits at which a shallow clone ends; none in a whole one."""
        file = self._folder / self.ask("rev-parse", "--git-path", "shallow")
        return file.read_text(encoding="ascii").split() if file.is_file() else []

    def deepen(self, find: Callable[[], str], refspec: str = "") -> str:
        """Fetch more and more history, and `refspec`, until `find` finds something; empty where it never does."""
        wanted = [refspec] if refspec else []
        for option in DEEPENING:
            boundaries = self.boundaries()
            if not boundaries:
                break
            # By commit, as HEAD may be on no branch of the remote; some servers hand out branches alone.
            if not self._fetch(DEEPENING_SHARE, option, *boundaries, *wanted):
                self._fetch(DEEPENING_SHARE, option, *wanted)
            if found := find():
                return found
        else:
            return ""
        if wanted:
            self._fetch(DEEPENING_SHARE, *wanted)
        return find()

    def fetch_alone(self, name: str) -> str:
        """Fetch one commit, branch or tag without its history; returns the hash, empty where it can't be had."""
        if not re.fullmatch(r"[\w./-]+", name):
            return ""
        depth = ["--depth=1"] if self.boundaries() else []  # would cut off the history of a whole clone
        return self.commit("FETCH_HEAD") if self._fetch(1.0, *depth, name) else ""

    def what_was_tried(self) -> str:
        """For a message: each fetch that failed and why."""
        if not self.remote:
            return " (there is no remote to fetch from)"
        tried = list(dict.fromkeys(self._tried))[:MOST_TOLD]
        return f" (tried: {'; '.join(tried)})" if tried else ""

    def _fetch(self, share: float, *arguments: str) -> bool:
        if not self.remote:
            return False
        if self._fetching_since is None:
            self._fetching_since = time.monotonic()
        left_s = self._fetch_limit_s * share - (time.monotonic() - self._fetching_since)
        options = [argument for argument in arguments if argument.startswith("--")]
        names = [argument for argument in arguments if not argument.startswith("--")]
        command = ("fetch", "--no-tags", "--quiet", "--no-recurse-submodules", *options, "--", self.remote, *names)
        shown = " ".join(["git fetch", *options, self.remote, *names[-1:]])
        try:
            if left_s <= 0:
                raise subprocess.TimeoutExpired(command, left_s)
            code, _, errors = self._run(command, left_s)
        except subprocess.TimeoutExpired:
            code, errors = 1, f"not done in time: all fetching may take {self._fetch_limit_s:g} s"
        if code:
            self._tried.append(f"`{shown}`: {_last_lines(errors, 1)}")
        return code == 0

    def _run(self, arguments: Sequence[str], limit_s: float, environ: Mapping[str, str] = {}) -> tuple[int, str, str]:
        command = ["git", "-C", str(self._folder), "-c", f"core.hooksPath={os.devnull}", *arguments]
        try:
            return run(command, limit_s=limit_s, environ={**self._environ, **environ})
        except FileNotFoundError:
            raise NoBase("git is not installed, so there is no commit to compare with") from None
        except subprocess.TimeoutExpired:
            if arguments[0] == "fetch":
                raise
            raise NoBase(f"`git {arguments[0]}` was not done within {limit_s:g} s in {self._folder}") from None


def run(
    command: Sequence[str], *, limit_s: float, environ: Mapping[str, str] = os.environ, cwd: Path | None = None
) -> tuple[int, str, str]:
    """Run a command in a session of its own: without a terminal to prompt on, and killed with its children.

    Returns its exit code, output and errors. Raises FileNotFoundError and subprocess.TimeoutExpired.
    """
    child = subprocess.Popen(
        command,
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="surrogateescape",
        start_new_session=True,
    )
    try:
        output, errors = child.communicate(timeout=limit_s)
    except BaseException:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        child.kill()
        child.wait()
        raise
    finally:
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()
    return child.returncode, output, errors


def scrub(text: str) -> str:
    """Text in which a URL is no more than its scheme and host: the rest may hold a token."""
    return re.sub(r"(\w+://)(?:[^/\s'\"]*@)?([^/\s'\"?#]+)[^\s'\"]*", r"\1\2/…", text)


def _last_lines(text: str, count: int = 3) -> str:
    lines = [line.strip() for line in scrub(text).splitlines() if line.strip()]
    return " / ".join(lines[-count:])


def _is_hash(name: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name) is not None
