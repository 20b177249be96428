"""The OpenAPI description as a page for people: plain HTML, made here, that needs no script and no other host."""

from __future__ import annotations

import json
import re
import shlex
from html import escape
from typing import TYPE_CHECKING, Any

from tungsten_server.page.curl import as_form, as_json, example_input

if TYPE_CHECKING:
    from collections.abc import Iterator

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentcolor 20%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
body { overflow-wrap: anywhere; }
h2 { border-top: 1px solid var(--line); padding-top: 1.5rem; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9em; }
pre { overflow: auto; max-height: 30rem; padding: 0.75rem; border: 1px solid var(--line); border-radius: 4px; }
pre { white-space: pre-wrap; }
td, th { text-align: left; vertical-align: top; padding: 0.2rem 1rem 0.2rem 0; }
"""


def docs_page(document: dict[str, Any], base: str = "", address: str = "http://localhost:3000") -> str:
    """Write the page.

    document: as `openapi_document` makes it. base: the way to the server's root. address: how the reader calls it.
    """
    info = document["info"]
    title = escape(_words(info["title"]))
    commands = _commands(document, address)
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}: API</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f"<h1>{title}</h1>\n{_paragraph(info['description'])}",
            f'<p>For programs: <a href="{base}openapi.json">openapi.json</a> (OpenAPI 3.1).</p>',
            "<nav><ul>",
            *(
                f'<li><a href="#{operation["operationId"]}">{_name(method, path)}</a>: '
                f"{_code(operation['summary'])}</li>"
                for path, method, operation in _operations(document)
            ),
            "</ul></nav>",
            '<h2 id="examples">Examples</h2>',
            *(f"{_paragraph(what)}\n{_pre(command, 'example')}" for what, command in commands),
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


def _commands(document: dict[str, Any], address: str) -> Iterator[tuple[str, str]]:
    """For each way to send an input what it is, and a command for a shell."""
    parts = document["components"]
    examples = [one["value"][0] for one in parts["examples"].values()]
    value = example_input(parts["schemas"]["Input"], examples)
    yield "As JSON, files as `data:` URIs:", as_json(f"{address}/predict", value)
    send = as_form if value else as_json
    if value:
        yield "As a form, files as they are:", as_form(f"{address}/predict", value)
    links = "With the files of outputs as addresses, each for `curl -O`:"
    yield links, send(f"{address}/predict?files=links", value)
    later = "What takes long is started, asked for until its `status` is `success` or `failed`, and can be canceled:"
    commands = [
        f"id=$({send(f'{address}/predictions', value)} | tr -d '{{}}\" ' | cut -d: -f2)",
        f'curl -s {shlex.quote(address)}/predictions/"$id"',
        f'curl -s -X POST {shlex.quote(address)}/predictions/"$id"/cancel',
    ]
    yield later, "\n".join(commands)


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
    return _pre(json.dumps(schema, indent=2, ensure_ascii=False))


def _pre(text: str, kind: str = "") -> str:
    return f"<pre tabindex='0'{f' class={kind}' if kind else ''}>{escape(text)}</pre>"


def _words(name: str) -> str:
    """An image's name as a person writes it: `text-to-image-model` is "Text to image model"."""
    words = " ".join(re.split(r"[-_\s]+", name))
    return words[:1].upper() + words[1:]
