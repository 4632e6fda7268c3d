"""Runners for the jobs of GitHub and GitLab: each job in a fresh working tree, its steps in a shell."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.pipelines import GITHUB, evaluate, job_of_gitlab, load, substitute
from tests.support.project import LIMIT_S, Done, Project

FOLDER = "services/shop"  # of a second suite in the same repository
# Variables that a runner lacks or sets itself.
OURS = ("PERF_", "PYTEST_", "PYTHONDONTWRITEBYTECODE", "GITHUB_", "CI_", "GIT_", "XDG_", "VIRTUAL_ENV", "UV", "NOX_")


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
        return self.run_job(
            {**job, "env": {**variables, **job["env"]}}, root, branch, event, more, name=workflow["name"]
        )

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


def with_nox(runner: Runner) -> Runner:
    """Return a runner for jobs that have no step that installs Nox."""
    installed = runner.installed
    return Runner(installed, runner.folder, {"PATH": f"{installed.scratch}/nox/bin:{installed.environ['PATH']}"})
