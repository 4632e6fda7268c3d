"""The base commit of the working tree, and the target of a proposed change."""

import contextlib
import functools
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline.comparing.trees.git import ADVICE, Git, NoBase
from plumbline.project import SUITE, nox_command
from plumbline.results.files import ResultsError, decode_results
from plumbline.results.schema import Results

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
