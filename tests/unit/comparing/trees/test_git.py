import os
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

import pytest

from plumbline.comparing.trees import base, git
from plumbline.comparing.trees.base import Base, baseline_at, find_base, has_changed
from plumbline.comparing.trees.git import NoBase
from plumbline.results.files import dump_results
from tests.support.report_samples import benchmark, results
from tests.support.repository import Repository

BASELINE = "tests/performance/baselines/linux.json"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Three commits on main, the second of which changed the baseline."""
    made = Repository.create(tmp_path / "repository", {"app.py": "one"})
    made.commit({BASELINE: "{}"})
    made.commit({"app.py": "two"})
    return made


@pytest.fixture
def silent_remote() -> Iterator[str]:
    """The address of a git server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"git://127.0.0.1:{server.getsockname()[1]}/repository"


@pytest.fixture(autouse=True)
def no_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the variables of a pipeline that runs these tests."""
    for name in os.environ:
        if name in base.TARGETS or name.startswith(("GITHUB_", "CI_")):
            monkeypatch.delenv(name)


def base_of(root: Path, revision: str = "", baseline: Path | None = None, variables: Mapping[str, str] = {}) -> Base:
    with mock.patch.dict(os.environ, variables):
        return find_base(root, revision, baseline)


def no_base(root: Path, revision: str = "", baseline: Path | None = None, variables: Mapping[str, str] = {}) -> str:
    with pytest.raises(NoBase) as error:
        base_of(root, revision, baseline, variables)
    return str(error.value)


def test_a_given_revision_is_compared_with_as_it_is(repository: Repository) -> None:
    """A pull request does not change the base of `compare -- REV`."""
    found = base_of(repository.root, "HEAD~2", repository.root / BASELINE, variables={"GITHUB_BASE_REF": "main"})
    assert found == Base(repository.git("rev-parse", "HEAD~2"), "as asked: HEAD~2")


def test_an_unknown_revision_is_named(repository: Repository) -> None:
    """A revision that looks like an option is not used as one."""
    assert "'mian' names no commit here" in no_base(repository.root, "mian")
    assert "'--all' names no commit here" in no_base(repository.root, "--all")


def test_without_a_target_the_base_is_the_newest_change_of_the_baseline(repository: Repository) -> None:
    """Later commits do not matter."""
    found = base_of(repository.root, "", repository.root / BASELINE)
    assert found == Base(repository.git("rev-parse", "HEAD~1"), f"the newest commit that changed {Path(BASELINE).name}")


def test_a_dirty_baseline_still_leads_to_the_commit_that_changed_it(repository: Repository) -> None:
    """Only git decides which commit changed the file, not the commit in the baseline."""
    recorded = '{"environment": {"commit": "deadbeef", "dirty": true}}'
    commit = repository.commit({BASELINE: recorded})
    repository.write({BASELINE: "{}"})
    assert base_of(repository.root, "", repository.root / BASELINE).commit == commit


def test_a_baseline_that_was_never_committed_is_reported(repository: Repository) -> None:
    """The messages for an uncommitted and for a missing baseline differ."""
    repository.write({"new.json": "{}"})
    said = no_base(repository.root, baseline=repository.root / "new.json")
    assert said == "there is no commit to compare with: new.json is not in git. Commit it"
    assert "nox -s baseline" in no_base(repository.root)


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"GITHUB_BASE_REF": "main"}, "main (GITHUB_BASE_REF)"),
        ({"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main"}, "main (CI_MERGE_REQUEST_TARGET_BRANCH_NAME)"),
        ({"PERF_BASE": "origin/main", "GITHUB_BASE_REF": "gone"}, "origin/main (PERF_BASE)"),
        ({"PERF_BASE": "HEAD~1"}, "HEAD~1 (PERF_BASE)"),
    ],
)
def test_the_base_of_a_pull_request_is_the_merge_base(
    repository: Repository, tmp_path: Path, variables: dict[str, str], why: str
) -> None:
    """Later commits of the target do not matter. PERF_BASE has priority."""
    clone = repository.clone(tmp_path / "clone")
    clone.git("switch", "--quiet", "--create", "feature")
    clone.commit({"app.py": "three"})
    repository.commit({"app.py": "on main meanwhile"})
    clone.git("fetch", "--quiet")
    found = base_of(clone.root, variables=variables)
    assert found == Base(clone.git("rev-parse", "HEAD~1"), f"merge base with {why}")


def test_gitlab_names_the_merge_base_itself(repository: Repository) -> None:
    """The target's commit of a merged result has priority over CI_MERGE_REQUEST_DIFF_BASE_SHA."""
    first, second = repository.git("rev-parse", "HEAD~2"), repository.git("rev-parse", "HEAD~1")
    gitlab = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": first, "CI_MERGE_REQUEST_TARGET_BRANCH_SHA": ""}
    assert base_of(repository.root, variables=gitlab).commit == first
    assert base_of(repository.root, variables={**gitlab, "CI_MERGE_REQUEST_TARGET_BRANCH_SHA": second}).commit == second


def test_a_clone_of_one_commit_is_deepened(repository: Repository, tmp_path: Path) -> None:
    """The only commit of a shallow clone seems to add the baseline. The right one is fetched."""
    clone = repository.clone(tmp_path / "clone", "--depth=1")
    assert clone.git("log", "-1", "--format=%H", "--", BASELINE) == repository.head()
    found = base_of(clone.root, "", clone.root / BASELINE)
    assert found.commit == repository.git("rev-parse", "HEAD~1")


def test_a_detached_clone_of_one_commit_gets_its_target(repository: Repository, tmp_path: Path) -> None:
    """A pipeline checks out one commit on no branch, without the target's branch."""
    fork = repository.head()
    repository.git("switch", "--quiet", "--create", "feature")
    change = repository.commit({"app.py": "three"})
    repository.git("switch", "--quiet", "main")
    repository.commit({"app.py": "on main meanwhile"})
    clone = repository.clone(tmp_path / "clone", "--depth=1", "--branch=feature")
    clone.git("checkout", "--quiet", "--detach", change)
    clone.git("branch", "--quiet", "--delete", "--force", "feature")
    assert base_of(clone.root, variables={"GITHUB_BASE_REF": "main"}).commit == fork


@pytest.mark.parametrize("name", ["main", "origin/main"])
def test_a_shallow_clone_gets_what_perf_base_names(repository: Repository, tmp_path: Path, name: str) -> None:
    """The name may be that of the remote or that of the clone."""
    fork = repository.head()
    repository.git("switch", "--quiet", "--create", "feature")
    repository.commit({"app.py": "three"})
    clone = repository.clone(tmp_path / "clone", "--depth=1", "--branch=feature")
    assert base_of(clone.root, variables={"PERF_BASE": name}).commit == fork


def test_a_given_revision_is_fetched_alone(repository: Repository, tmp_path: Path) -> None:
    """The history before it is not fetched."""
    revision = repository.git("rev-parse", "HEAD~2")
    clone = repository.clone(tmp_path / "clone", "--depth=1")
    assert base_of(clone.root, revision).commit == revision
    assert clone.git("rev-list", "--count", "--all") == "1"


def test_a_github_merge_has_its_base_as_first_parent(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the parent of GitHub's test merge is fetched, not that of another commit."""
    target = repository.head()
    repository.git("switch", "--quiet", "--create", "feature")
    repository.commit({"other.py": "three"})
    repository.git("switch", "--quiet", "main")
    repository.git("merge", "--quiet", "--no-ff", "--message=Merge", "feature")
    repository.git("branch", "--quiet", "merged")
    clone = repository.clone(tmp_path / "clone", "--depth=1", "--branch=merged")
    monkeypatch.setattr(git, "DEEPENING", ("--no-such-option",))
    variables = {"GITHUB_BASE_REF": "gone", "GITHUB_REF": "refs/pull/7/merge", "GITHUB_SHA": clone.head()}
    assert base_of(clone.root, variables=variables).commit == target
    assert "no merge base with gone" in no_base(clone.root, variables={**variables, "GITHUB_SHA": target})


@pytest.mark.parametrize("name", ["CI_MERGE_REQUEST_TARGET_BRANCH_SHA", "CI_MERGE_REQUEST_DIFF_BASE_SHA"])
def test_the_base_that_gitlab_names_is_fetched_alone(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """For a merged result, the merge base is the target's newest commit."""
    target = repository.head()
    repository.commit({"app.py": "three"})
    clone = repository.clone(tmp_path / "clone", "--depth=1")
    monkeypatch.setattr(git, "DEEPENING", ("--no-such-option",))
    assert base_of(clone.root, variables={name: target}).commit == target


def test_a_whole_clone_is_never_cut_off(repository: Repository, tmp_path: Path) -> None:
    """Fetching a missing commit does not make a complete clone shallow."""
    clone = repository.clone(tmp_path / "clone")
    revision = repository.commit({"app.py": "three"})
    assert base_of(clone.root, revision).commit == revision
    assert clone.git("rev-parse", "--is-shallow-repository") == "false"
    assert clone.git("rev-list", "--count", revision) == "4"


def test_a_missing_commit_is_named(repository: Repository, tmp_path: Path) -> None:
    """The message has the attempts and the next step."""
    clone = repository.clone(tmp_path / "clone", "--depth=1")
    message = no_base(clone.root, "0123456789" * 4)
    assert "tried: `git fetch --depth=1 origin 0123456789" in message
    assert "fetch-depth: 0" in message


def test_a_remote_that_refuses_is_reported(repository: Repository, tmp_path: Path) -> None:
    """The message ends with git's last line, without the token in the URL."""
    clone = repository.clone(tmp_path / "clone", "--depth=1")
    clone.git("remote", "set-url", "origin", "http://user:hush@127.0.0.1:9/repository?token=hush2")
    message = no_base(clone.root, baseline=clone.root / BASELINE)
    assert "was last changed by a commit that this shallow clone lacks (tried: `git fetch --deepen=50" in message
    assert "hush" not in message


def test_a_remote_that_hangs_costs_no_more_than_the_limit(
    repository: Repository, tmp_path: Path, silent_remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is for all fetches together."""
    clone = repository.clone(tmp_path / "clone", "--depth=1")
    clone.git("remote", "set-url", "origin", silent_remote)
    monkeypatch.setattr(git, "FETCH_LIMIT_S", 0.3)
    message = no_base(clone.root, baseline=clone.root / BASELINE)
    assert "not done within the limit of 0.3 s for all fetches" in message


def test_a_subdirectory_is_a_project_of_its_own(tmp_path: Path) -> None:
    """The path of the baseline is relative to the project, not to the repository."""
    repository = Repository.create(tmp_path / "repository", {f"services/api/{BASELINE}": "{}"})
    repository.commit({"services/other.py": ""})
    project = repository.root / "services" / "api"
    found = base_of(project, "", project / BASELINE)
    assert found == Base(repository.git("rev-parse", "HEAD~1"), f"the newest commit that changed {Path(BASELINE).name}")


def test_variables_of_a_git_hook_are_ignored(repository: Repository, tmp_path: Path) -> None:
    """A hook of another repository does not change the result."""
    other = Repository.create(tmp_path / "other", {"file": ""})
    found = base_of(repository.root, "HEAD", None, variables={"GIT_DIR": str(other.root / ".git")})
    assert found.commit == repository.head()


def test_a_missing_repository_is_reported(tmp_path: Path) -> None:
    """The message has the folder and git's error."""
    message = no_base(tmp_path, "main", variables={"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)})
    assert "not a git repository" in message
    assert str(tmp_path) in message


def test_a_missing_git_is_reported(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git is not installed" in no_base(repository.root, "main")


def test_a_repository_without_commits_is_reported(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "empty")], check=True)
    assert re.search(r"'HEAD' names no commit here \(there is no remote", no_base(tmp_path / "empty", "HEAD"))


def test_the_baseline_of_the_base_is_read_from_its_commit(tmp_path: Path) -> None:
    """A missing or damaged file is None."""
    old, new = (results(benchmark("a.py::test_it", None, process_medians=[median])) for median in (1.0, 2.0))
    repository = Repository.create(tmp_path / "repository", {BASELINE: dump_results(old)})
    first = Base(repository.head(), "as asked")
    second = Base(repository.commit({BASELINE: "damaged"}), "as asked")
    repository.write({BASELINE: dump_results(new)})
    file = repository.root / BASELINE

    found = baseline_at(repository.root, first, file)

    assert found is not None
    assert found.benchmarks[0].process_medians == [1.0]
    assert baseline_at(repository.root, second, file) is None
    assert baseline_at(repository.root, first, file.with_name("other.json")) is None


def test_a_changed_lock_file_is_seen_wherever_it_is(tmp_path: Path) -> None:
    """From a folder of the repository, too, and before it is committed."""
    files = {"uv.lock": "one", "services/shop/requirements-dev.txt": "one", "services/shop/app.py": "one"}
    repository = Repository.create(tmp_path / "repository", files)
    base, root = Base(repository.head(), "as asked"), repository.root / "services" / "shop"
    repository.write({"services/shop/app.py": "two"})
    assert not has_changed(root, base, ["uv.lock", "requirements*.txt"])
    for name in ("uv.lock", "services/shop/requirements-dev.txt"):
        repository.write({name: "two"})
        assert has_changed(root, base, ["uv.lock", "requirements*.txt"])
        repository.write({name: "one"})


@pytest.mark.parametrize("linked", [".", "tests"])
def test_a_baseline_is_found_through_links(tmp_path: Path, linked: str) -> None:
    """Git itself does not follow links to the repository or to a folder in it."""
    repository = Repository.create(tmp_path / "repository", {"app.py": "one"})
    (repository.root / "moved" / "performance" / "baselines").mkdir(parents=True)
    (repository.root / "tests").symlink_to("moved")
    recorded = repository.commit({BASELINE: dump_results(results(benchmark("a.py::test_it", None)))})
    (tmp_path / "link").symlink_to(repository.root)
    root = tmp_path / "link" if linked == "." else repository.root

    found = base_of(root, baseline=root / BASELINE)

    assert found.commit == recorded
    assert baseline_at(root, found, root / BASELINE) is not None
