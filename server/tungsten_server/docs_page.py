"""The OpenAPI description as a page for people: plain HTML, made here, that needs no script and no other host."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentcolor 20%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { border-top: 1px solid var(--line); padding-top: 1.5rem; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9em; }
pre { overflow: auto; max-height: 30rem; padding: 0.75rem; border: 1px solid var(--line); border-radius: 4px; }
td, th { text-align: left; vertical-align: top; padding: 0.2rem 1rem 0.2rem 0; }
"""


def docs_page(document: dict[str, Any], base: str = "") -> str:
    """Write the page. document: as `openapi_document` makes it. base: the way to the server's root."""
    info = document["info"]
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])}: API</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f"<h1>{escape(info['title'])}</h1>\n{_paragraph(info['description'])}",
            f'<p>For programs: <a href="{base}openapi.json">openapi.json</a> (OpenAPI 3.1).</p>',
            "<nav><ul>",
            *(
                f'<li><a href="#{operation["operationId"]}">{_name(method, path)}</a>: '
                f"{_code(operation['summary'])}</li>"
                for path, method, operation in _operations(document)
            ),
            "</ul></nav>",
            *(
                line
                for path, method, operation in _operations(document)
                for line in _section(document, path, method, operation)
            ),
            "<h2>Schemas</h2>",
            *(
                f'<h3 id="schema-{escape(name)}">{escape(name)}</h3>\n{_json(schema)}'
                for name, schema in document["components"]["schemas"].items()
            ),
            "</body>\n</html>\n",
        ]
    )


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _section(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f'<section>\n<h2 id="{operation["operationId"]}">{_name(method, path)}</h2>'
    yield _paragraph(operation["summary"] + ".")
    if "description" in operation:
        yield _paragraph(operation["description"])
    body = operation.get("requestBody")
    if body:
        yield f"<h3>Body</h3>\n{_paragraph(body['description'])}"
        for media_type, content in body["content"].items():
            yield f"<p><code>{escape(media_type)}</code></p>\n{_json(content['schema'])}"
    yield "<h3>Answers</h3>\n<table><tr><th>Status</th><th>Meaning</th><th>Schema</th></tr>"
    for status, response in operation["responses"].items():
        reference = response.get("$ref")
        known = document["components"]["responses"][reference.rsplit("/", 1)[1]] if reference else response
        yield (
            f"<tr><td>{escape(status)}</td><td>{_code(known['description'])}</td><td>{_schema_link(known)}</td></tr>"
        )
    yield "</table>\n</section>"


def _schema_link(response: dict[str, Any]) -> str:
    links = []
    for media_type, content in response.get("content", {}).items():
        reference = content["schema"].get("$ref", "")
        name = escape(reference.rsplit("/", 1)[-1])
        links.append(f'<a href="#schema-{name}">{name}</a>' if name else f"<code>{escape(media_type)}</code>")
    return ", ".join(links)


def _name(method: str, path: str) -> str:
    return f"<code>{method.upper()} {escape(path)}</code>"


def _paragraph(text: str) -> str:
    return f"<p>{_code(text)}</p>"


def _code(text: str) -> str:
    """Escape a text, and set what stands between back-ticks as code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))


def _json(schema: object) -> str:
    return f"<pre tabindex='0'>{escape(json.dumps(schema, indent=2, ensure_ascii=False))}</pre>"
