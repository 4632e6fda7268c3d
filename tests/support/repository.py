"""A git repository in a folder of its own, for tests of what is asked of git."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


class Repository:
    """Files by path below its root; each commit has the same author."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def create(cls, root: Path, files: Mapping[str, str]) -> "Repository":
        """A new repository with one commit."""
        root.mkdir(parents=True)
        repository = cls(root)
        repository.git("init", "--quiet", "--initial-branch=main")
        repository.commit(files)
        return repository

    def git(self, *arguments: str) -> str:
        """Run git here; returns what it prints."""
        identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false"]
        local = ["-c", "protocol.file.allow=always"]
        command = ["git", *identity, *local, *arguments]
        return subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, files: Mapping[str, str]) -> None:
        """Write files."""
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def commit(self, files: Mapping[str, str] = {}) -> str:
        """Write files and commit everything; returns the hash."""
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=Change")
        return self.head()

    def give_away(self) -> None:
        """Make everything another user's, as a checkout is that a container mounts."""
        for path in [self.root, *self.root.rglob("*")]:
            os.chown(path, 12345, 12345, follow_symlinks=False)

    def head(self) -> str:
        """The hash of the commit that is checked out."""
        return self.git("rev-parse", "HEAD")

    def clone(self, root: Path, *options: str) -> "Repository":
        """A clone over the file protocol, which honours --depth."""
        self.git("clone", "--quiet", *options, f"file://{self.root}", str(root))
        return Repository(root)
