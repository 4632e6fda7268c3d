"""The routes of OpenAPI documents: their parameters, the examples of their bodies, and which may change something."""

from typing import Any

import pytest

from plumbline.adopting.routes import may_change_something, merge, routes_in
from plumbline.adopting.tried import Route

ITEM = {"$ref": "#/components/schemas/Item"}
SCHEMAS = {
    "Item": {
        "required": ["name"],
        "properties": {"name": {"type": "string", "examples": ["pen"]}, "count": {"default": 1}, "note": {}},
    }
}


def body_of(media: dict[str, Any]) -> Any:
    """Return the example of a POST route with this request body."""
    operation = {"requestBody": {"content": {"application/json": media}}}
    document = {"paths": {"/items": {"post": operation}}, "components": {"schemas": SCHEMAS}}
    [route] = routes_in(document)
    return route.body


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ({"example": {"name": "cup"}, "schema": ITEM}, {"name": "cup"}),
        ({"examples": {"one": {"value": {"name": "jar"}}}, "schema": ITEM}, {"name": "jar"}),
        ({"schema": ITEM}, {"name": "pen", "count": 1}),
        ({"schema": {"anyOf": [{"type": "null"}, ITEM]}}, {"name": "pen", "count": 1}),
        ({"schema": {"required": ["id"], "properties": {"id": {"type": "integer"}}}}, None),
        (
            {"schema": {"properties": {"parent": {"$ref": "#/components/schemas/Nothing"}, "size": {"default": 1}}}},
            None,
        ),
        ({"schema": "nonsense"}, None),
    ],
    ids=["example", "examples", "properties", "any of", "no example", "defaults alone", "malformed"],
)
def test_body(media: dict[str, Any], body: Any) -> None:
    assert body_of(media) == body


def test_parameters() -> None:
    """A route has parameters if its path has some, or if its query or headers need some."""
    document = {
        "paths": {
            "/items": {"get": {"parameters": [{"name": "limit", "in": "query"}]}},
            "/items/{id}": {"get": {}, "parameters": []},
            "/search": {"get": {"parameters": [{"$ref": "#/q"}]}},
            "/tenant": {"parameters": [{"name": "X-Tenant", "in": "header", "required": True}], "get": {}},
            "/odd": None,
        },
        "q": {"name": "q", "in": "query", "required": True},
    }
    found = {route.path: route.has_parameters for route in routes_in(document, "/api")}
    assert found == {"/api/items": False, "/api/items/{id}": True, "/api/search": True, "/api/tenant": True}


def test_a_route_is_listed_once() -> None:
    """The document knows its body, the framework its name. The framework also knows routes without a document."""
    document = {"paths": {"/items": {"post": {"operationId": "x", "requestBody": None}}}}
    listed = [
        {"method": "POST", "path": "/items", "has_parameters": False, "name": "add"},
        {"method": "GET", "path": "/page", "has_parameters": False, "name": "page"},
        {"method": "GET", "path": "/docs", "has_parameters": False, "name": "of_the_framework"},
        {"method": "HEAD", "path": "/page", "has_parameters": False, "name": "page"},
    ]
    found = merge([{"prefix": "", "document": document}], listed)
    assert found == (Route("POST", "/items", name="add", is_documented=True), Route("GET", "/page", name="page"))


@pytest.mark.parametrize(
    ("path", "may"),
    [
        ("/items", False),
        ("/deleted-items", True),
        ("/cache/wipe", True),
        ("/logout", True),
        ("/auth/log-out", True),
        ("/auth/log_out/", True),
        ("/api/removeItem", True),
        ("/newsletter/unsubscribe", True),
        ("/jobs/cancelled", True),
        ("/payments", False),
        ("/important", False),
        ("/created", False),
    ],
)
def test_what_may_change_something(path: str, may: bool) -> None:
    assert may_change_something(Route("GET", path)) == may


def test_pages_of_forms() -> None:
    """A form that a POST request sends is only shown by GET."""
    assert not may_change_something(Route("GET", "/orders/create"), {"/orders/create"})
    assert may_change_something(Route("GET", "/orders/create"), {"/orders"})
    assert may_change_something(Route("GET", "/logout"), {"/logout"})
