"""The results of a load test as JUnit XML: a case for the budgets at each rate, and one for each compared figure."""

from xml.etree.ElementTree import SubElement

from plumbline.loading.results import DECIDING, Judged, LoadResults, judged
from plumbline.loading.verdict import ORDER
from plumbline.project import EXIT_INCONCLUSIVE
from plumbline.reporting.junit import add_outcome, add_output, add_properties, as_xml, new_suite

NAME = "load"


def as_junit(results: LoadResults) -> str:
    """Return XML whose `failure` and `error` hold what failed. A run that fails has at least one of them."""
    suite = new_suite(NAME, results.created)
    add_properties(suite, {"verdict": results.verdict, "target": results.target, "base": results.base or None})
    failing = {*DECIDING} - ({"inconclusive"} if results.exit_code != EXIT_INCONCLUSIVE else set())
    cases: dict[str, list[Judged]] = {}
    for one in judged(results):
        cases.setdefault(one.name, []).append(one)
    for name, found in cases.items():
        case = SubElement(suite, "testcase", classname=NAME, name=name, time="0.000")
        verdict = next(verdict for verdict in ORDER if verdict in {one.verdict for one in found})
        lines = [one.text for one in found if one.verdict == verdict]
        if verdict in failing:
            add_outcome(case, "error" if verdict == "invalid" else "failure", verdict, lines)
        else:
            add_output(case, [one.text for one in found])
    return as_xml(suite, sum(stage.measured_s for side in results.sides for stage in side.stages))
