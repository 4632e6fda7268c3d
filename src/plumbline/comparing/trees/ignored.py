"""Files that git ignores but that code may read. Both sides of a comparison get them."""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline.comparing.trees.git import UNTRACKED, Git
from plumbline.comparing.trees.trace import COMPILED_FOLDER

# Larger files and folders, folders with more files, and everything beyond the total are linked instead of copied.
MOST_BYTES, MOST_FILES, MOST_BYTES_IN_TOTAL = 16 << 20, 2_000, 64 << 20
# A folder with one of these files is an environment or a cache.
MARKERS = ("pyvenv.cfg", "CACHEDIR.TAG")
# Suffixes of files from which code may be generated.
SOURCES = {
    ".proto",
    ".thrift",
    ".fbs",
    ".g4",
    ".xsd",
    ".wsdl",
    ".avsc",
    ".graphql",
    ".j2",
    ".jinja",
    ".jinja2",
    ".mako",
}
SOURCES |= {".pyx", ".pxd", ".pxi", ".c", ".cc", ".cpp", ".cxx", ".h", ".hpp", ".cu", ".f90", ".rs", ".go", ".zig"}
CODE = {".py", ".so", ".pyd"}
LEFT_OUT_FOLDERS = {COMPILED_FOLDER, ".git"}
LEVELS = 3  # how many folders above the repository `also_copy` can name


class CopyFailed(Exception):
    """The copy of the working tree cannot be made, or does not run although the working tree does."""


@dataclass(frozen=True)
class Extras:
    """Files for both copies in addition to those that git lists. Paths are relative to the repository's root."""

    copied: list[str]  # files
    linked: list[str]  # files and folders; paths outside of the repository begin with ".."


def find_extras(git: Git, submodules: Iterable[str], results: Path, also_copy: Sequence[str]) -> Extras:
    """Return the files that git ignores, and those that `also_copy` names, relative to the project's root.

    Small files and folders are copied, because either side may write to them. Large ones are linked. `.env` files are
    linked, so that their secrets are not copied. Environments, caches and the folder `results` are left out.
    Raises NoBase, and CopyFailed if a path in `also_copy` does not exist.
    """
    untracked = git.names(*UNTRACKED)
    found = [git.top / name for name in git.names(*UNTRACKED, "--ignored", "--directory")]
    found += [git.top / name for name in untracked if name.endswith("/")]  # nested repositories
    for name in submodules:
        inner = Git(git.top / name)
        found += [inner.top / each for each in inner.names(*UNTRACKED, "--ignored", "--directory")]
    # If a cache has its own .gitignore, git lists its files.
    folders = {folder for path in found for folder in (path, *path.parents) if folder.is_relative_to(git.top)}
    left_out = {results, *filter(_is_cache, folders - {git.top})}
    wanted = [path for path in found if left_out.isdisjoint((path, *path.parents)) and not _holds_environment(path)]
    files, linked = list[Path](), [git.top / name for name in untracked if _is_secret(Path(name))]
    left_bytes = MOST_BYTES_IN_TOTAL
    for path in wanted:
        small = _files(path, min(MOST_BYTES, left_bytes), MOST_FILES)
        if small is None:
            linked.append(path)
        else:
            files += small
            left_bytes -= sum(one.lstat().st_size for one in small)
    for name in also_copy:
        path = Path(os.path.normpath(git.top / git.prefix / name))
        if not path.exists():
            raise CopyFailed(f"{name} does not exist: correct also_copy under [compare] in settings.toml")
        if path.is_relative_to(git.top):
            files += _files(path) or []
            linked = [one for one in linked if not one.is_relative_to(path)]
        elif Path(os.path.relpath(path, git.top)).parts.count("..") <= LEVELS:
            linked.append(path)
        elif not Path(name).is_absolute():
            raise CopyFailed(
                f"{name} in also_copy under [compare] is more than {LEVELS} folders above the root of the repository:"
                " write an absolute path"
            )
    secret = [path for path in files if _is_secret(path) or path.is_symlink()]

    def names(paths: list[Path]) -> list[str]:
        return sorted({Path(os.path.relpath(path, git.top)).as_posix() for path in paths})

    return Extras(names([path for path in files if path not in secret]), names([*linked, *secret]))


def _is_cache(folder: Path) -> bool:
    return folder.name in LEFT_OUT_FOLDERS or any((folder / marker).exists() for marker in MARKERS)


def _holds_environment(path: Path) -> bool:
    """Return whether an ignored folder contains the current environment, or environments of Nox or tox."""
    return Path(os.path.realpath(sys.prefix)).is_relative_to(path) or any(path.glob(f"*/{MARKERS[0]}"))


def _is_secret(path: Path) -> bool:
    return path.name.startswith(".env")


def _files(path: Path, most_bytes: float = float("inf"), most_files: float = float("inf")) -> list[Path] | None:
    """Return the files at or below a path, or None if they are too many or too large."""
    found, total_bytes = list[Path](), 0
    is_folder = path.is_dir() and not path.is_symlink()
    for folder, folders, names in os.walk(path) if is_folder else [(path.parent, list[str](), [path.name])]:
        folders[:] = [name for name in folders if name not in LEFT_OUT_FOLDERS]
        for one in (Path(folder, name) for name in [*names, *folders]):
            if one.is_symlink() or one.is_file():  # no sockets and pipes
                total_bytes += one.lstat().st_size
                found.append(one)
        if total_bytes > most_bytes or len(found) > most_files:
            return None
    return found


def read_extras(extras: Extras, paths: Iterable[Path], tree: Path) -> list[str]:
    """Return the extras of the copy `tree` that contain one of these paths."""
    below = {path.relative_to(tree) for path in paths if path.is_relative_to(tree)}
    read = {one.as_posix() for path in below for one in (path, *path.parents)}
    return [name for name in sorted([*extras.copied, *extras.linked]) if name in read]


def made_from_changes(
    read: Iterable[str], changed: Iterable[str], base: Path, top: Path
) -> tuple[list[str], list[str]]:
    """Return ignored code that base has from the working tree, and changed files that it may be generated from.

    `read`: the extras that were read. `changed`: the changed files that nobody read. `base`: the copy of the base.
    `top`: the repository. Code that base has generated itself does not count. Both lists are empty if either is.
    """
    code = [one for one in map(Path, read) if one.suffix in CODE and _is_same_file(base / one, top / one)]
    compiled = {one.with_name(one.name.partition(".")[0] + ".py") for one in code if one.suffix != ".py"}
    sources = [name for name in changed if Path(name).suffix in SOURCES or Path(name) in compiled]
    return ([one.as_posix() for one in code], sources) if code and sources else ([], [])


def _is_same_file(copy: Path, original: Path) -> bool:
    return copy.is_file() and original.is_file() and copy.stat().st_mtime_ns == original.stat().st_mtime_ns


def env_files_above(top: Path) -> list[str]:
    """Return the `.env` files in the folders above the repository `top`, where libraries look for them."""
    names = ["../" * level + ".env" for level in range(1, LEVELS + 1)]
    return [name for name in names if (top / name).is_file()]


def missing_in_copy(paths: Iterable[Path], tree: Path, top: Path) -> list[str]:
    """Return the paths that are missing in the copy `tree` but exist in the repository `top`.

    They are relative to the repository's root, or up to LEVELS folders above it.
    """
    names = {os.path.relpath(path, tree) for path in paths if path.is_relative_to(tree.parents[LEVELS - 1])}
    return sorted(name for name in names if not (tree / name).exists() and (top / name).exists())


def changed_in_working_tree(paths: Iterable[Path], changed: Iterable[str], top: Path) -> list[str]:
    """Return the changed files that are read from the working tree `top`, directly or through links."""
    real = {path.resolve() for path in paths}
    return sorted(set(changed) & {path.relative_to(top).as_posix() for path in real if path.is_relative_to(top)})
