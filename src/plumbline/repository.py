"""Git commands in the repository around a folder, even if another user owns it."""

import os
from pathlib import Path

FROM_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")  # set in git hooks
ENVIRON = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "false",
    "GCM_INTERACTIVE": "never",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}
# No hooks, no daemon, and no files beside the index.
OPTIONS = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false", "-c", "core.splitIndex=false")


def git_command(folder: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return a git command for a folder, without prompts and hooks, and its environment."""
    ours = {name: value for name, value in os.environ.items() if name not in FROM_HOOKS}
    command = ["git", "-C", str(folder), *OPTIONS, *arguments]
    return command, {**ours, **ENVIRON, **_location(folder.resolve())}


def _location(folder: Path) -> dict[str, str]:
    """Return the variables that name the repository.

    Git refuses to discover a repository of another user (`safe.directory`), but uses one that is named. This is safe:
    running the suite runs the code of the repository anyway.
    """
    for top in (folder, *folder.parents):
        git = top / ".git"
        if os.path.isfile(git) or os.path.exists(git / "HEAD"):  # noqa: PTH110, PTH113, which fail if they may not look
            return {"GIT_DIR": str(git), "GIT_WORK_TREE": str(top)}
    return {}
