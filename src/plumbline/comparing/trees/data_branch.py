"""A branch of the repository that holds the history. Nothing is ever checked out, and no push is forced.

Each run adds one file, so concurrent pushes never conflict: the later one is rejected, and is made again on top of the
earlier one. The files of a suite in a folder of a larger repository are in the same folder of the branch.
"""

import os
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from plumbline.comparing.trees.git import FETCH_LIMIT_S, Git, NoBase
from plumbline.repository import git_command
from plumbline.results.files import ResultsError
from plumbline.results.history import SUFFIXES

ATTEMPTS = 10
LONGEST_WAIT_S = 2.0
# A push that fails so many times, although nobody else has pushed meanwhile, is refused. One failure may be a lock.
_REFUSALS = 3
_NAME = re.compile(r"(\d{4}-\d\d/)?[^/\n]+")
_ABSENT = "couldn't find remote ref"
_AUTHOR = {
    f"GIT_{role}_{name}": value
    for role in ("AUTHOR", "COMMITTER")
    for name, value in (("NAME", "Plumbline"), ("EMAIL", "plumbline@localhost"))
}
_MESSAGE = "Add a run to the performance history\n\n[skip ci]"


class PushFailed(Exception):
    """The history could not be pushed. The message is shown to the user."""


def push_file(root: Path, branch: str, name: str, content: bytes) -> bool:
    """Add a file to a branch of the remote; return False if the branch has it already. Raises PushFailed.

    If another push comes first, fetch its commit and try again, up to ATTEMPTS times. The branch is created if the
    remote lacks it.
    """
    try:
        git = Git(root)
        if not git.remote:
            raise PushFailed("this repository has no remote to push to")
        name = git.prefix + name
        tips: list[str] = []
        for attempt in range(ATTEMPTS):
            time.sleep(random.uniform(0, LONGEST_WAIT_S) * attempt / ATTEMPTS)
            tip = _fetched(git, branch)
            tips.append(tip)
            if tip and git.ask("rev-parse", "--verify", "--quiet", f"{tip}:{name}"):
                return False
            commit = _commit(git, tip, name, content)
            try:
                # With --porcelain, the error output is what the remote says.
                git.run("push", "--quiet", "--porcelain", "--", git.remote, f"{commit}:refs/heads/{branch}")
            except NoBase:
                if tips.count(tip) == _REFUSALS:
                    raise
            else:
                git.ask("update-ref", _tracking(git, branch), commit)
                return True
    except (NoBase, subprocess.TimeoutExpired) as error:
        raise PushFailed(str(error)) from None
    raise PushFailed(f"others have pushed to {branch} first, {ATTEMPTS} times in a row: run the job again")


def read_branch(root: Path, branch: str, most: int | None = None) -> Iterator[tuple[str, bytes | ResultsError]]:
    """Yield the newest files of a branch, as it was fetched last, and their contents. Nothing if there is none."""
    try:
        git = Git(root)
    except NoBase:
        return
    tip = git.commit(_tracking(git, branch), f"refs/heads/{branch}")
    listed = git.ask("ls-tree", "-r", "-z", tip).split("\0") if tip else []
    objects = {name: entry.rpartition(" ")[2] for entry, _, name in (line.partition("\t") for line in listed)}
    prefix = git.prefix
    ours = (name for name in objects if name.startswith(prefix) and _NAME.fullmatch(name, len(prefix)))
    names = sorted(name for name in ours if name.endswith(SUFFIXES))[-most if most else 0 :]
    if not names:
        return
    command, environ = git_command(git.top, "cat-file", "--batch")
    asked = "".join(f"{objects[name]}\n" for name in names).encode()
    output = subprocess.run(command, input=asked, env=environ, capture_output=True, check=False).stdout
    begin = 0
    for name in names:
        end = output.find(b"\n", begin)
        size = output[begin:end].rpartition(b" ")[2]
        if end < 0 or not size.isdigit():
            yield f"{branch}:{name}", ResultsError("git lacks its content")
            begin = end + 1 if end >= 0 else len(output)
            continue
        yield f"{branch}:{name}", output[end + 1 : end + 1 + int(size)]
        begin = end + int(size) + 2


def _tracking(git: Git, branch: str) -> str:
    return f"refs/remotes/{git.remote}/{branch}"


def _fetched(git: Git, branch: str) -> str:
    """Return the newest commit of the branch at the remote; "" if the remote lacks the branch."""
    depth = ["--depth=1"] if git.boundaries() else []  # this option would make a complete clone shallow
    refspec = f"+refs/heads/{branch}:{_tracking(git, branch)}"
    try:
        git.checked("fetch", "--no-tags", "--quiet", *depth, "--", git.remote, refspec, limit_s=FETCH_LIMIT_S)
    except NoBase as error:
        if _ABSENT in str(error):
            return ""
        raise
    return git.commit(_tracking(git, branch))


def _commit(git: Git, tip: str, name: str, content: bytes) -> str:
    """Return a new commit that adds a file to those of `tip`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "content"
        file.write_bytes(content)
        environ = {"GIT_INDEX_FILE": os.path.join(folder, "index")}  # noqa: PTH118
        git.run("read-tree", tip or "--empty", environ=environ)
        blob = git.run("hash-object", "-w", "--no-filters", "--", str(file)).strip()
        git.run("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", environ=environ)
        tree = git.run("write-tree", environ=environ).strip()
    parent = ["-p", tip] if tip else []
    return git.run("commit-tree", *parent, "-m", _MESSAGE, tree, environ=_AUTHOR).strip()
