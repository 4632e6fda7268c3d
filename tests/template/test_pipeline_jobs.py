"""The jobs of the pipelines for GitHub and GitLab, run in a small project."""

import base64
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from plumbline.adopting.pipelines import MEASURE, pipelines_at_root
from plumbline.loading.results import LoadResults
from plumbline.reporting.github import MOST
from plumbline.results.files import dump_results, keep_run
from plumbline.results.history import HISTORY_SCHEMA, Run, read_folder, read_lines, write_line
from tests.support.documentation import DOCS, blocks_of
from tests.support.pipelines import (
    ACTION,
    ARTIFACT,
    COMMENT,
    GITHUB,
    GITLAB,
    HISTORY,
    SHARDS,
    check_schema,
    evaluate,
    job_of_gitlab,
    load,
    recipe,
    steps_of,
    substitute,
)
from tests.support.project import ROOT, STEADY_SETTINGS, Done, Project, copy_for_all
from tests.support.report_samples import benchmark, results
from tests.support.runners import FOLDER, GitLabRunner, Job, Runner, inherited, run, with_nox

RANDOM_ID = 54321
WORK = "test_suite.py::test_work"
pytestmark = pytest.mark.timeout(300)  # whole jobs, and before the first one all that they need

CODE = """\
def work() -> int:
    return sum(range(3000))
"""
SUITE = '''\
"""A benchmark, and a test of the servers where there are any."""

import asyncpg
import redis
from code_under_test import work

from plumbline import Measure


def test_work(measure: Measure) -> None:
    """Do the work."""
    for timer in measure():
        with timer:
            work()


async def test_servers(redis_url: str, postgres_url: str) -> None:
    """Both answer."""
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
'''


@pytest.fixture(scope="module")
def environments(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The virtual environments of the sessions."""
    folder = tmp_path_factory.mktemp("environments")
    for session in environments.iterdir():
        if session.name != "report":
            (folder / session.name).symlink_to(session)
    install = [sys.executable, "-m", "nox", "--envdir", str(folder), "--install-only", "-s", "report"]
    subprocess.run(install, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def origin(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The host's repository: `main`, and branches from it. The branch `other` changes nothing.

    The suite in FOLDER is the same.
    """
    project = Project.create(tmp_path_factory.mktemp("origin") / "project", environments)
    project.write("settings.toml", STEADY_SETTINGS)
    project.write("test_suite.py", SUITE)
    project.begin_repository(CODE)
    with (project.root / ".gitignore").open("a") as file:
        file.write(".nox\n")
    shutil.copytree(project.root, project.root / FOLDER, ignore=shutil.ignore_patterns(".git"))
    for path, text in pipelines_at_root({MEASURE: GITHUB.read_text()}, {}, FOLDER).items():
        if text:
            (project.root / path).parent.mkdir(parents=True)
            (project.root / path).write_text(text)
    project.commit("A service")
    project.git("commit", "--quiet", "--allow-empty", "--message=Nothing")
    for branch, times in (("slower", "30000"), ("faster", "300")):
        project.git("checkout", "--quiet", "-b", branch, "main")
        (project.root / "code_under_test.py").write_text(CODE.replace("3000", times))
        project.commit()
    project.git("checkout", "--quiet", "-b", "other", "main")
    project.git("commit", "--quiet", "--allow-empty", "--message=Nothing")
    project.git("checkout", "--quiet", "main")
    return project


@pytest.fixture(scope="module")
def gitlab(origin: Project) -> Iterator[GitLabRunner]:
    """A runner in a folder that any user can read, with its own interpreter and environments."""
    folder = Path(tempfile.mkdtemp(prefix="gitlab-"))  # pytest's is closed to others
    try:
        ids: dict[str, Any] = {}
        python, environ = Path(sys.executable).parent, inherited() | {"HOME": "/"}
        if os.getuid() == 0:
            ids = {"user": RANDOM_ID, "group": 0, "extra_groups": []}
            environment = copy_for_all(origin.environments, folder)
            for session in ("full", "baseline", "report", "compare"):
                (environment.parent / session).symlink_to("ci")
            for one in (folder, environment, *environment.rglob("*")):
                if one.is_dir() and not one.is_symlink():  # not files, which are linked
                    os.chown(one, RANDOM_ID, 0)
            python, environ["LD_LIBRARY_PATH"] = folder / "python" / "bin", str(folder / "python" / "lib")
            origin = Project(origin.root, environment.parent)
        runner = GitLabRunner(origin, folder, ids, {**environ, "PATH": f"{python}:{os.defpath}"})
        runner.install()
        yield runner
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def runner(gitlab: GitLabRunner, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """One runner for all events, each in a working tree of its own."""
    return Runner(gitlab, tmp_path_factory.mktemp("runner"))


REPORTS = {f"perf-results/{name}" for name in ("results.json", "report.md", "report.html", "junit.xml")}


def test_github_pull_request_that_is_slower(runner: Runner, tmp_path: Path) -> None:
    """The job fails. The summary, an annotation at the line of the cause, and the artifact report it once each."""
    job = runner.run(tmp_path / "slower", "slower", "pull_request", pull_request={"number": 1})
    output = job.outputs["Measure and judge"]
    assert (job.session, job.code) == ("ci", 1), output
    assert job.project.verdicts() == {WORK: "regression"}
    assert job.summary.read_text().count("Exit code 1") == 1
    line = 1 + SUITE.splitlines().index("def test_work(measure: Measure) -> None:")
    annotations = [line for text in job.outputs.values() for line in text.splitlines() if line.startswith("::")]
    assert 1 == len(annotations) <= MOST
    assert annotations[0].startswith("::error file=code_under_test.py,line=1,title=regression")
    assert f"%0ATest: tests/performance/test_suite.py:{line}%0A" in annotations[0]
    assert job.artifact() >= REPORTS
    assert "actions/cache/save" not in job.used


def test_github_merge_queue_that_is_not(runner: Runner, tmp_path: Path) -> None:
    """The action compares with the commit that the queue builds on. It passes without a baseline of its machine.

    Quotes in the arguments keep words together, and nothing in them is executed.
    """
    inputs = {name: one["default"] for name, one in load(ACTION)["inputs"].items()}
    inputs |= {"arguments": "-k 'work or play' -W 'ignore:$(touch executed)'", "baseline-artifact": "recorded"}
    artifact = runner.installed.scratch / "baseline-artifact"
    for name in ("tests/performance/baselines/other.json", "perf-results/results.json"):
        (artifact / name).parent.mkdir(parents=True)
        (artifact / name).write_text("{}")
    group = {"base_sha": runner.installed.origin.git("rev-parse", "main").strip(), "base_ref": "refs/heads/main"}
    event = {"merge_group": group}
    job = runner.run_job(
        load(ACTION)["runs"], tmp_path / "other", "other", "merge_group", event, contexts={"inputs": inputs}
    )
    assert "merge_group" in load(GITHUB)[True]
    assert job.project.results()["base"].endswith("(merge queue)")
    assert job.code == 0, job.outputs
    assert job.project.verdicts() == {WORK: "pass"}
    assert not (job.project.root / "executed").exists()
    assert job.given == {"verdict": "pass", "report": "perf-results/report.html"}
    assert job.artifact() >= REPORTS | {"tests/performance/baselines/other.json"}
    assert job.used["actions/download-artifact"] == {"name": "recorded", "path": str(artifact)}
    assert job.used["actions/setup-python"] == {"python-version": "3.13"}
    assert "::" not in [line[:2] for text in job.outputs.values() for line in text.splitlines()]
    assert job.summary.read_text().count("<details>") >= 1


@pytest.mark.parametrize("text", [b"", b'{"verdict": "pass"', b"\xff", b"[]", b"{}", b'{"verdict": "pass\\nreport=/"}'])
def test_github_damaged_results(tmp_path: Path, text: bytes) -> None:
    """The action says so in one line, and its verdict is invalid."""
    (tmp_path / "perf-results").mkdir()
    (tmp_path / "perf-results" / "results.json").write_bytes(text)
    [step] = [step for step in steps_of(ACTION) if step.get("name") == "Outputs"]
    outputs = tmp_path / "outputs"

    environ = {"FOLDER": ".", "SESSION": "ci", "GITHUB_OUTPUT": str(outputs)}
    done = run([sys.executable, "-c", step["run"]], tmp_path, environ)

    assert done == Done(1, "::error::perf-results/results.json is damaged: run the job again\n")
    assert outputs.read_text() == "verdict=invalid\nreport=\n"


def test_github_outputs_of_a_load_test(tmp_path: Path) -> None:
    """They are those of the load test, also after another session in the same job."""
    (tmp_path / "perf-results").mkdir()
    (tmp_path / "perf-results" / "results.json").write_text('{"verdict": "pass"}')
    (tmp_path / "perf-results" / "load.json").write_text('{"verdict": "regression"}')
    for name in ("report.html", "load.html", "load.md"):
        (tmp_path / "perf-results" / name).touch()
    [step] = [step for step in steps_of(ACTION) if step.get("name") == "Outputs"]
    outputs = tmp_path / "outputs"

    environ = {"FOLDER": FOLDER, "SESSION": "load", "GITHUB_OUTPUT": str(outputs)}
    done = run([sys.executable, "-c", step["run"]], tmp_path, environ)

    assert done == Done(0, "")
    assert outputs.read_text() == f"verdict=regression\nreport={FOLDER}/perf-results/load.html\n"


def test_github_comment(runner: Runner, tmp_path: Path) -> None:
    """The Plumbline of the default branch writes it from results.json and load.json, with the trend of that branch.

    A file that cannot be read makes no comment. Nothing in the results is a command to the runner.
    """
    measured = results(benchmark("a.py::test_a", "regression", operation="row", reasons=["\n::error::hostile"]))
    for day in "123":
        on_main = replace(measured.environment, branch="main", dirty=False)
        keep_run(tmp_path, replace(measured, created=f"2026-11-0{day}T00:00:00+00:00", environment=on_main))
    artifact = tmp_path / "artifact" / "perf-results"
    (artifact / "history").mkdir(parents=True)
    (artifact / "report.md").write_text("forged")
    tested: dict[str, Any] = {"plumbline": "", "created": "", "commit": measured.environment.commit, "command": "nox -s load"}
    (artifact / "load.json").write_bytes(msgspec.json.encode(LoadResults(**tested, verdict="regression", exit_code=1)))
    (tmp_path / "gh").write_text(f'#!/bin/sh\nrm -rf "$7" && cp -r {artifact.parent} "$7"\n')
    (tmp_path / "gh").chmod(0o755)
    ready = with_nox(runner)
    ready.environ |= {"PATH": f"{tmp_path}:{ready.environ['PATH']}", "NOXFILE": "noxfile.py"}
    name, job = f"performance {FOLDER}", load(COMMENT)["jobs"]["render"]
    event = {"workflow_run": {"id": 9, "name": name, "event": "pull_request"}}

    done = list[Job]()
    for number, text in enumerate((dump_results(measured), '{"schema": 2}')):
        (artifact / "results.json").write_text(text)
        root = tmp_path / f"{number}"
        done.append(ready.run_job(job, root, "main", "workflow_run", event, cached=tmp_path / "history"))
        assert done[-1].code == 0, done[-1].outputs

    body = base64.b64decode(done[0].given["report"]).decode()
    assert "### Failed\n" in body
    assert "| `a.py::test_a`, line 1 | " in body
    assert "µs/row" in body
    assert "### ❌ Load test: regression" in body
    assert "### Last 3 runs on `main`" in body
    assert "forged" not in body
    first, *_, last = done[0].outputs["Render"].splitlines()
    assert last == f"::{first.removeprefix('::stop-commands::')}::" != "::::"
    assert "::error::hostile" in done[0].outputs["Render"]
    [restore] = [step["with"] for step in steps_of(GITHUB) if "cache/restore" in step.get("uses", "")]
    known = {"github": {"workflow": name, "run_id": 7, "run_attempt": 1}, "env": {"FOLDER": FOLDER}}
    expected = {key: substitute(value, known) for key, value in restore.items()}
    assert done[0].used["actions/cache/restore"] == expected
    assert done[1].given == {}
    assert done[1].outputs["Render"].endswith("there is no comment, as results.json can't be read\n")


def test_github_default_branch(runner: Runner, tmp_path: Path) -> None:
    """The job passes without a baseline. Only the default branch adds to the history."""
    job = runner.run(tmp_path / "main", "main", "push")
    assert (job.session, job.code) == ("ci", 0), job.outputs
    saved, restored = job.used["actions/cache/save"], job.used["actions/cache/restore"]
    assert saved == {name: restored[name] for name in ("path", "key")}
    assert saved["key"].startswith(restored["restore-keys"])
    assert not restored["restore-keys"].startswith(job.used["actions/cache"]["restore-keys"])
    assert len(list((job.project.root / saved["path"]).glob("*.json"))) == 1
    assert load(GITHUB)[True]["push"]["branches"] == ["main", "master"]


def test_github_at_night(runner: Runner, tmp_path: Path) -> None:
    """The job uses the full profile and writes the HTML report."""
    job = runner.run(tmp_path / "night", "main", "schedule")
    assert (job.session, job.code) == ("full", 0), job.outputs
    assert job.project.results()["profile"] == "full"
    assert "HTML report" not in job.outputs
    assert job.artifact() >= REPORTS
    assert "actions/cache/save" not in job.used


def test_github_by_hand(runner: Runner, tmp_path: Path) -> None:
    """The artifact has a baseline of the runner, in the folder to commit."""
    choice = load(GITHUB)[True]["workflow_dispatch"]["inputs"]["session"]
    job = runner.run(tmp_path / "hand", "main", "workflow_dispatch", inputs={"session": choice["default"]})
    assert (job.session, job.code) == ("baseline", 0), job.outputs
    assert job.project.baseline().relative_to(job.project.root).as_posix() in job.artifact()


# ---- what a job of GitLab's does


def test_gitlab_merge_request_that_is_slower(gitlab: GitLabRunner) -> None:
    """The job fails, on embedded servers and as a user without a name, and leaves all reports."""
    done, project = gitlab.run("performance", "slower", CI_MERGE_REQUEST_TARGET_BRANCH_NAME="main")
    assert done.code == 1, done.output
    assert project.verdicts() == {WORK: "regression"}
    results = project.results()
    assert {test["key"]: test["outcome"] for test in results["tests"]}["test_suite.py::test_servers"] == "passed"
    assert "embedded PostgreSQL" in done.output
    assert results["base_differences"] == ["1 file differs: code_under_test.py"]  # and none that the job has made
    artifacts = job_of_gitlab("performance")["artifacts"]
    assert artifacts["when"] == "always"
    assert all((project.root / name).is_file() for name in REPORTS)
    assert "<failure" in (project.root / artifacts["reports"]["junit"]).read_text()


# ---- shards, by the recipes of the documentation


def test_github_shards(runner: Runner, tmp_path: Path) -> None:
    """Two shards, one of which fails. The merged report fails, and is the only one with annotations."""
    workflow = yaml.safe_load(SHARDS)
    jobs: dict[str, Any] = {name: {**job, "env": workflow["env"]} for name, job in workflow["jobs"].items()}
    assert {name: workflow[True][name] for name in workflow[True]} == {
        name: load(GITHUB)[True][name] for name in ("pull_request", "push")
    }
    assert (jobs["performance"]["needs"], jobs["performance"]["if"]) == ("shard", "always()")
    ready = with_nox(runner)
    artifacts, codes, outputs = dict[str, Path](), list[int](), ""
    for number in (1, 2):
        contexts = {"matrix": {"shard": number}, "strategy": {"job-total": 2}}
        job = ready.run_job(jobs["shard"], tmp_path / f"{number}", "slower", "pull_request", contexts=contexts)
        artifacts[job.used["actions/upload-artifact"]["name"]] = job.project.root / "perf-results"
        codes.append(job.code)
        outputs += "".join(job.outputs.values())
    assert codes in ([0, 1], [1, 0]), outputs
    assert "::error" not in outputs

    job = jobs["performance"]
    whole = ready.run_job(job, tmp_path / "whole", "slower", "pull_request", artifacts=artifacts)
    assert whole.code == 1, whole.outputs
    assert whole.project.verdicts() == {WORK: "regression"}
    assert len(whole.project.results()["tests"]) == 2
    assert "".join(whole.outputs.values()).count("::error") == 1
    assert whole.artifact() >= REPORTS


def test_github_shards_of_a_service_on_the_default_branch(runner: Runner, tmp_path: Path) -> None:
    """They pass without a baseline, and the merged run is saved in the history."""
    jobs = {name: {**job, "env": {"FOLDER": FOLDER}} for name, job in yaml.safe_load(SHARDS)["jobs"].items()}
    ready, artifacts = with_nox(runner), dict[str, Path]()
    for number in (1, 2):
        contexts = {"matrix": {"shard": number}, "strategy": {"job-total": 2}}
        job = ready.run_job(jobs["shard"], tmp_path / f"{number}", "main", "push", contexts=contexts)
        assert job.code == 0, job.outputs
        artifacts[f"shard-{number}"] = tmp_path / f"{number}" / job.used["actions/upload-artifact"]["path"]
    whole = ready.run_job(jobs["performance"], tmp_path / "whole", "main", "push", artifacts=artifacts)
    assert whole.code == 0, whole.outputs
    assert whole.project.verdicts() == {WORK: "new"}
    assert len([*(tmp_path / "whole" / whole.used["actions/cache/save"]["path"]).glob("*.json")]) == 1


@pytest.mark.slow
def test_gitlab_shards(gitlab: GitLabRunner, tmp_path: Path) -> None:
    """Two shards of a service's suite, on the default branch, pass without a baseline.

    The merged run is the one in the cached history.
    """
    included = load(GITLAB, job="shop", folder=f"{FOLDER}/")
    pipeline = included | yaml.safe_load(recipe("shards.md", ".gitlab-ci.yml").replace("performance", "shop"))
    pipeline["shop"] = included["shop"] | pipeline["shop"]
    (tmp_path / "pipeline.yml").write_text(yaml.safe_dump(pipeline))
    check_schema("vendor.gitlab-ci", tmp_path / "pipeline.yml")
    shards = list[Path]()
    for index in ("1", "2"):
        done, project = gitlab.run(
            "shop-shard", "main", pipeline=pipeline, at=index, folder=FOLDER, CI_NODE_INDEX=index, CI_NODE_TOTAL="2"
        )
        assert done.code == 0, done.output
        [path] = job_of_gitlab("shop-shard", pipeline)["artifacts"]["paths"]
        shards.append(project.root.parents[1] / path.replace("$CI_NODE_INDEX", index))
    done, project = gitlab.run("shop", "main", pipeline=pipeline, at="whole", folder=FOLDER, downloaded=shards)
    assert done.code == 0, done.output
    assert project.verdicts() == {WORK: "new"}
    assert len(project.results()["tests"]) == 2
    [history] = [one for one in job_of_gitlab("shop", pipeline)["cache"] if one["key"] == "shop-history"]
    assert len(list((project.root.parents[1] / history["paths"][0]).glob("*.json"))) == 1


# ---- the history of the default branch


def test_github_history(runner: Runner, tmp_path: Path) -> None:
    """A push to the default branch is compared with the commit before, and adds one file to the data branch."""
    workflow, origin = load(HISTORY), runner.installed.origin
    jobs = {name: {**job, "env": {**workflow["env"], "FOLDER": FOLDER}} for name, job in workflow["jobs"].items()}
    assert {*workflow[True]} == {"push", "schedule"}
    assert workflow[True]["push"] == load(GITHUB)[True]["push"]
    before = origin.git("rev-parse", "main~1").strip()

    job = runner.run_job(jobs["compare"], tmp_path / "compare", "main", "push", {"before": before})
    assert job.code == 0, job.outputs
    [uploaded] = [step for step in jobs["compare"]["steps"] if "upload-artifact" in step.get("uses", "")]
    assert jobs["compare"]["outputs"] == {"artifact": f"${{{{ steps.{uploaded['id']}.outputs.artifact-id }}}}"}
    for given in ("", "7"):
        needs = {"compare": {"outputs": {"artifact": given}}}
        assert bool(evaluate(jobs["add"]["if"], {"needs": needs})) == bool(given)
    artifacts = {job.used["actions/upload-artifact"]["name"]: job.project.root / "perf-results"}
    added = runner.run_job(jobs["add"], tmp_path / "add", "main", "push", artifacts=artifacts)

    assert added.code == 0, added.outputs
    [file] = origin.git("ls-tree", "-r", "--name-only", "plumbline-data").split()
    assert file.startswith(f"{FOLDER}/20")


def test_github_history_without_a_commit_to_compare_with(runner: Runner, tmp_path: Path) -> None:
    """The first push, and a night without a tag: nothing is measured, and the job says so."""
    job = {**load(HISTORY)["jobs"]["compare"], "env": load(HISTORY)["env"]}
    for event, before in (("push", "0" * 40), ("schedule", "")):
        done = runner.run_job(job, tmp_path / event, "main", event, {"before": before})
        assert done.code == 0
        assert "::notice::There is no commit to compare with." in done.outputs["Compare"]
        assert not (done.project.root / "perf-results").exists()


RELEASE, STEP, STEPS = "v1.0", 1.15, 8
SLEEP = """\
import time


def work() -> None:
    time.sleep({})
"""
BISECT = "-s bisect -- {} -k test_work"


@pytest.fixture(scope="module")
def released(origin: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The host's repository with a release and commits after it. Each is 15 % slower, together three times as slow."""
    root = tmp_path_factory.mktemp("released") / "project"
    origin.git("clone", "--quiet", str(origin.root), str(root))
    project = Project(root, origin.environments)
    for number in range(STEPS + 1):
        (root / "code_under_test.py").write_text(SLEEP.format(0.002 * STEP**number))
        project.commit()
        if not number:
            project.git("tag", RELEASE)
    return project


def range_of(project: Project) -> str:
    """Return the command that searches the commits since the release."""
    commits = [project.git("rev-parse", name)[:10] for name in (RELEASE, "origin/main")]
    return BISECT.format(" ".join(commits))


@pytest.mark.slow
def test_github_history_at_night(runner: Runner, released: Project, tmp_path: Path) -> None:
    """A push passes, as each does. The comparison with the release fails, and names the commits to search.

    So do the reports of later runs, by the history.
    """
    workflow = load(HISTORY)
    jobs = {name: {**job, "env": workflow["env"]} for name, job in workflow["jobs"].items()}
    ours = dataclasses.replace(runner, installed=dataclasses.replace(runner.installed, origin=released))

    pushed = ours.run_job(
        jobs["compare"], tmp_path / "push", "main", "push", {"before": released.git("rev-parse", "main~1")}
    )
    assert pushed.code == 0, pushed.outputs
    assert pushed.project.verdicts() == {WORK: "pass"}

    night = ours.run_job(jobs["compare"], tmp_path / "night", "main", "schedule")
    assert night.code == 1, night.outputs
    assert night.project.verdicts() == {WORK: "regression"}
    report = (night.project.root / "perf-results" / "report.md").read_text()
    assert BISECT.format(RELEASE) in report
    assert f"which of the {STEPS} commits since {RELEASE}" in report
    assert BISECT.format(RELEASE) in night.summary.read_text()

    artifacts = {night.used["actions/upload-artifact"]["name"]: night.project.root / "perf-results"}
    added = ours.run_job(jobs["add"], tmp_path / "add", "main", "schedule", artifacts=artifacts)
    assert added.code == 0, added.outputs
    pushed.project.git("fetch", "--quiet", "origin")
    later = pushed.project.run("report")
    assert range_of(pushed.project) in " ".join(later.output.split())


def test_github_history_in_an_artifact(runner: Runner, released: Project, tmp_path: Path) -> None:
    """Each run joins the lines of the last artifacts, so none of runs at the same time is lost."""
    origin = Project(tmp_path / "origin", released.environments)
    released.git("clone", "--quiet", str(released.root), str(origin.root))
    [settings] = [one.text for one in blocks_of(DOCS / "how-to" / "history.md") if "folder = " in one.text]
    origin.write("settings.toml", f"{STEADY_SETTINGS}{settings}")
    origin.commit()
    lines = [Run(HISTORY_SCHEMA, f"{day}", f"2026-11-0{day}", "any", "pass", {}) for day in (1, 2, 3)]
    for artifact, run_ids in (("1", lines[:2]), ("2", [lines[0], lines[2]])):
        for line in run_ids:
            write_line(tmp_path / "artifacts" / artifact, line)
    gh = f"""#!/bin/sh -e
    case $2 in
      list) printf '1\\n2\\n7\\n';; # the last is this run
      download) test -d {tmp_path}/artifacts/$3 && cp -r {tmp_path}/artifacts/$3 "$7";;
    esac
    """
    (tmp_path / "gh").write_text(gh)
    (tmp_path / "gh").chmod(0o755)
    ready = with_nox(dataclasses.replace(runner, installed=dataclasses.replace(runner.installed, origin=origin)))
    ready.environ["PATH"] = f"{tmp_path}:{ready.environ['PATH']}"

    event = {"before": origin.git("rev-parse", "main~1")}
    job = ready.run_job(yaml.safe_load(ARTIFACT)["jobs"]["compare"], tmp_path / "push", "main", "push", event)

    assert job.code == 0, job.outputs
    found = read_lines(read_folder(job.project.root / job.used["actions/upload-artifact"]["path"]))
    assert [run.commit for run in found.runs] == ["1", "2", "3", origin.git("rev-parse", "main")]
    assert len(job.artifact()) == 4


def hub_of(gitlab: GitLabRunner, origin: Project, name: str) -> tuple[Path, dict[str, Any]]:
    """Return a bare copy of a repository that jobs can push to, and the variables of such jobs."""
    hub, config = gitlab.folder / name, gitlab.folder / f"{name}.gitconfig"
    origin.git("clone", "--quiet", "--bare", str(origin.root), str(hub))
    for path in (hub, *hub.rglob("*")) if gitlab.ids else ():
        os.chown(path, RANDOM_ID, 0)
    url = "https://history:secret@gitlab.example.org:8443/group/project.git"
    config.write_text(
        f'[url "file://{hub}"]\ninsteadOf = {url}\ninsteadOf = file://{origin.root}\n[safe]\ndirectory = *\n'
    )
    return hub, {
        "CI_COMMIT_BRANCH": "main",
        "CI_DEFAULT_BRANCH": "main",
        "CI_REPOSITORY_URL": "https://gitlab-ci-token:other@gitlab.example.org:8443/group/project.git",
        "CI_SERVER_PROTOCOL": "https",
        "GIT_CONFIG_GLOBAL": str(config),
        "HISTORY_TOKEN": "secret",
        "PERF_SERVICES": "off",
    }


def test_gitlab_history(gitlab: GitLabRunner) -> None:
    """A comparison that fails adds its line all the same, with the token, which is in no file afterwards."""
    hub, variables = hub_of(gitlab, gitlab.origin, "hub")
    before = gitlab.origin.git("rev-parse", "faster").strip()
    done, project = gitlab.run("performance-history", "main", CI_COMMIT_BEFORE_SHA=before, **variables)

    assert done.code == 1, done.output
    assert project.verdicts() == {WORK: "regression"}
    listed = gitlab.origin.git(f"--git-dir={hub}", "ls-tree", "-r", "--name-only", "plumbline-data").split()
    assert len([name for name in listed if not name.startswith(FOLDER)]) == 1
    assert "secret" not in (project.root / ".git" / "config").read_text()
    assert (project.root / "perf-results" / "report.html").exists()


@pytest.mark.slow
def test_gitlab_history_in_a_schedule(gitlab: GitLabRunner, released: Project) -> None:
    """The comparison with the release fails. The report and the history name the commits to search."""
    _, variables = hub_of(gitlab, released, "released")
    ours = dataclasses.replace(gitlab, origin=Project(released.root, gitlab.origin.environments))
    done, project = ours.run("performance-history", "main", at="-night", CI_COMMIT_BEFORE_SHA="0" * 40, **variables)

    assert done.code == 1, done.output
    assert project.verdicts() == {WORK: "regression"}
    assert BISECT.format(RELEASE) in (project.root / "perf-results" / "report.md").read_text()
    assert range_of(project) in " ".join(done.output.split())
