"""The pipelines of a suite in a folder of a larger repository. GitHub reads workflows at its root only."""

import re
from collections.abc import Mapping

WORKFLOWS, GITLAB = ".github/workflows", ".gitlab/performance.yml"
MEASURE, COMMENT, HISTORY = (f"{WORKFLOWS}/performance{end}.yml" for end in ("", "-comment", "-history"))
GITLAB_CI = ".gitlab-ci.yml"
PIPELINES = (MEASURE, COMMENT, HISTORY, GITLAB, GITLAB_CI)
NAME, JOB, FOLDER = "name: performance", "jobs:\n  performance:\n", "  FOLDER: . #"
FOLLOWED = re.compile(r"^    workflows: \[(.*)\]$", re.MULTILINE)  # the workflows whose end starts the comment


def pipelines_at_root(copied: Mapping[str, str], top: Mapping[str, str], folder: str) -> dict[str, str | None]:
    """Return the workflows to write at the root of the repository, and None for those to remove from the folder.

    `copied` are the pipelines in the `folder` of the suite, `top` those at the root, each by path. All paths of the
    result start at the root.
    """
    found: dict[str, str | None] = {}
    name, job = f"performance {folder}", _job(folder)
    for path, target in ((MEASURE, job), (HISTORY, f"{job}-history")):
        if path in copied:
            text = copied[path].replace(NAME, f"name: {name}", 1).replace(FOLDER, f"  FOLDER: {folder} #", 1)
            # A required check has the name of the job.
            found[f"{WORKFLOWS}/{target}.yml"] = text.replace(JOB, f"jobs:\n  {job}:\n", 1)
            found[f"{folder}/{path}"] = None
    if COMMENT in copied:
        # Names that are at the root already stay. The copy's own one is that of a suite at the root.
        before = FOLLOWED.search(top.get(COMMENT, ""))
        names = [*filter(None, re.split(r", *", before[1] if before else ""))]
        listed = ", ".join(dict.fromkeys([*names, name]))
        found[COMMENT] = FOLLOWED.sub(
            lambda _: f"    workflows: [{listed}]", top.get(COMMENT) or copied[COMMENT], count=1
        )
        found[f"{folder}/{COMMENT}"] = None
    return found


def gitlab_include(copied: Mapping[str, str], top: Mapping[str, str], folder: str) -> str:
    """Return the lines to add to `.gitlab-ci.yml` at the root; "" if there are none to add."""
    path = GITLAB if folder == "." else f"{folder}/{GITLAB}"
    if GITLAB not in copied or path in top.get(GITLAB_CI, ""):
        return ""
    if folder == ".":
        return f"include:\n  - local: {path}"
    return f"include:\n  - local: {path}\n    inputs: {{ job: {_job(folder)}, folder: {folder}/ }}"


def _job(folder: str) -> str:
    return f"performance-{folder.replace('/', '-')}"
