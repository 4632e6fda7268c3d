"""The files of the working tree, and of a commit as git would check it out."""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from plumbline.comparing.trees.git import FETCH_LIMIT_S, UNTRACKED, Git, NoBase
from plumbline.processes import last_lines

LEAST_FREE_BYTES = 1 << 20
LINK, SUBMODULE = "120000", "160000"
# Git LFS stores the contents of a file elsewhere and commits a pointer, which is smaller than 1024 bytes.
LFS_POINTER = re.compile(rb"version https?://[^\n]+\n(?:ext-[^\n]+\n)*oid sha256:([0-9a-f]{64})\n")
MOST_BYTES_IN_POINTER = 1024
FILTER_ADVICE = "See `git config --get-regexp ^filter`: the command must run in any folder"
WITHOUT_LFS = ("-c", "filter.lfs.process=", "-c", "filter.lfs.smudge=", "-c", "filter.lfs.required=false")


@dataclass(frozen=True)
class Head:
    """The copy of the working tree."""

    tree: Path
    files: Mapping[str, Path]  # by the SHA-256 of their contents
    pointers: Sequence[str]  # files whose contents Git LFS has not fetched


def listed_by_git(git: Git) -> set[str]:
    """Return the tracked and untracked files of the working tree and its submodules, without ignored files."""
    paths = {name: git.top / name for name in git.names("--cached", *UNTRACKED)}
    # Git also lists the files of a folder that was replaced by a link.
    folders = {folder for folder in {path.parent for path in paths.values()} if folder.resolve() == folder}
    files = {name for name, one in paths.items() if one.parent in folders and (one.is_symlink() or one.is_file())}
    for name in submodules(git):
        files |= {f"{name}/{inner}" for inner in listed_by_git(Git(git.top / name))}
    return files


def submodules(git: Git) -> list[str]:
    """Return the paths of the submodules that are checked out."""
    return [path for path in _in_index(git, SUBMODULE) if (git.top / path / ".git").exists()]


def checkout_settings(git: Git) -> list[object]:
    """Return everything except the commit that influences a checkout here."""
    files = [git.top / git.ask("rev-parse", "--git-path", f"info/{name}") for name in ("attributes", "sparse-checkout")]
    texts = [path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "" for path in files]
    settings = git.ask("config", "--get-regexp", r"^(core|filter)\.")
    return [settings, *texts, sorted(_in_index(git, SUBMODULE)), submodules(git)]


def check_out(git: Git, commit: str, tree: Path, head: Head, without: Sequence[str] = (), below: str = "") -> None:
    """Write the files of a commit, as `git switch` would, with those of the submodules that the working tree has.

    The paths `without` are left out. `below`: the path of a submodule in the working tree. Raises NoBase.
    """
    tree.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tree.parent) as folder:  # a later run removes that of a killed one
        environ = {"GIT_INDEX_FILE": str(Path(folder, "index")), "GIT_WORK_TREE": str(tree)}
        _write_files(git, commit, tree, environ)
        for name in git.names("--", *(f":(literal){name}" for name in without), environ=environ) if without else []:
            _remove(tree, name)
        links, inner = _in_index(git, LINK, environ), _in_index(git, SUBMODULE, environ)
    retarget((below + name for name in links), *(_above(path, below) for path in (tree, git.top)))
    _fill_in_pointers(git, commit, tree, head, below)
    known = _in_index(git, SUBMODULE)
    for name, wanted in inner.items():
        if any(PurePosixPath(name).is_relative_to(item) for item in without):
            continue
        if (git.top / name / ".git").exists():
            submodule = Git(git.top / name)
            if not submodule.commit(wanted) and not submodule.fetch_alone(wanted):
                raise NoBase(
                    f"commit {wanted[:12]} of the submodule {below}{name} is not here{submodule.attempts()}:"
                    f" `git -C {below}{name} fetch origin {wanted}`"
                )
            check_out(submodule, wanted, tree / name, head, below=f"{below}{name}/")
        elif name not in known:
            raise NoBase(
                f"the base has the submodule {below}{name}, but its files are not here, because the working tree does"
                " not have it any more: set PERF_BASE=REV to a base without it"
            )


def retarget(links: Iterable[str], tree: Path, top: Path) -> None:
    """Correct these links in a copy: a link into the repository leads into the copy, any other to its old target."""
    for name in links:
        link = tree / name
        if not link.is_symlink():
            continue
        original = Path(os.path.normpath(top / PurePosixPath(name).parent / link.readlink()))
        target = original.parent.resolve() / original.name
        is_inside = target.is_relative_to(top)
        if is_inside == link.readlink().is_absolute():
            link.unlink()
            link.symlink_to(os.path.relpath(target, (top / name).parent) if is_inside else target)


def pointed_at(path: Path) -> str:
    """Return the SHA-256 of the contents if a file is a pointer of Git LFS, otherwise ""."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size >= MOST_BYTES_IN_POINTER:
        return ""
    found = LFS_POINTER.match(path.read_bytes())
    return found[1].decode() if found else ""


def _above(path: Path, below: str) -> Path:
    """Return the parent folder from which `below`, a relative path with a slash at its end, leads to `path`."""
    return path.parents[below.count("/") - 1] if below else path


def _in_index(git: Git, mode: str, environ: Mapping[str, str] = {}) -> dict[str, str]:
    """Return the hash of each entry of this mode, by its path."""
    entries = [line.partition("\t") for line in git.names("--stage", environ=environ) if line.startswith(mode)]
    return {path: entry.split()[1] for entry, _, path in entries}


def _write_files(git: Git, commit: str, tree: Path, environ: Mapping[str, str]) -> None:
    # Unlike `checkout-index`, this obeys the attributes of the commit and a sparse checkout, and a partial clone
    # fetches only once. Unlike `archive`, it includes files with the attribute `export-ignore`.
    command = ("read-tree", "--reset", "-u", "--no-recurse-submodules", commit)
    try:
        _, errors = git.checked(*command, options=WITHOUT_LFS, environ=environ)
    except NoBase as error:
        if shutil.disk_usage(tree).free < LEAST_FREE_BYTES:  # git does not report this cause
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        if "smudge filter" in str(error):
            raise NoBase(f"{error}. {FILTER_ADVICE}") from None
        if git.ask("config", "--get-regexp", r"^remote\..*\.promisor$"):
            advice = "This clone is partial and its remote did not answer: make a `git clone` without `--filter`"
            raise NoBase(f"{error}. {advice}") from None
        raise
    if "external filter" in errors:  # git keeps a file as it is if the filter is not required
        raise NoBase(f"a filter of .gitattributes has failed for the base: {last_lines(errors, 1)}. {FILTER_ADVICE}")


def _remove(tree: Path, name: str) -> None:
    """Remove a file of a copy, and folders that are empty then."""
    with contextlib.suppress(OSError):
        (tree / name).unlink()
        for folder in PurePosixPath(name).parents[:-1]:
            (tree / folder).rmdir()


def _fill_in_pointers(git: Git, commit: str, tree: Path, head: Head, below: str) -> None:
    """Replace pointers of Git LFS by the contents of the files, for files whose contents the working tree has."""
    pointers = {path.relative_to(tree).as_posix(): at for path in tree.rglob("*") if (at := pointed_at(path))}
    if not pointers:
        return
    # In a clone without Git LFS all files are pointers. Files that the change removes may be pointers, too.
    wanted = {
        name: found
        for name, found in pointers.items()
        if below + name not in head.pointers and ((head.tree / below / name).exists() or not head.pointers)
    }
    store = git.top / git.ask("rev-parse", "--git-common-dir") / (git.ask("config", "lfs.storage") or "lfs") / "objects"

    def missing() -> list[str]:
        kept = {found: store / found[:2] / found[2:4] / found for found in wanted.values()}
        for name, found in wanted.items():
            source = head.files.get(found, kept[found])
            if source.is_file() and pointed_at(tree / name):
                shutil.copyfile(source, tree / name)
        return [name for name in wanted if pointed_at(tree / name)]

    if missing():
        with contextlib.suppress(NoBase):
            git.checked("lfs", "fetch", git.remote or "origin", commit, limit_s=FETCH_LIMIT_S)
        if left := missing():
            raise NoBase(
                f"the base's {below}{left[0]} is a pointer of Git LFS, and its contents are not here:"
                f" `git lfs install && git lfs fetch {git.remote or 'origin'} {commit}`"
            )
