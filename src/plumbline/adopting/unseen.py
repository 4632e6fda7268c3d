"""Files of the suite that git ignores, so that pipelines lack them, and files that it should ignore."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct

from plumbline.adopting.pipelines import PIPELINES
from plumbline.comparing.trees.git import Git, NoBase
from plumbline.comparing.trees.locks import LOCK_FILES, UNKNOWN_LOCK_FILES
from plumbline.project import SUITE

COPIED = (SUITE, "noxfile.py", "perf-noxfile.py", ".copier-answers.plumbline.yml", *PIPELINES)
SUFFIXES = {".py", ".toml", ".txt", ".json", ".yml", ".md"}  # others are made by tools, such as `.pyc`
CACHES = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
MADE = ("__pycache__/", "*.egg-info/")
LOCKS = (*LOCK_FILES, *UNKNOWN_LOCK_FILES)


class Ignored(Struct, frozen=True):
    """A file or folder that git ignores. Paths are relative to the root of the repository."""

    path: str  # that of a folder ends with a slash
    rule: str  # such as ".gitignore:12:requirements.txt"
    file: str  # the .gitignore file that can list it
    line: str  # the line that makes git list it

    @property
    def advice(self) -> str:
        return f"add the line `{self.line}` to the end of {self.file}"


def ignored_files(root: Path) -> list[Ignored]:
    """Return the files of the suite in the project `root` that git ignores, none if there is no repository."""
    found = _ignored(root, COPIED)
    return [
        one
        for one in found
        if CACHES.isdisjoint(PurePosixPath(one.path).parts)
        and (one.path.endswith("/") or PurePosixPath(one.path).suffix in SUFFIXES)
    ]


def ignored_lock(root: Path) -> Ignored | None:
    """Return the lock file in the folder `root` if git ignores it."""
    return next(iter(_ignored(root, [name for name in LOCKS if (root / name).is_file()][:1])), None)


def lock_notes(root: Path) -> list[str]:
    """Return what a comparison does not see if git ignores the lock file."""
    lock = ignored_lock(root)
    return [f"git ignores {lock.path}, so base has its versions, too: an upgrade is not compared"] if lock else []


def suite_lines(root: Path) -> list[str]:
    """Return a line for each file of the suite that git ignores, and what to do about it."""
    return [f"git ignores {one.path} ({one.rule}), so pipelines lack it: {one.advice}" for one in ignored_files(root)]


def made_lines(root: Path) -> list[str]:
    """Return what to do if `git add .` in the project `root` would take what Python and setuptools write."""
    lines = []
    for rule in MADE:
        try:
            git = Git(root)
            found = git.names("--others", "--exclude-standard", "--", f":(glob){git.prefix}**/{rule}*")
        except NoBase:
            return []
        folders = [f"{PurePosixPath(one).parent}/" for one in found]
        lines += [f"`git add .` would add {one}: add the line `{rule}` to .gitignore" for one in folders[:1]]
    return lines


def _ignored(root: Path, names: Sequence[str]) -> list[Ignored]:
    try:
        git = Git(root)
        wanted = [git.prefix + name for name in names]
        paths = git.names("--others", "--ignored", "--exclude-standard", "--directory", "--", *wanted) if wanted else []
    except NoBase:
        return []
    return [*_with_rules(git, paths)]


def _with_rules(git: Git, paths: Sequence[str]) -> Iterator[Ignored]:
    for path in paths:
        rule, _, _ = git.ask("check-ignore", "--verbose", "--", path).partition("\t")  # source:line:pattern
        if not rule:  # a folder of which no rule is the cause, but all files are ignored: git lists them as well
            continue
        source = PurePosixPath(rule.partition(":")[0])
        is_near = source.name == ".gitignore" and not source.is_absolute()  # otherwise a file outside of the commits
        file = source if is_near else PurePosixPath(".gitignore")
        inner = path.removeprefix(f"{file.parent}/")
        line = f"!{inner}" if "/" in inner.rstrip("/") else f"!/{inner}"
        yield Ignored(path, rule, str(file), line)
