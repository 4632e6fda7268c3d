"""Copies of the base commit and of the working tree, kept in a cache."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import plumbline
from plumbline import cache as kept
from plumbline.comparing.trees.checkout import (
    Head,
    check_out,
    checkout_settings,
    listed_by_git,
    pointed_at,
    retarget,
)
from plumbline.comparing.trees.git import Git, NoBase
from plumbline.comparing.trees.ignored import Extras
from plumbline.comparing.trees.trace import COMPILED_FOLDER
from plumbline.project import SUITE

OVERLAY = (SUITE, "tests/__init__.py", "conftest.py")  # base has these paths from the working tree
MANIFEST = "manifest.json"
# The three folders above the tree hold the files of `also_copy` that are outside of the repository.
TREE = "above/above/above/tree"  # with as many folders above it as `ignored.LEVELS`


@dataclass(frozen=True)
class Copy:
    name: str
    tree: Path
    files: dict[str, str]  # by path: the fingerprint of the file


def copy_of_working_tree(git: Git, folder: Path, extras: Extras) -> Copy:
    copied = sorted({*listed_by_git(git), *extras.copied}.difference(extras.linked))

    def make(tree: Path) -> None:
        tree.mkdir(parents=True)
        for name in copied:
            _copy(git.top / name, tree / name)
        retarget(copied, tree, git.top)
        for name in extras.linked:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).symlink_to(os.path.realpath(git.top / name))

    contents = {name: _fingerprint(git.top / name) for name in copied}
    name = "head-" + kept.digest(contents, [str(git.top / name) for name in extras.linked])
    return _kept_tree(folder, name, make)


def copy_of_head(folder: Path, head: Copy, extras: Extras) -> Copy:
    """Return a second copy of the working tree."""

    def make(tree: Path) -> None:
        shutil.copytree(head.tree, tree, symlinks=True)
        _add_extras(extras, head, tree)

    return _kept_tree(folder, head.name.replace("head-", "base-"), make)


def _add_extras(extras: Extras, head: Copy, tree: Path) -> None:
    """Copy missing extras from head into the tree. Generated code is copied only if the tree has its package."""
    names = {*extras.copied, *extras.linked}
    for name in sorted(names):
        package = module_path(name, head.files)
        is_wanted = str(package) == name or str(package / "__init__.py") in names or (tree / package).is_dir()
        if is_wanted and not os.path.lexists(tree / name):
            _copy(head.tree / name, tree / name)


def copy_of_commit(git: Git, commit: str, folder: Path, head: Copy, extras: Extras) -> Copy:
    """Copy a commit with the suite of the working tree, and with its Plumbline if that is in the repository."""
    tree_id = git.ask("log", "-1", "--format=%T", commit)
    if not tree_id:
        raise NoBase(f"the base commit {commit[:12]} is not in this repository")
    package = Path(plumbline.__file__).resolve().parent
    paths = {form for item in OVERLAY for form in _with_links(git.top / git.prefix / item)} | {package}
    laid_over = sorted(path.relative_to(git.top).as_posix() for path in paths if path.is_relative_to(git.top))
    overlay = [name for name in head.files if any(PurePosixPath(name).is_relative_to(item) for item in laid_over)]

    pointers = sorted(name for name in head.files if pointed_at(head.tree / name))
    by_hash = {fingerprint.split()[-1]: head.tree / name for name, fingerprint in head.files.items()}

    def make(tree: Path) -> None:
        check_out(git, commit, tree, Head(head.tree, by_hash, pointers), without=laid_over)
        for name in overlay:
            if not os.path.lexists(tree / name):
                _copy(head.tree / name, tree / name)
        _add_extras(extras, head, tree)

    contents = {name: head.files[name] for name in [*overlay, *extras.copied]}
    links = [str(git.top / name) for name in extras.linked]
    name = "base-" + kept.digest(tree_id, laid_over, contents, links, pointers, checkout_settings(git))
    return _kept_tree(folder, name, make)


def _with_links(path: Path) -> list[Path]:
    """Return the real path, and the links that lead there."""
    return [path.resolve(), *(part for part in (path, *path.parents) if part.is_symlink())]


def _kept_tree(folder: Path, name: str, make: Callable[[Path], object]) -> Copy:
    """Return a cached tree. It is made if it is missing, or if code that ran in it has changed it."""

    def make_with_manifest(target: Path) -> None:
        tree = target / TREE
        make(tree)
        paths = [path for path in tree.rglob("*") if path.is_symlink() or path.is_file()]
        names = [path.relative_to(tree) for path in paths if path.parent.name != COMPILED_FOLDER]
        manifest = {name.as_posix(): _fingerprint(tree / name) for name in names}
        (target / MANIFEST).write_text(json.dumps(manifest), encoding="ascii")

    made = kept.keep(folder, name, make_with_manifest)
    manifest: dict[str, str] = json.loads((made / MANIFEST).read_text(encoding="ascii"))
    if any(_fingerprint(made / TREE / name) != content for name, content in manifest.items()):
        kept.remove(made)
        kept.keep(folder, name, make_with_manifest)
    return Copy(name, made / TREE, manifest)


def _copy(source: Path, target: Path) -> None:
    """Copy a file and its compiled module, which stays valid because the file keeps its time and size."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)
    compiled = source.parent / COMPILED_FOLDER / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
    if source.suffix == ".py" and compiled.is_file():
        _copy(compiled, target.parent / COMPILED_FOLDER / compiled.name)


def _fingerprint(path: Path) -> str:
    """Return the target of a link, or the hash of a file and whether it is executable. "" if there is no file."""
    if path.is_symlink():
        return f"-> {path.readlink()}"
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        executable = "x" if os.fstat(file.fileno()).st_mode & 0o100 else "-"
        return f"{executable} {hashlib.file_digest(file, 'sha256').hexdigest()}"


def module_path(file: str, files: Mapping[str, str]) -> PurePosixPath:
    """Return the outermost package that a file lies in, or the file itself."""
    path = PurePosixPath(file)
    while path.parent.name and str(path.parent / "__init__.py") in files:
        path = path.parent
    return path
