"""Every operation of the OpenAPI document as a request: what a walk over all routes, later ones too, is made from.

An id in a path, a query or a body is known by its name. A name that nobody taught the walk makes it fail and say what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.integration.api_scene import Client

Ids = Mapping[str, str]

# Parameters of paths that choose among what everybody has.
CHOICES = {"channel": "alerts", "format": "json"}
# Parameters of queries that hold an id although their names do not end so.
ALSO_IDS = {"actor"}
# More bodies than a document's example shows: each way to name something.
_TARGETS = ("sensor_id", "unit_id", "site_id")
MAX_STREAM_BYTES = 100_000
_PARAMETER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Operation:
    """One operation of the document.

    Attributes:
        queries: names of the query's parameters.
        bodies: examples of its body, as the document has them.
        fields: names of the body's own fields that hold an id, shown in an example or not.
        body_ids: names of the ids that a body may hold anywhere.
        permission: what it takes; None: any credential, or none.
        bearer: whether a person's or a key's credential is asked for.
    """

    method: str
    path: str
    queries: tuple[str, ...]
    bodies: tuple[Any, ...]
    fields: tuple[str, ...]
    body_ids: frozenset[str]
    permission: str | None
    bearer: bool

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def path_ids(self) -> tuple[str, ...]:
        return tuple(name for name in _PARAMETER.findall(self.path) if name not in CHOICES)

    @property
    def query_ids(self) -> tuple[str, ...]:
        return tuple(name for name in self.queries if _is_id(name) or name in ALSO_IDS)

    def url(self, ids: Ids) -> str:
        """The path with these ids in it."""
        return _PARAMETER.sub(lambda match: {**CHOICES, **ids}[match[1]], self.path)


@dataclass(frozen=True)
class Answer:
    """What came back, of a stream its beginning."""

    status: int
    text: str


def operations(document: Mapping[str, Any]) -> list[Operation]:
    """All of them, those that nobody needs a credential for too."""
    return [
        _operation(document, method, path, each)
        for path, methods in document["paths"].items()
        for method, each in methods.items()
    ]


def untaught(walked: list[Operation], ids: Ids) -> list[str]:
    """What the walk cannot do yet, and what to do about it."""
    return sorted(
        f"{each.name}: the walk does not know an id named {name}; plant one in canary_scene.furnish and name it in its ids"
        for each in walked
        for name in {*each.path_ids, *each.query_ids, *each.body_ids} - set(ids)
    )


def send(api: Client, operation: Operation, ids: Ids, body: Any = None, **query: str) -> Answer:
    """Ask; of an endless answer the beginning is enough."""
    with api.http.stream(operation.method, operation.url(ids), json=body, params=query) as response:
        text = ""
        for chunk in response.iter_text():
            text += chunk
            streams = response.headers.get("content-type", "").startswith("text/event-stream")
            if len(text) > MAX_STREAM_BYTES or (streams and "sync" in text):
                break
    return Answer(response.status_code, text)


def bodies_with(operation: Operation, ids: Ids) -> Iterator[Any]:
    """The bodies of an operation, once with each kind of id in them, in effect from now: things are as old as the test."""
    for example in operation.bodies:
        body = _filled(example, ids)
        yield body
        if isinstance(body, dict):
            yield from ({**body, name: ids[name]} for name in operation.fields if name not in body)
            document = body.get("rule", body)
            if "applies_to" in document:
                for target in _TARGETS:
                    aimed = {**document, "applies_to": {target: ids[target]}}
                    yield {**body, "rule": aimed} if "rule" in body else aimed


def _operation(document: Mapping[str, Any], method: str, path: str, each: Mapping[str, Any]) -> Operation:
    content = each.get("requestBody", {}).get("content", {}).get("application/json", {})
    examples = [named["value"] for named in content.get("examples", {}).values()]
    examples += [content["example"]] if "example" in content else []
    names = {*_names(content.get("schema", {}), document), *_names(examples, document)}
    return Operation(
        method.upper(),
        path,
        tuple(one["name"] for one in each.get("parameters", []) if one["in"] == "query"),
        tuple(examples),
        tuple(filter(_is_id, content.get("schema", {}).get("properties", {}))),
        frozenset(name for name in names if _is_id(name)),
        each.get("x-permission"),
        any("Bearer" in scheme for scheme in each.get("security", [])),
    )


def names_an_id(body: Any, ids: Ids) -> bool:
    """Whether one of these ids is anywhere in a body."""
    if isinstance(body, dict):
        return any(names_an_id(child, ids) for child in body.values())
    if isinstance(body, list):
        return any(names_an_id(child, ids) for child in body)
    return body in set(ids.values())


def _is_id(name: str) -> bool:
    return name.endswith(("_id", "_ids"))


def _names(node: Any, document: Mapping[str, Any]) -> Iterator[str]:
    """Every key of a schema or an example, however deep; references followed."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield from _names(document["components"]["schemas"][node["$ref"].rpartition("/")[2]], document)
        for key, child in node.items():
            yield key
            yield from _names(child, document)
    elif isinstance(node, list):
        for child in node:
            yield from _names(child, document)


def _filled(node: Any, ids: Ids) -> Any:
    if isinstance(node, dict):
        kept = {key: child for key, child in node.items() if key != "effective_from"}
        return {key: _id_for(key, child, ids) if _is_id(key) else _filled(child, ids) for key, child in kept.items()}
    return [_filled(child, ids) for child in node] if isinstance(node, list) else node


def _id_for(key: str, shown: Any, ids: Ids) -> Any:
    return [ids[key]] if isinstance(shown, list) else ids[key]
