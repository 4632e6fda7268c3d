"""Git commands, and the base commit of the working tree."""

import contextlib
import functools
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline.processes import last_lines, run_command
from plumbline.project import SUITE, nox_command
from plumbline.repository import git_command
from plumbline.results.files import ResultsError, decode_results
from plumbline.results.schema import Results

FETCH_LIMIT_S = 20.0
COMMAND_LIMIT_S = 120.0
DEEPENING = ("--deepen=50", "--deepen=500", "--unshallow")
MOST_SHOWN = 3
# Options for untracked files. An installation with setuptools writes *.egg-info, which is no change of the code.
UNTRACKED = ("--others", "--exclude-standard", "--exclude=*.egg-info/")
# Environment variables that name the target of a proposed change. The first one that is set counts.
TARGETS = (
    "PERF_BASE",
    "GITHUB_BASE_REF",
    # When GitLab tests the merged result, HEAD contains the target's newest commit; otherwise this one is empty.
    "CI_MERGE_REQUEST_TARGET_BRANCH_SHA",
    "CI_MERGE_REQUEST_DIFF_BASE_SHA",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME",
    "CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME",  # GitLab, for a pull request of GitHub
    "BITBUCKET_PR_DESTINATION_BRANCH",
    "BUILDKITE_PULL_REQUEST_BASE_BRANCH",
    "CHANGE_TARGET",  # Jenkins
    "SYSTEM_PULLREQUEST_TARGETBRANCH",  # Azure Pipelines
    "BITRISEIO_GIT_BRANCH_DEST",
    "CI_COMMIT_TARGET_BRANCH",  # Woodpecker
    "CIRRUS_BASE_BRANCH",
)
# These name the target only in a pull request: if another variable has a value that matches.
IN_PULL_REQUEST = {
    "APPVEYOR_REPO_BRANCH": ("APPVEYOR_PULL_REQUEST_NUMBER", r"\d+"),
    "CODEBUILD_WEBHOOK_BASE_REF": ("CODEBUILD_WEBHOOK_EVENT", r"PULL_REQUEST_\w+"),
    "DRONE_TARGET_BRANCH": ("DRONE_BUILD_EVENT", "pull_request"),
    "SEMAPHORE_GIT_BRANCH": ("SEMAPHORE_GIT_REF_TYPE", "pull-request"),
    "TRAVIS_BRANCH": ("TRAVIS_PULL_REQUEST", r"\d+"),
}
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
QUEUE = re.compile(r"refs/heads/gh-readonly-queue/(.+)/pr-\d+-\w+")
FUNCTION = re.compile(r"^\s*(?:async\s+)?def\s+(\w+)", re.MULTILINE)
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


@dataclass(frozen=True)
class Base:
    """A base commit."""

    commit: str  # the full hash
    why: str  # reason for this choice, such as "merge base with main (GITHUB_BASE_REF)"

    @property
    def shown(self) -> str:
        """1a2b3c4d5e, merge base with main (GITHUB_BASE_REF)"""
        return f"{self.commit[:10]}, {self.why}"


@dataclass(frozen=True)
class _Target:
    """The target of a proposed change."""

    name: str  # a branch or a hash; "" if it is unknown
    source: str  # the variable that names the target, or a description such as "default branch"


def is_proposed(root: Path) -> bool:
    """Return whether HEAD is a proposed change.

    A proposed change is a pull or merge request, a merge queue, a run with PERF_BASE, or a branch with commits that the
    default branch lacks. The default branch itself is never one, even with commits that have not been pushed. If git
    cannot read the repository, only environment variables count.
    """
    if _named_target():
        return True
    branch, default = _names_in_ci()
    try:
        return _default_branch(Git(root)) is not None
    except NoBase:
        return bool(branch and default and branch != default)


def is_default_branch(root: Path, branch: str) -> bool:
    """Return whether a branch is the default branch, and this is no pull or merge request from one of that name."""
    if not branch or _named_target(TARGETS[1:]):  # PERF_BASE is the first: it may be set on the default branch
        return False
    try:
        return branch == (default_branch_in_ci() or Git(root).default_branch())
    except NoBase:
        return False


def _named_target(names: Sequence[str] = TARGETS) -> _Target | None:
    """Return the target that PERF_BASE or the variables of a pipeline name, if any."""
    if name := next(filter(os.environ.get, names), ""):
        return _Target(os.environ[name].removeprefix("refs/heads/"), name)
    for name, (variable, value) in IN_PULL_REQUEST.items():
        if re.fullmatch(value, os.environ.get(variable, "")):
            return _Target(os.environ.get(name, "").removeprefix("refs/heads/"), name)
    queue = QUEUE.fullmatch(os.environ.get("GITHUB_REF", ""))
    if queue or os.environ.get("GITHUB_EVENT_NAME") == "merge_group":
        commit = _github_event("merge_group", "base_sha")
        return _Target(commit or (queue[1] if queue else ""), "merge queue")
    if os.environ.get("CI_PIPELINE_SOURCE") == "merge_request_event":
        return _Target("", "merge request")
    name = _github_event("pull_request", "base", "ref")  # for reviews, too, for which GitHub sets no variable
    return _Target(name, "pull request") if name else None


def _github_event(*keys: str) -> str:
    """Return a text from the event of this GitHub workflow run, or "" if it is missing."""
    try:
        found = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_bytes())
        for key in keys:
            found = found[key]
    except (KeyError, OSError, TypeError, ValueError):
        return ""
    return found if isinstance(found, str) else ""


def _names_in_ci() -> tuple[str, str]:
    """Return the names of the pipeline's branch and of the default branch, "" if unknown."""
    branch = "" if _is_tag() else os.environ.get("CI_COMMIT_BRANCH") or os.environ.get("GITHUB_REF_NAME", "")
    return branch, os.environ.get("CI_DEFAULT_BRANCH") or _github_event("repository", "default_branch")


def default_branch_in_ci() -> str:
    """Return the name of the default branch as a pipeline knows it; "" if it does not, or if this is none."""
    return _names_in_ci()[1]


def _is_tag() -> bool:
    return os.environ.get("GITHUB_REF_TYPE") == "tag" or bool(os.environ.get("CI_COMMIT_TAG"))


def _default_branch(git: Git) -> _Target | None:
    """Return the default branch if HEAD has commits that it lacks, otherwise None. Raises NoBase."""
    if not (head := git.commit("HEAD")):
        return None
    branch, default = _names_in_ci()
    if (os.environ.get("CI_COMMIT_SHA") or os.environ.get("GITHUB_SHA") or head) != head:
        branch = ""  # the pipeline has checked out something else
    branch = git.ask("symbolic-ref", "--quiet", "HEAD").removeprefix("refs/heads/") or branch
    default = default or git.default_branch()
    if not default or branch == default:
        # A shallow clone of one branch comes from a pipeline, and here the default branch is unknown.
        return _Target("", "branch") if not default and git.boundaries() else None
    target = _Target(default, "default branch")
    if tips := git.tips(default):
        return target if git.ask("merge-base", "HEAD", *tips) != head else None
    return None if _is_tag() else target


def find_base(root: Path, revision: str = "", baseline: Path | None = None) -> Base:
    """Return the base commit of the working tree in `root`.

    This is `revision` if it is given, or else the merge base with the target of a proposed change, or else the newest
    commit that changed the file `baseline`. A shallow clone is deepened, for up to FETCH_LIMIT_S. Raises NoBase.
    """
    git = Git(root)
    if revision:
        find = functools.partial(git.commit, revision, f"refs/remotes/{git.remote}/{revision}")
        found = find() or git.fetch_alone(revision) or git.deepen(find)
        why, problem = f"as asked: {revision}", f"{revision!r} names no commit here"
    elif target := _named_target() or _default_branch(git):
        if not target.name:
            raise NoBase(f"the target of this {target.source} is unknown: set PERF_BASE to the name of its branch")
        found = _merge_base(git, target)
        named = f"{target.name[:12] if HASH.fullmatch(target.name) else target.name} ({target.source})"
        why, problem = f"merge base with {named}", f"no merge base with {named} can be found"
    elif baseline is not None:
        find = functools.partial(_last_change, git, baseline)
        found = find() or git.deepen(find)
        why = f"the newest commit that changed {baseline.name}"
        problem = f"there is no commit to compare with: {baseline.name}"
        if not found and not git.boundaries():
            raise NoBase(f"{problem} is not in git. Commit it")
        problem += " was last changed by a commit that this shallow clone lacks"
    else:
        raise NoBase(
            f"there is no baseline, and so no commit to compare with: record a baseline with `{nox_command()} -s"
            f" baseline`, or name a commit, as in `{nox_command()} -s compare -- main`"
        )
    if not found:
        fetch = f"git fetch {'--unshallow ' if git.boundaries() else ''}{git.remote or 'origin'}"
        raise NoBase(f"{problem}{git.attempts()}. Run `{fetch}` first, {ADVICE}")
    return Base(found, why)


def baseline_at(root: Path, base: Base, file: Path) -> Results | None:
    """Return the baseline file of the base commit, or None if it is missing or cannot be used."""
    git = Git(root)
    shown = git.contents(base.commit, file)
    with contextlib.suppress(ResultsError):
        return decode_results(shown.encode(), file) if shown else None
    return None


def has_changed(root: Path, base: Base, names: Iterable[str]) -> bool:
    """Return whether any files with these names, in any folder, differ from the base. Raises NoBase."""
    patterns = [f":(top,glob)**/{name}" for name in names]
    return bool(Git(root).run("diff", "--name-only", base.commit, "--", *patterns).strip())


def functions_at(root: Path, base: Base, file: str) -> set[str] | None:
    """Return the names of the functions in a file of the suite in the base commit, or None if it lacks the file."""
    source = Git(root).contents(base.commit, root / SUITE / file)
    return set(FUNCTION.findall(source)) if source else None


def functions_in(file: Path) -> set[str]:
    """Return the names of the functions and methods in a file, none if the file is missing."""
    return set(FUNCTION.findall(file.read_text("utf-8", errors="replace"))) if file.is_file() else set()


def _merge_base(git: Git, target: _Target) -> str:
    name, source = target.name, target.source
    at_remote = name.removeprefix(f"{git.remote}/") if source == "PERF_BASE" else name
    branch = f"refs/remotes/{git.remote}/{at_remote}"
    names = [name, branch] if source == "PERF_BASE" else [branch, name]

    def find() -> str:
        tips = git.tips(name) if source == "default branch" else list(filter(None, [git.commit(*names)]))
        return git.ask("merge-base", "HEAD", *tips) if tips else ""

    is_hash = HASH.fullmatch(name) is not None
    known, ref, merge = "", os.environ.get("GITHUB_REF", ""), os.environ.get("GITHUB_SHA")
    if is_hash and source != "PERF_BASE":
        known = name  # GitLab and GitHub's merge queue name the merge base itself
    elif source in ("GITHUB_BASE_REF", "pull request") and ref.endswith("/merge") and git.commit("HEAD") == merge:
        # HEAD is GitHub's test merge. Its first parent is the newest commit of the target.
        known = git.ask("cat-file", "-p", "HEAD").partition("\nparent ")[2].partition("\n")[0]
    refspecs = [] if is_hash else [f"+refs/heads/{at_remote}:{branch}"]
    return find() or (known and (git.commit(known) or git.fetch_alone(known))) or git.deepen(find, *refspecs)


def _last_change(git: Git, file: Path) -> str:
    commit = git.ask("log", "-1", "--format=%H", "--", str(file.resolve()))
    return "" if commit in git.boundaries() else commit  # the last commit of a shallow clone seems to add every file
