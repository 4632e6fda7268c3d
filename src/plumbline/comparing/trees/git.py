"""Git commands in the repository around a folder; fetching what a shallow clone lacks."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from plumbline.comparing.trees.commands import last_lines, run

FETCH_LIMIT_S = 20.0
COMMAND_LIMIT_S = 120.0
# Share of the limit for deepening; the rest is for fetching one commit alone.
DEEPENING_SHARE = 0.75
DEEPENING = ("--deepen=50", "--deepen=500", "--unshallow")
MOST_SHOWN = 3
# Set when a git hook runs us, and meant for git alone.
FROM_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")


class NoBase(Exception):
    """There is no base commit, or it cannot be rebuilt: the reason in a sentence for the reader."""


class Git:
    """The repository around a folder. Commands run in its root, never prompt, and are killed at a time limit."""

    def __init__(
        self, root: Path, environ: Mapping[str, str] = os.environ, fetch_limit_s: float = FETCH_LIMIT_S
    ) -> None:
        """Raises NoBase if there is no git or no repository."""
        self._folder = root
        self._environ = {name: value for name, value in environ.items() if name not in FROM_HOOKS} | {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GCM_INTERACTIVE": "never",
            "LC_ALL": "C",
        }
        self._fetch_limit_s = fetch_limit_s
        self._fetching_since: float | None = None
        self._failed_fetches: list[str] = []
        self.top = Path(self.run("rev-parse", "--show-toplevel").strip("\n"))
        """The root of the working tree."""
        self.prefix = self.run("rev-parse", "--show-prefix").strip("\n")
        """Path of the folder below `top`, with a slash at its end; empty if both are the same."""
        remotes = self.ask("remote").split()
        self.remote = "origin" if "origin" in remotes else next(iter(remotes), "")
        ssh = environ.get("GIT_SSH_COMMAND") or self.ask("config", "core.sshCommand") or "ssh"
        self._environ["GIT_SSH_COMMAND"] = f"{ssh} -o BatchMode=yes"
        self._folder = self.top

    def run(self, *arguments: str, environ: Mapping[str, str] = {}) -> str:
        """Return the output of a command; raises NoBase with its last errors if it fails."""
        code, output, errors = self._run(arguments, COMMAND_LIMIT_S, environ)
        if code:
            reason = last_lines(errors, 3) or f"exit code {code}"
            raise NoBase(f"`git {arguments[0]}` failed in {self._folder}: {reason}")
        return output

    def ask(self, *arguments: str) -> str:
        """Return the output of a command, stripped; empty if it fails."""
        code, output, _ = self._run(arguments, COMMAND_LIMIT_S)
        return output.strip() if code == 0 else ""

    def names(self, *options: str, environ: Mapping[str, str] = {}) -> list[str]:
        """Return the lines of `git ls-files`."""
        return self.run("ls-files", "-z", *options, environ=environ).split("\0")[:-1]

    def commit(self, name: str) -> str:
        """Return the full hash of the commit that a revision names; empty if it is not here."""
        return self.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")

    def boundaries(self) -> list[str]:
        """Return the commits at which a shallow clone ends; none for a complete clone."""
        file = self._folder / self.ask("rev-parse", "--git-path", "shallow")
        return file.read_text(encoding="ascii").split() if file.is_file() else []

    def deepen(self, find: Callable[[], str], refspec: str = "") -> str:
        """Fetch more and more history, and `refspec`, until `find` finds something; empty if it never does."""
        wanted = [refspec] if refspec else []
        for option in DEEPENING:
            if not (boundaries := self.boundaries()):
                return find() if wanted and self._fetch(DEEPENING_SHARE, *wanted) else ""
            # By commit, because HEAD may be on no branch of the remote; some servers serve branches only.
            if not self._fetch(DEEPENING_SHARE, option, *boundaries, *wanted):
                self._fetch(DEEPENING_SHARE, option, *wanted)
            if found := find():
                return found
        return ""

    def fetch_alone(self, name: str) -> str:
        """Fetch one commit, branch or tag without its history. Returns its hash; empty if that fails."""
        if not re.fullmatch(r"[\w./-]+", name):
            return ""
        depth = ["--depth=1"] if self.boundaries() else []  # would cut off the history of a complete clone
        return self.commit("FETCH_HEAD") if self._fetch(1.0, *depth, name) else ""

    def attempts(self) -> str:
        """Return the fetches that failed and why, in brackets, for the end of a message."""
        if not self.remote:
            return " (there is no remote to fetch from)"
        failed = list(dict.fromkeys(self._failed_fetches))[:MOST_SHOWN]
        return f" (tried: {'; '.join(failed)})" if failed else ""

    def _fetch(self, share: float, *arguments: str) -> bool:
        if not self.remote:
            return False
        if self._fetching_since is None:
            self._fetching_since = time.monotonic()
        left_s = self._fetch_limit_s * share - (time.monotonic() - self._fetching_since)
        options = [argument for argument in arguments if argument.startswith("--")]
        names = [argument for argument in arguments if not argument.startswith("--")]
        command = ("fetch", "--no-tags", "--quiet", "--no-recurse-submodules", *options, "--", self.remote, *names)
        try:
            if left_s <= 0:
                raise subprocess.TimeoutExpired(command, left_s)
            code, _, errors = self._run(command, left_s)
        except subprocess.TimeoutExpired:
            code, errors = 1, f"not done in time: all fetching may take {self._fetch_limit_s:g} s"
        if code:
            shown = " ".join(["git fetch", *options, self.remote, *names[-1:]])
            self._failed_fetches.append(f"`{shown}`: {last_lines(errors, 1)}")
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
