"""The description of the server's routes (OpenAPI 3.1), made from the model's own schemas and the limits in force.

Which routes there are is said in `routes`; what `app` answers is held against this by tests. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tungsten_server.checks.files import FILE_TYPES
from tungsten_server.http.routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tungsten_server.words.settings import Settings
    from tungsten_server.words.spec import Spec

_BASE64 = "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_FILE_PATTERN = (
    r"^([dD][aA][tT][aA]:([A-Za-z0-9_.+-]+/[A-Za-z0-9_.+-]+)?(;[A-Za-z0-9_.+-]+=[A-Za-z0-9_.+%\"-]+)*"
    rf"(,[\s\S]*|;base64,{_BASE64})|(?=[\s\S]){_BASE64})$"
)
"""What a file's text must look like: a data URI, or base64 that is not empty."""

_URL_PATTERN = r"^[hH][tT][tT][pP][sS]?://"

_JSON = "application/json"

_EVENTS = "text/event-stream"

_OUTPUT_FILE = {"format": "uri-reference"}
"""An address on this server has neither scheme nor host."""

_FILES = {
    "name": "files",
    "in": "query",
    "description": (
        "How files in outputs are told: as `data:` URIs, or as addresses on this server, `/files/…`. They last as long "
        "as the result does; `POST /predict` keeps it for them."
    ),
    "schema": {"enum": ["data", "links"], "default": "data"},
}


def openapi_document(spec: Spec, settings: Settings) -> dict[str, Any]:
    """Describe the server of one model."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": spec.name,
            "version": "1",
            "description": (
                "Serves one model. Inputs of all requests are batched as they come. A prediction that is accepted is "
                "answered with 200, also when it fails: its `status` says so. Of equal names in a JSON object the "
                "last one counts; names that the model doesn't know are ignored."
            ),
        },
        "paths": _paths(spec, settings),
        "components": {
            "schemas": _schemas(spec, settings),
            "responses": _errors(settings),
            "examples": _examples(spec),
        },
    }


def _paths(spec: Spec, settings: Settings) -> dict[str, Any]:
    operations = _operations(spec, settings)
    paths: dict[str, Any] = {}
    for route in ROUTES:
        named = {"operationId": route.operation_id, "summary": route.summary}
        paths.setdefault(route.path, {})[route.method.lower()] = {**named, **operations[route.name]}
    return paths


def _operations(spec: Spec, settings: Settings) -> dict[str, dict[str, Any]]:
    """Describe what each route takes and answers, by its name in the table of routes."""
    body = _request_body(spec, settings)
    cancel = _about_one({"description": "It is done or cancelled; the body is empty"}, settings)
    ready = {"200": _json("Status"), "503": {**_json("NotReady"), "description": "It is not, and why"}}
    return {
        "describe": _only(_json("Metadata")),
        "predict": {
            "parameters": [_FILES],
            "requestBody": body,
            "responses": {"200": _with_events(_json("Prediction")), **_refusals()},
        },
        "create_prediction": _create(body, "prediction_id"),
        "get_prediction": _progress(_with_events(_json("Prediction")), settings),
        "cancel_prediction": cancel,
        "demo_page": _only(_text("text/html")),
        "create_demo": _create(body, "demo_id"),
        "get_demo": _progress(_with_events(_json("Demo")), settings),
        "cancel_demo": cancel,
        "get_file": _get_file(settings),
        "health": _only(_json("Status")),
        "readiness": {"responses": ready},
        "metrics": _only(_text("text/plain")),
        "openapi": _only(_json_of({"type": "object"})),
        "docs": _only(_text("text/html")),
    }


def _only(response: dict[str, Any]) -> dict[str, Any]:
    """Describe a route that takes nothing and has this one response."""
    return {"responses": {"200": response}}


def _create(body: dict[str, Any], key: str) -> dict[str, Any]:
    created = {
        "type": "object",
        "properties": {key: {"type": "string", "pattern": "^[0-9a-f]{32}$"}},
        "required": [key],
    }
    return {"requestBody": body, "responses": {"200": _json_of(created), **_refusals()}}


def _about_one(answer: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {
        "description": (
            f"A result is kept for {settings.result_expiration:g} seconds, and as long as all of them take at most "
            f"{settings.max_results_bytes} bytes."
        ),
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
        "responses": {"200": answer, "404": {"$ref": "#/components/responses/NotFound"}},
    }


def _progress(answer: dict[str, Any], settings: Settings) -> dict[str, Any]:
    about = _about_one(answer, settings)
    invalid = {"422": {"$ref": "#/components/responses/Invalid"}}
    return {
        **about,
        "parameters": [*about["parameters"], _FILES],
        "responses": {**about["responses"], **invalid},
    }


def _get_file(settings: Settings) -> dict[str, Any]:
    whole = {"type": "integer", "minimum": 0}
    about = _about_one({}, settings)
    any_file: dict[str, Any] = {"content": {"*/*": {"schema": {}}}}
    places = [{"name": name, "in": "path", "required": True, "schema": whole} for name in ("index", "number")]
    answers = {
        "200": {"description": "The file", **any_file},
        "206": {"description": "The part of it that `Range` asks for", **any_file},
        "304": {"description": "It is the one that `If-None-Match` names"},
        "416": {"description": "It has no such part", **_content("Error")},
    }
    return {
        **about,
        "description": f"Addresses of it stand in outputs where `files=links` is asked for. {about['description']}",
        "parameters": [*about["parameters"], *places],
        "responses": {**about["responses"], **answers},
    }


def _refusals() -> dict[str, Any]:
    names = {
        "400": "BadRequest",
        "403": "Forbidden",
        "413": "TooLarge",
        "415": "Encoded",
        "422": "Invalid",
        "500": "Defect",
        "503": "Unavailable",
    }
    return {status: {"$ref": f"#/components/responses/{name}"} for status, name in names.items()}


def _errors(settings: Settings) -> dict[str, Any]:
    return {
        "BadRequest": {"description": "Not HTTP", **_content("Error")},
        "Forbidden": {
            "description": "A page of another site has sent it, or calls the server by a name that it has not",
            **_content("Error"),
        },
        "Encoded": {"description": "The body comes with a Content-Encoding", **_content("Error")},
        "NotFound": {
            "description": "No such id, or its result has expired; `detail` is the id",
            **_content("Error"),
        },
        "TooLarge": {
            "description": f"The body has more than {settings.max_body} bytes, or too many parts",
            **_content("Error"),
        },
        "Invalid": {
            "description": "The body is not a list of valid inputs: where, and why",
            **_content("Invalid"),
        },
        "Defect": {"description": "A defect of the server", **_content("Error")},
        "Unavailable": {
            "description": "The model is being set up, too much is waiting, or the server is stopping",
            "headers": {
                "Retry-After": {
                    "description": "Seconds",
                    "required": True,
                    "schema": {"type": "integer", "minimum": 1},
                }
            },
            **_content("Error"),
        },
    }


def _schemas(spec: Spec, settings: Settings) -> dict[str, Any]:
    text = {"type": "string"}
    prediction = {
        "status": {"enum": ["pending", "running", "success", "failed"]},
        "outputs": {
            "type": ["array", "null"],
            "items": {"$ref": "#/components/schemas/Output"},
            "description": "In the inputs' order; null unless the status is success",
        },
        "error_message": {
            "type": ["string", "null"],
            "description": "`ExceptionType: message`; `Canceled`; or a text that ends with `Timeout`",
        },
    }
    demo = {
        "demo_outputs": {
            "type": ["array", "null"],
            "items": {"$ref": "#/components/schemas/DemoOutput"},
        },
        "logs": {"type": ["string", "null"], "description": "The end of what the model has printed so far"},
    }
    location = {"type": "array", "items": {"type": ["string", "integer"]}}
    return {
        "Input": _described_files(spec.input_schema, _file_rule(settings)),
        "Output": _described_files(spec.output_schema, _OUTPUT_FILE),
        "DemoOutput": _described_files(spec.demo_output_schema, _OUTPUT_FILE),
        "Prediction": _object(prediction),
        "Demo": _object({**prediction, **demo}),
        "Metadata": _object(
            {
                "name": text,
                "input_schema": {"type": "object"},
                "output_schema": {"type": "object"},
                "demo_output_schema": {"type": "object"},
                "examples": {
                    "type": "array",
                    "items": {"type": "object"},
                    "description": "Inputs to try it with",
                },
            },
            stream={"const": True, "description": "There where outputs come piece by piece"},
        ),
        "Status": _object({"status": text}),
        "NotReady": _object({"status": text, "reason": text}),
        "Error": _object({"detail": text}),
        "Invalid": _object(
            {
                "detail": {
                    "type": "array",
                    "minItems": 1,
                    "items": _object({"loc": location, "msg": text, "type": text}),
                }
            }
        ),
    }


def _examples(spec: Spec) -> dict[str, Any]:
    return {f"example-{number}": {"value": [example]} for number, example in enumerate(spec.examples, 1)}


def _object(properties: dict[str, Any], **optional: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {**properties, **optional}, "required": list(properties)}


def _request_body(spec: Spec, settings: Settings) -> dict[str, Any]:
    address = ", an http(s) address, which is fetched first," if settings.allow_urls else ""
    examples = {
        f"example-{number}": {"$ref": f"#/components/examples/example-{number}"}
        for number in range(1, 1 + len(spec.examples))
    }
    return {
        "required": True,
        "description": (
            f"A JSON list of 1 to {settings.max_inputs} inputs, or one input as a form. In JSON a file is a `data:` "
            f"URI{address} or base64, and has at most {settings.max_file} bytes. In a form it is a part with a file "
            "name; other parts are text that the field's schema gives a meaning; the name `a.b` is field `b` of the "
            "object `a`, and a name that comes several times makes a list."
        ),
        "content": {
            _JSON: {
                "schema": {
                    "type": "array",
                    "items": {"$ref": "#/components/schemas/Input"},
                    "minItems": 1,
                    "maxItems": settings.max_inputs,
                },
                **({"examples": examples} if examples else {}),
            },
            "multipart/form-data": {"schema": _form(spec.input_schema)},
        },
    }


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    """An input's schema as a form has it: objects that hold files are taken apart into dotted names."""
    fields = list(_form_fields(schema, "", required=True))
    return {
        "type": "object",
        "properties": {name: field for name, field, _ in fields},
        "required": [name for name, _, required in fields if required],
    }


def _form_fields(
    schema: dict[str, Any], prefix: str, *, required: bool
) -> Iterator[tuple[str, dict[str, Any], bool]]:
    for name, field in schema.get("properties", {}).items():
        needed = required and name in schema.get("required", ())
        if _holds_file(field) and field.get("type") == "object":
            yield from _form_fields(field, f"{prefix}{name}.", required=needed)
        else:
            yield prefix + name, _form_files(field), needed


def _form_files(schema: dict[str, Any]) -> dict[str, Any]:
    if _is_file(schema):
        description = {"description": schema["description"]} if "description" in schema else {}
        return {"type": "string", "contentMediaType": "application/octet-stream", **description}
    if isinstance(schema.get("items"), dict):
        return {**schema, "items": _form_files(schema["items"])}
    return schema


def _holds_file(schema: dict[str, Any]) -> bool:
    return _is_file(schema) or any(map(_holds_file, schema.get("properties", {}).values()))


def _is_file(schema: dict[str, Any]) -> bool:
    return schema.get("x-file-type") in FILE_TYPES


def _file_rule(settings: Settings) -> dict[str, Any]:
    """What is checked of a file field's text; that it is a URI is not enough."""
    if not settings.allow_urls:
        return {"pattern": _FILE_PATTERN}
    return {"anyOf": [{"pattern": _FILE_PATTERN}, {"pattern": _URL_PATTERN}]}


def _described_files(schema: Any, rule: dict[str, Any]) -> Any:  # noqa: ANN401 (any part of a schema)
    """The schema, its file fields with a rule for their text."""
    if isinstance(schema, list):
        return [_described_files(item, rule) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if _is_file(schema):
        kept = {key: value for key, value in schema.items() if key != "format"}
        return {**kept, **rule}
    return {key: _described_files(value, rule) for key, value in schema.items()}


def _json(name: str) -> dict[str, Any]:
    return {"description": name, **_content(name)}


def _with_events(answer: dict[str, Any]) -> dict[str, Any]:
    """The same answer, and the events that a client may ask for instead."""
    described = {
        "type": "string",
        "description": (
            'Server-sent events. `piece`: `{"index": …, "output": …}`, what is new of the output for that input; '
            "what has an `x-fold` in the output's schema is put behind what was before, all else replaces it, and what "
            "a piece leaves out stays. Who follows late, or reads slowly, gets several pieces as one. With "
            "`files=links`, pieces have no files. `prediction`, the last: the whole, as without events."
        ),
    }
    return {**answer, "content": {**answer["content"], _EVENTS: {"schema": described}}}


def _content(name: str) -> dict[str, Any]:
    return {"content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}}


def _json_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "JSON", "content": {_JSON: {"schema": schema}}}


def _text(media_type: str) -> dict[str, Any]:
    return {"description": "Text", "content": {media_type: {"schema": {"type": "string"}}}}
