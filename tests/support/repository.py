"""A temporary git repository."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


class Repository:
    """Files by path relative to the root. All commits have the same author."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def create(cls, root: Path, files: Mapping[str, str]) -> "Repository":
        """Return a new repository with one commit."""
        root.mkdir(parents=True)
        repository = cls(root)
        repository.git("init", "--quiet", "--initial-branch=main")
        repository.commit(files)
        return repository

    def git(self, *arguments: str) -> str:
        """Run git here and return its output."""
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
        """Write files, commit everything, and return the hash."""
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=Change")
        return self.head()

    def give_away(self) -> None:
        """Give all files to another user, as in a checkout mounted into a container."""
        for path in [self.root, *self.root.rglob("*")]:
            os.chown(path, 12345, 12345, follow_symlinks=False)

    def head(self) -> str:
        """The hash of the current commit."""
        return self.git("rev-parse", "HEAD")

    def clone(self, root: Path, *options: str) -> "Repository":
        """Return a clone over the file protocol, which supports --depth."""
        self.git("clone", "--quiet", *options, f"file://{self.root}", str(root))
        return Repository(root)
