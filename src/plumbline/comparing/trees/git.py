"""Git commands in the repository of a project."""

import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from plumbline.processes import last_lines, run_command
from plumbline.repository import git_command

FETCH_LIMIT_S = 20.0
COMMAND_LIMIT_S = 120.0
DEEPENING = ("--deepen=50", "--deepen=500", "--unshallow")
MOST_SHOWN = 3
# Options for untracked files. An installation with setuptools writes *.egg-info, which is no change of the code.
UNTRACKED = ("--others", "--exclude-standard", "--exclude=*.egg-info/")
NO_REPOSITORY = (
    "Use a checkout by `git clone`, with all of its `.git` (GitHub: `actions/checkout` needs git in the job's image)"
)
# Git appends this to each error.
NOT_READ = """fatal: Could not read from remote repository.

Please make sure you have the correct access rights
and the repository exists.
"""
ADVICE = "or check out the whole history (GitHub: `fetch-depth: 0`; GitLab: `GIT_DEPTH: 0`)."


class NoBase(Exception):
    """There is no base commit, or it cannot be run. The message is shown to the user."""


class Git:
    """The repository that contains a folder. Commands run in its root, never prompt, and have a time limit."""

    def __init__(self, folder: Path) -> None:
        """Raises NoBase if there is no git or no repository."""
        self.top = folder
        # `prefix` is the folder's path relative to the root, with a slash at its end; "" if the folder is the root.
        try:
            self.prefix, top = self.run("rev-parse", "--show-prefix", "--show-toplevel").split("\n")[:2]
        except NoBase as error:
            raise NoBase(f"{error}. {NO_REPOSITORY}" if "not a git repository" in str(error) else str(error)) from None
        self.top = Path(top).resolve()
        remotes = self.ask("remote").split()
        self.remote = "origin" if "origin" in remotes else next(iter(remotes), "")
        self._began_s = time.monotonic()
        self._failed_fetches: dict[str, list[str]] = {}  # commands by error message

    def run(self, *arguments: str, environ: Mapping[str, str] = {}) -> str:
        """Return the output of a command. Raises NoBase with its error message if it fails."""
        return self.checked(*arguments, environ=environ)[0]

    def checked(
        self,
        *arguments: str,
        options: Sequence[str] = (),
        environ: Mapping[str, str] = {},
        limit_s: float = COMMAND_LIMIT_S,
    ) -> tuple[str, str]:
        """Return the output and the error output of a command. Raises NoBase with its error message if it fails."""
        code, output, errors = self._run(*arguments, options=options, environ=environ, limit_s=limit_s)
        if code:
            cause = last_lines(errors.replace(NOT_READ, ""), 3) or f"exit code {code}"
            raise NoBase(f"`git {arguments[0]}` failed in {self.top}: {cause}")
        return output, errors

    def ask(self, *arguments: str) -> str:
        """Return the output of a command, stripped, or "" if it fails."""
        code, output, _ = self._run(*arguments)
        return output.strip() if code == 0 else ""

    def names(self, *options: str, environ: Mapping[str, str] = {}) -> list[str]:
        return self.run("ls-files", "-z", *options, environ=environ).split("\0")[:-1]

    def contents(self, commit: str, file: Path) -> str:
        """Return the contents of a file in a commit, stripped, or "" if the commit lacks it."""
        path = file.resolve()  # git does not follow links
        return (
            self.ask("show", f"{commit}:{path.relative_to(self.top).as_posix()}")
            if path.is_relative_to(self.top)
            else ""
        )

    def commit(self, *names: str) -> str:
        """Return the full hash of the first of these revisions that exists here, or ""."""
        command = ("rev-parse", "--verify", "--quiet", "--end-of-options")
        return next(filter(None, (self.ask(*command, f"{name}^{{commit}}") for name in names)), "")

    def boundaries(self) -> list[str]:
        """Return the commits at which a shallow clone ends, none if the clone is complete."""
        file = self.top / self.ask("rev-parse", "--git-path", "shallow")
        return file.read_text(encoding="ascii").split() if file.is_file() else []

    def tips(self, branch: str) -> list[str]:
        """Return the newest commits of a branch: the local branch, and the last fetched one of each remote."""
        refs = (f"refs/heads/{branch}", f"refs/remotes/*/{branch}")
        return self.ask("for-each-ref", "--format=%(objectname)", *refs).split()

    def default_branch(self) -> str:
        """Return the name of the default branch, by the clone or the remote, or "" if it is unknown."""
        prefix = f"refs/remotes/{self.remote}/"
        if name := self.ask("symbolic-ref", "--quiet", f"{prefix}HEAD").removeprefix(prefix):
            return name
        if name := next(filter(self.tips, ("main", "master")), ""):
            return name
        if not self.remote or not (self.boundaries() or self.ask("for-each-ref", "--count=1", prefix)):
            return ""  # there is no remote, or nothing of it was fetched
        with contextlib.suppress(subprocess.TimeoutExpired):
            _, output, _ = self._run("ls-remote", "--symref", "--", self.remote, "HEAD", limit_s=FETCH_LIMIT_S)
            if found := re.match(r"ref: refs/heads/(\S+)\s", output):
                return found[1]
        return ""

    def deepen(self, find: Callable[[], str], *refspecs: str) -> str:
        """Fetch more and more history, and `refspecs`, until `find` returns something. Return that, or ""."""
        for option in DEEPENING:
            if not (boundaries := self.boundaries()):
                return find() if refspecs and self._fetch("", *refspecs) else ""
            # Fetch by commit, because HEAD may not be on a branch of the remote. Some servers serve only branches.
            if not self._fetch(option, *boundaries, *refspecs):
                self._fetch(option, *refspecs)
            if found := find():
                return found
        return ""

    def fetch_alone(self, name: str) -> str:
        """Fetch one commit, branch or tag without its history. Return its hash, or "" if that fails."""
        depth = "--depth=1" if self.boundaries() else ""  # this option would make a complete clone shallow
        is_name = re.fullmatch(r"[\w./-]+", name)
        return self.commit("FETCH_HEAD") if is_name and self._fetch(depth, name) else ""

    def attempts(self) -> str:
        """Return the failed fetches and their errors, in brackets, for the end of a message."""
        failed = [f"{', '.join(fetches[:MOST_SHOWN])}: {errors}" for errors, fetches in self._failed_fetches.items()]
        tried = f" (tried: {'; '.join(failed[:MOST_SHOWN])})" if failed else ""
        return tried if self.remote else " (there is no remote to fetch from)"

    def _fetch(self, option: str, *names: str) -> bool:
        if not self.remote:
            return False
        options = [option] if option else []
        command = ("fetch", "--no-tags", "--quiet", "--no-recurse-submodules", *options, "--", self.remote, *names)
        left_s = self._began_s + FETCH_LIMIT_S - time.monotonic()
        code, errors = 1, f"not done within the limit of {FETCH_LIMIT_S:g} s for all fetches"
        if left_s > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code, _, errors = self._run(*command, limit_s=left_s)
        if code:
            shown = " ".join(["git fetch", *options, self.remote, *names[-1:]])
            cause = last_lines(errors.replace(NOT_READ, "") or errors, 3)
            self._failed_fetches.setdefault(cause, []).append(f"`{shown}`")
        return code == 0

    def _run(
        self,
        *arguments: str,
        options: Sequence[str] = (),
        environ: Mapping[str, str] = {},
        limit_s: float = COMMAND_LIMIT_S,
    ) -> tuple[int, str, str]:
        command, around = git_command(self.top, *options, *arguments)
        try:
            return run_command(command, limit_s, {**around, **environ})
        except FileNotFoundError:
            raise NoBase("git is not installed, so there is no commit to compare with") from None
        except OSError as error:
            raise NoBase(f"git can't be run: {error}") from None
        except subprocess.TimeoutExpired:
            if arguments[0] in ("fetch", "ls-remote"):
                raise
            raise NoBase(f"`git {arguments[0]}` was not done within {limit_s:g} s in {self.top}") from None
