"""`plumbline readiness`: check the application as `plumbline doctor` does, and run the readiness tests."""

import argparse

from plumbline.commands.base import Project
from plumbline.commands.doctor import show_checks, starts_code
from plumbline.commands.measuring_run import measure
from plumbline.commands.output import say
from plumbline.project import EXIT_INVALID, EXIT_PASS, EXIT_REGRESSION
from plumbline.reporting.content import reason_text

EXAMPLE = "PERF_SERVICES=embedded plumbline readiness"


def run(project: Project, options: argparse.Namespace) -> int:
    # Without code of the project, the tests themselves show whether the servers are ready.
    checks = show_checks(project) if starts_code(project.settings) else []
    broken = [one.name for one in checks if one.outcome == "failed"]
    record = measure(project, "full", ["-m", "readiness", "--perf-table", *options.pytest])
    if record.exit_code is not None:
        say("\n".join(map(reason_text, record.reasons)))
        return record.exit_code
    failed = sum(test.outcome == "failed" for test in record.tests)
    passed = sum(test.outcome == "passed" for test in record.tests)
    if failed:
        say(f"not ready: {failed} readiness tests failed")
    elif broken:
        say(f"invalid: failed checks: {', '.join(broken)} (see above)")
    elif passed:
        say(f"ready: {passed} readiness tests passed")
    elif record.tests:
        say("invalid: all readiness tests were skipped")
    else:
        among = " among the selected tests" if options.pytest else ""
        say(f'invalid: there are no readiness tests (marker "readiness"){among}')
    return EXIT_REGRESSION if failed else EXIT_PASS if passed and not broken else EXIT_INVALID
