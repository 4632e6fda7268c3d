"""What `python -m plumbline.install` does if something has changed."""

import re
import sys

from plumbline.commands.base import CommandError, Project, documented_exit
from plumbline.commands.output import say
from plumbline.comparing.trees.asked import Part, asked_for, local_files
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.installers import InstallError, resolve, synchronise
from plumbline.comparing.trees.pythons import use_python, wanted_python
from plumbline.installed import digest, read_record, top_of, write_record
from plumbline.project import EXIT_INVALID, SETTINGS, SUITE


def install(nox_python: str) -> int:
    """Make this environment hold what the project asks for, and nothing else; return an exit code."""
    return documented_exit(lambda project: _install(project, nox_python))


def _install(project: Project, nox_python: str) -> int:
    root, settings, top = project.root, project.settings, top_of(project.root)
    source: list[str] = []
    before = read_record() or {}
    try:
        if sys.prefix == sys.base_prefix:
            raise InstallError("it would remove packages of the machine's own Python: run it by Nox")
        if nox_python:
            use_python(*wanted_python(root, top, settings.python), nox_python, root)
        part: Part = "suite" if settings.app and settings.app.has_own_environment else "all"
        asked, source = asked_for(top, root, settings.install, before.get("packages", []), part)
        packages = resolve(asked)
        write_record(None)
        synchronise(packages, root)
    except NoBase as error:
        message = f"the environment can't be made: {error}\nCorrect that file, or let its tool write it again."
        raise CommandError(message, EXIT_INVALID) from None
    except InstallError as error:
        what = f" for {', '.join(source)}" if source else ""
        step = next_step(str(error)) if source else ""
        raise CommandError(f"the environment can't be made{what}:\n{error}{step}", EXIT_INVALID) from None
    files = local_files(asked, packages)
    # The URL of an index may hold a token.
    packages = [line for line in packages if not line.startswith("--")]
    key = digest(root, top, files, sys.version, nox_python)
    write_record({"digest": [key], "source": source, "packages": packages, "files": files, "nox_python": [nox_python]})
    say(f"environment: {', '.join(source)}: {len(packages)} packages installed")
    return 0


def next_step(problem: str) -> str:
    """Return advice on the last lines of an installer."""
    requirements, settings = f"{SUITE}/requirements.txt", f"{SUITE}/{SETTINGS}"
    if re.search(r"No solution found|ResolutionImpossible|conflict", problem):
        step = f"Change one of these versions, in the project or in {requirements}. A lock file may be older than that."
    elif re.search(r"[Bb]uild", problem):
        step = (
            'If the application can\'t be built, set `application = "dependencies"` in [install] of'
            f" {settings}: it is imported from the working tree then."
        )
    else:
        step = f"Try again if an index could not be reached. Otherwise correct the file, or [install] of {settings}."
    return f"\n{step}"
