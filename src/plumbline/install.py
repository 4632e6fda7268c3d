"""`python -m plumbline.install`: install exactly the requirements of the project's lock file and its suite.

The noxfile runs it before each command, so it imports little if nothing has changed. The noxfile also imports this
module to check that Plumbline is installed, so the imports are inside the function.
"""

import os
import sys


def main(arguments: list[str]) -> int:
    """Return an exit code. The argument is the path of Nox's Python, or "" if the noxfile names another one."""
    from pathlib import Path

    from plumbline.installed import digest, read_record, tell, top_of
    from plumbline.project import EXIT_INVALID, find_project

    [nox_python] = arguments
    project, record = find_project(Path.cwd()) or Path.cwd(), read_record()
    top = top_of(project)
    if (
        record
        and record["digest"] == [digest(project, top, record["files"], sys.version, nox_python)]
        and (not record.get("code") or record["code_digest"] == [digest(project, top, record["code"])])
    ):
        tell(f"environment: {', '.join(record['source'])}\n")
        return 0
    # If pipx has installed `nox[uv]`, uv is only beside Nox's Python.
    os.environ["PATH"] = os.pathsep.join(filter(None, [os.environ.get("PATH"), str(Path(nox_python).parent)]))
    try:
        from plumbline.commands.install import install
    except ImportError as error:
        tell(f"{error}: remove {sys.prefix}, which lacks a package of Plumbline, and run this again\n")
        return EXIT_INVALID
    return install(nox_python)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
