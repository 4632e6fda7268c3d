"""The location of a project's performance suite, and the command that runs it."""

from dataclasses import dataclass
from pathlib import Path

# The suite's folder, below the project's root.
SUITE = "tests/performance"
SETTINGS = "settings.toml"


@dataclass(frozen=True)
class Project:
    """A repository with a performance suite."""

    root: Path

    @classmethod
    def of_current_folder(cls) -> "Project":
        """Return the project that the current folder lies in, or that folder if it lies in none."""
        return cls(find_project(Path.cwd()) or Path.cwd())

    @property
    def suite(self) -> Path:
        """The folder of the performance suite."""
        return self.root / SUITE

    @property
    def settings_file(self) -> Path:
        """`settings.toml` of the suite."""
        return self.suite / SETTINGS

    @property
    def baselines(self) -> Path:
        """The folder of the baselines and of what has been accepted."""
        return self.suite / "baselines"

    def shown(self, path: Path) -> str:
        """Return a path as the reader knows it, from the project's root."""
        return path.relative_to(self.root).as_posix()


def is_suite(folder: Path) -> bool:
    """Return whether this folder is a performance suite; it costs a system call only if the folder's name fits."""
    return folder.name == "performance" and folder.parent.name == "tests" and (folder / SETTINGS).is_file()


def find_suite(*paths: Path) -> Path | None:
    """Return the nearest suite that is, or holds, one of `paths`; None if there is none."""
    return next((folder for path in paths for folder in (path, *path.parents) if is_suite(folder)), None)


def find_project(*starts: Path) -> Path | None:
    """Return the nearest folder at or above one of `starts` that holds a performance suite; None if there is none."""
    folders = (folder for start in starts for folder in (start, *start.parents))
    return next((folder for folder in folders if is_suite(folder / SUITE)), None)


def nox_command(root: Path | None = None) -> str:
    """Return how the project's owner calls Nox: a repository with a noxfile of its own keeps ours beside it.

    `root` is the current folder by default.
    """
    return "nox -f perf-noxfile.py" if ((root or Path.cwd()) / "perf-noxfile.py").is_file() else "nox"
