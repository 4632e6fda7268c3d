"""The published schema of results and baselines; `Project.results` validates each run of the tests by it."""

import json
from typing import get_args

import jsonschema  # type: ignore[import-untyped]
import pytest

from plumbline.results.files import dump_results
from plumbline.results.schema import SCHEMA, Kind, Results, UnjudgedPackage
from scripts.results_schema import PATH, document, text
from tests.support.project import results_validator
from tests.support.report_samples import benchmark, results, small


def test_the_schema_is_that_of_the_types() -> None:
    assert PATH.read_text(encoding="utf-8") == text(), "run `python -m scripts.results_schema`"


def test_the_schema_describes_types_and_fields() -> None:
    definitions = document()["$defs"]

    assert definitions["Results"]["properties"]["schema"]["const"] == SCHEMA
    assert definitions["Benchmark"]["properties"]["machine_speed_s"]["description"].startswith("the time")
    assert set(definitions["Reason"]["properties"]["kind"]["enum"]) == set(get_args(Kind))


@pytest.mark.parametrize(
    "of",
    [
        small(),
        results(unjudged_packages=[UnjudgedPackage("fastapi", "not_pinned")]),
        results(benchmark("a.py::test_a", None), verdict=None, exit_code=None),
    ],
)
def test_results_are_valid(of: Results) -> None:
    results_validator().validate(json.loads(dump_results(of)))


def test_what_no_run_writes_is_not_valid() -> None:
    other = json.loads(dump_results(small())) | {"verdict": "fine"}

    with pytest.raises(jsonschema.ValidationError, match="'fine'"):
        results_validator().validate(other)
