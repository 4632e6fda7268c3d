"""Pipelines of a suite in a folder of a larger repository."""

import yaml

from plumbline.adopting.pipelines import COMMENT, GITLAB, HISTORY, MEASURE, gitlab_include, pipelines_at_root
from tests.support.project import ROOT

COPIED = {path: (ROOT / path).read_text(encoding="utf-8") for path in (MEASURE, COMMENT, GITLAB)}
SHOP = ".github/workflows/performance-services-shop.yml"


def test_the_first_service() -> None:
    found = pipelines_at_root(COPIED, {}, "services/shop")

    assert [*found] == [SHOP, f"services/shop/{MEASURE}", COMMENT, f"services/shop/{COMMENT}"]
    workflow, comment = (yaml.safe_load(found[path] or "") for path in (SHOP, COMMENT))
    assert workflow["name"] == "performance services/shop"
    assert workflow["env"]["FOLDER"] == "services/shop"
    [job] = yaml.safe_load(COPIED[MEASURE])["jobs"].values()
    assert workflow["jobs"] == {"performance-services-shop": job}
    assert comment[True]["workflow_run"]["workflows"] == ["performance services/shop"]  # `on` is True in YAML 1.1
    assert [found[path] for path in found if path.startswith("services")] == [None, None]


def test_a_history_that_is_asked_for_later() -> None:
    text = (ROOT / "template" / HISTORY).read_text(encoding="utf-8")

    found = pipelines_at_root({HISTORY: text}, {}, "services/shop")

    assert [*found] == [SHOP.replace(".yml", "-history.yml"), f"services/shop/{HISTORY}"]
    workflow = yaml.safe_load(next(iter(found.values())) or "")
    assert workflow["name"] == "performance services/shop history"
    assert workflow["env"]["FOLDER"] == "services/shop"
    assert workflow["jobs"] == yaml.safe_load(text)["jobs"]


def test_a_second_service_joins_the_comment() -> None:
    comment = pipelines_at_root(COPIED, {}, "services/shop")[COMMENT]

    found = pipelines_at_root(COPIED, {COMMENT: comment or ""}, "services/cart")

    followed = yaml.safe_load(found[COMMENT] or "")[True]["workflow_run"]["workflows"]
    assert followed == ["performance services/shop", "performance services/cart"]
    assert pipelines_at_root(COPIED, {COMMENT: found[COMMENT] or ""}, "services/cart")[COMMENT] == found[COMMENT]


def test_no_pipelines() -> None:
    assert pipelines_at_root({}, {}, "shop") == {}
    assert gitlab_include({}, {}, "shop") == ""


def test_gitlab() -> None:
    lines = gitlab_include(COPIED, {}, "services/shop")

    inputs = {"job": "performance-services-shop", "folder": "services/shop/"}
    assert yaml.safe_load(lines) == {"include": [{"local": f"services/shop/{GITLAB}", "inputs": inputs}]}
    assert gitlab_include(COPIED, {".gitlab-ci.yml": lines}, "services/shop") == ""


def test_gitlab_without_a_folder() -> None:
    """A copy leaves the user's own .gitlab-ci.yml alone."""
    lines = gitlab_include(COPIED, {".gitlab-ci.yml": "test: {script: pytest}\n"}, ".")

    assert yaml.safe_load(lines) == {"include": [{"local": GITLAB}]}
    assert gitlab_include(COPIED, {".gitlab-ci.yml": lines}, ".") == ""
