"""The pipelines of this repository, and the parts of their languages that they use."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.documentation import DOCS, blocks_of
from tests.support.project import LIMIT_S, ROOT

GITHUB = ROOT / ".github" / "workflows" / "performance.yml"
COMMENT = ROOT / ".github" / "workflows" / "performance-comment.yml"
HISTORY = ROOT / "template" / ".github" / "workflows" / "performance-history.yml"
CI = ROOT / ".github" / "workflows" / "ci.yml"
ACTION = ROOT / "action.yml"
GITLAB = ROOT / ".gitlab" / "performance.yml"


def load(path: Path, **inputs: str) -> Any:
    """Load a pipeline with inputs for GitLab. In YAML 1.1 the key `on` becomes True."""
    header, separator, body = path.read_text(encoding="utf-8").partition("\n---\n")
    if not separator:
        return yaml.safe_load(header)
    given = {name: one["default"] for name, one in yaml.safe_load(header)["spec"]["inputs"].items()} | inputs
    return yaml.safe_load(re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda found: given[found[1]], body))


def check_schema(schema: str, *paths: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr


def steps_of(path: Path) -> list[dict[str, Any]]:
    if path == ACTION:
        return [*load(path)["runs"]["steps"]]
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


def recipe(page: str, file: str) -> str:
    """Return a pipeline of the documentation."""
    [text] = [one.text for one in blocks_of(DOCS / "how-to" / page) if one.file == file]
    return text


SHARDS = recipe("shards.md", ".github/workflows/performance-shards.yml")
ARTIFACT = recipe("history.md", ".github/workflows/performance-main.yml")


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
