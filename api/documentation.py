"""`/docs`: the OpenAPI document as a page to read, made here and complete: no script, nothing fetched from elsewhere.

Border: OpenAPI in, HTML out. Tools that generate clients take `/openapi.json`.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_STYLE: Final = """
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}body{max-width:60rem;margin:2rem auto;padding:0 1rem}
section{border-top:1px solid #8886;margin-top:2rem}code,pre{font:.875rem/1.45 ui-monospace,monospace}
pre{overflow:auto;padding:.75rem;background:#8881;border-radius:.4rem}table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8883}
h2 b{display:inline-block;min-width:3.2rem;color:#06c}summary{cursor:pointer}
"""
_PAGE: Final = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} API</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>{style}</style></head><body>
<h1>{title} API {version}</h1><p>{description}</p>
<p>The same for programs: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>
<nav><ul>{contents}</ul></nav>{operations}</body></html>"""

Document = Mapping[str, Any]


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The page."""
    return HTMLResponse(render(request.app.openapi()), headers={"Content-Security-Policy": _POLICY})


def render(document: Document) -> str:
    """The whole document as one page."""
    operations = list(_operations(document))
    contents = "".join(
        f'<li><a href="#{_text(each["operationId"])}"><code>{method.upper()} {_text(path)}</code></a> {_text(each["summary"])}'
        for path, method, each in operations
    )
    info = document["info"]
    return _PAGE.format(
        title=_text(info["title"]),
        version=_text(info["version"]),
        description=_text(info["description"]),
        style=_STYLE,
        contents=contents,
        operations="".join(_section(*each) for each in operations),
    )


def _operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _section(path: str, method: str, operation: Document) -> str:
    schemes = ", ".join(name for each in operation.get("security", []) for name in each)
    parts = [
        f'<section id="{_text(operation["operationId"])}"><h2><b>{method.upper()}</b> <code>{_text(path)}</code></h2>',
        f"<p>{_text(operation.get('description', operation['summary']))}</p>",
        f"<p>Credential: {_text(schemes)}, as <code>Authorization: Bearer …</code></p>" if schemes else "",
        _parameters(operation.get("parameters", [])),
    ]
    if "requestBody" in operation:
        parts.append(f"<h3>Body</h3><p>{_text(operation['requestBody'].get('description', ''))}</p>")
        parts.append(_contents(operation["requestBody"]["content"]))
    for status, response in operation["responses"].items():
        summary = f"<summary><code>{_text(status)}</code> {_text(response['description'])}</summary>"
        opened = " open" if status.startswith("2") else ""
        parts.append(f"<details{opened}>{summary}{_contents(response.get('content', {}))}</details>")
    return "".join(parts) + "</section>"


def _parameters(parameters: list[Document]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td><code>{_text(each['name'])}</code><td>{_text(each['in'])}{', required' if each.get('required') else ''}"
        f"<td>{_text(each.get('description', ''))}"
        for each in parameters
    )
    return f"<table><tr><th>parameter<th>in<th>meaning{rows}</table>"


def _contents(content: Document) -> str:
    shown = []
    for media_type, each in content.items():
        examples = [named["value"] for named in each.get("examples", {}).values()]
        examples += [each["example"]] if "example" in each else []
        shown.append(f"<p><code>{_text(media_type)}</code></p>")
        shown += [f"<pre>{_text(_example(example))}</pre>" for example in examples]
    return "".join(shown)


def _example(example: object) -> str:
    return example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)


def _text(value: object) -> str:
    return html.escape(str(value))
