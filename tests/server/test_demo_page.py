"""The demo page's routes: what they serve, with which headers, and that nothing they serve names another host."""

import re
from pathlib import Path

import pytest
from flask import Flask
from tungsten_server.page import demo as module
from tungsten_server.page.demo import DemoPage

STATIC = Path(module.__file__).resolve().parent / "static"
FILES = sorted(path.name for path in STATIC.iterdir())


@pytest.fixture(scope="module")
def client():
    app = Flask(__name__, static_folder=None)
    page = DemoPage()
    app.add_url_rule("/demo", view_func=page.page)
    app.add_url_rule("/static/<name>", view_func=page.file)
    return app.test_client()


def directives(response):
    parts = (part.split() for part in response.headers["Content-Security-Policy"].split(";"))
    return {name: values for name, *values in parts}


def test_the_page_is_html(client):
    response = client.get("/demo")
    assert response.status_code == 200
    assert response.content_type == "text/html; charset=utf-8"
    assert response.data == (STATIC / "demo.html").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_with_its_media_type(client, name):
    types = {
        ".css": "text/css; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }
    response = client.get(f"/static/{name}")
    assert (response.status_code, response.data) == (200, (STATIC / name).read_bytes())
    assert response.content_type == types[Path(name).suffix]
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["demo.html.bak", "..%2fapp.py", "../app.py", "%2e%2e/app.py", "", "app.py"])
def test_nothing_else_is_served(client, name):
    assert client.get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize("path", ["/demo", "/static/demo.js"])
def test_a_browser_asks_anew_and_gets_a_file_once(client, path):
    first = client.get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    etag = first.headers["ETag"]
    again = client.get(path, headers={"If-None-Match": etag})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", etag)
    assert client.get(path, headers={"If-None-Match": '"older"'}).status_code == 200


def test_files_differ_in_their_etags(client):
    assert len({client.get(f"/static/{name}").headers["ETag"] for name in FILES}) == len(FILES)


@pytest.mark.parametrize("path", ["/demo", "/static/demo.js", "/static/icon.svg"])
def test_the_policy_allows_this_server_and_nothing_else(client, path):
    policy = directives(client.get(path))
    assert policy["default-src"] == ["'none'"]
    for name in ("script-src", "style-src", "connect-src"):
        assert policy[name] == ["'self'"]
    for name in ("img-src", "media-src"):
        assert policy[name] == ["'self'", "data:", "blob:"]
    assert policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert policy["require-trusted-types-for"] == ["'script'"]
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*"} & {v for values in policy.values() for v in values}


@pytest.mark.parametrize("name", FILES)
def test_no_other_host_is_named(name):
    # The name of SVG's elements looks like an address, and is none.
    text = (STATIC / name).read_text().replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"(?:https?:|wss?:|['\"(])//[\w.-]+", text) == []
    assert "@import" not in text


def test_the_page_holds_no_script_and_no_style_of_its_own():
    text = (STATIC / "demo.html").read_text()
    assert re.findall(r"<script(?![^>]* src=)", text) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", text) == []


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_no_script_makes_markup_or_code_of_text(name):
    text = (STATIC / name).read_text()
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc"
    )
    assert re.findall(forbidden, text) == []


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".js", ".html"))])
def test_every_file_that_is_asked_for_exists(name):
    text = (STATIC / name).read_text()
    asked = re.findall(r'from "\./([^"]+)"', text) + re.findall(r'(?:src|href)="static/([^"]+)"', text)
    assert set(asked) <= set(FILES)
