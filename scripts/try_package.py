"""Install a built wheel and sdist into empty environments and use them: `python scripts/try_package.py FOLDER`."""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

EXTRAS = "redis,postgres,embedded"
SETTINGS = """\
[redis]
backend = "embedded"
[postgres]
backend = "off"
"""
SUITE = """\
from plumbline import Measure


def test_ping(measure: Measure, redis_url: str) -> None:
    \"\"\"PING a server that the installed package has started.\"\"\"
    import redis

    with redis.Redis.from_url(redis_url) as client:
        for timer in measure():
            with timer:
                client.ping()
"""


def main() -> int:
    """Use each built file in the folder. Return 0 if all work; a failing command ends the script."""
    [folder] = sys.argv[1:]
    built = sorted(Path(folder).glob("pytest_plumbline-*"))
    if {path.suffix for path in built} != {".whl", ".gz"}:
        raise SystemExit(f"expected a wheel and an sdist in {folder}, found {[path.name for path in built]}")
    for path in built:
        with tempfile.TemporaryDirectory() as root:
            use(path, Path(root))
        print(f"{path.name} works")
    return 0


def use(built: Path, root: Path) -> None:
    """Install a built file with its extras into an empty environment, and run a small suite with it."""
    venv.create(root / "environment", with_pip=True)
    python = str(root / "environment" / "bin" / "python")
    run(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        f"{built.absolute()}[{EXTRAS}]",
        at=root,
    )
    suite = root / "project" / "tests" / "performance"
    suite.mkdir(parents=True)
    (suite / "settings.toml").write_text(SETTINGS, encoding="utf-8")
    (suite / "test_ping.py").write_text(SUITE, encoding="utf-8")
    (root / "project" / "pyproject.toml").write_text('[tool.pytest.ini_options]\nasyncio_mode = "auto"\n', "utf-8")
    run(python, "-m", "plumbline", "--version", at=suite)
    run(python, "-m", "plumbline", "ci", at=suite.parents[1])
    run(
        python,
        "-c",
        "import plumbline, pathlib; assert pathlib.Path(plumbline.__file__).with_name('py.typed').is_file()",
        at=root,
    )


def run(*command: str, at: Path) -> None:
    """Run a command. Raises CalledProcessError if it fails."""
    subprocess.run(command, cwd=at, check=True)


if __name__ == "__main__":
    sys.exit(main())
