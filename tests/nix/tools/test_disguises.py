"""A handed-over value in every usual form: found in what a step leaves, and masked in what it prints."""

import base64
import gzip
import io
import json
import re
import sys
import tarfile
import zipfile
import zlib
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.nix.conftest import LIB

sys.path.insert(0, str(LIB))
import disguises
from disguises import Disguises

TOKEN = "hf_s3cr/t+tok€n'<&>\"\\ 4321-end"
RAW = TOKEN.encode()
NETRC = "machine h.example login me password "


def basic(before, encode=base64.b64encode):
    return encode(before + RAW + b"\nmore")


FORMS = {
    "as it is": RAW,
    **{f"base64 after {n} letters": basic(b"user:"[:n] + b"xyz") for n in range(4)},
    **{f"base64 for URLs after {n}": basic(b"abc"[:n], base64.urlsafe_b64encode) for n in range(4)},
    "base64 alone": base64.b64encode(RAW),
    "base64 without its end": base64.b64encode(RAW).rstrip(b"="),
    "base64 in lines": base64.encodebytes(b"machine example.org login somebody password " + RAW + b" " * 50),
    "base64 in lines within JSON": json.dumps(base64.encodebytes(b"x" * 50 + RAW + b"y").decode()).encode(),
    "base64 in JSON of PHP": basic(b"??").replace(b"/", rb"\/"),
    "base64 in a URL": quote(basic(b"?>"), safe="").encode(),
    "docker's config": json.dumps({"auths": {"h": {"auth": basic(b"me:").decode()}}}).encode(),
    "hexadecimal": RAW.hex().encode(),
    "HEXADECIMAL": RAW.hex().upper().encode(),
    "JSON": json.dumps({"token": TOKEN}).encode(),
    "JSON, not ASCII": json.dumps({"token": TOKEN}, ensure_ascii=False).encode(),
    "JSON of PHP": json.dumps(TOKEN).replace("/", "\\/").encode(),
    "JSON in a page": json.dumps(TOKEN)
    .replace("<", "\\u003c")
    .replace(">", "\\u003e")
    .replace("&", "\\u0026")
    .replace("'", "\\u0027")
    .replace("+", "\\u002b")
    .encode(),
    "JSON, every letter": "".join(f"\\u{ord(one):04x}" for one in TOKEN).encode(),
    "JSON, every LETTER": "".join(f"\\u{ord(one):04X}" for one in TOKEN).encode(),
    "a URL": quote(TOKEN, safe="").encode(),
    "a URL's path": quote(TOKEN).encode(),
    "a url": re.sub("%..", lambda found: found[0].lower(), quote(TOKEN, safe="")).encode(),
    "a form": quote_plus(TOKEN).encode(),
    "a URL, every letter": "".join(f"%{byte:02X}" for byte in RAW).encode(),
    "UTF-16": TOKEN.encode("utf-16-le"),
}


def gzipped(data):
    return gzip.compress(b"some text before\n") + gzip.compress(data) + bytes(100)


def zipped(data):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"")
        archive.writestr("b/c", b"x" * 70_000 + data)
    return out.getvalue()


def tarred(data):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo("x")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


INSIDE = {
    "itself": lambda data: data,
    "a piece's end": lambda data: b"." * ((1 << 20) - len(data) // 2) + data,
    "gzip": gzipped,
    "zlib": zlib.compress,
    "tar.gz": tarred,
    "zip": zipped,
    "a program with a zip behind it": lambda data: b"#!/bin/sh\n" + zipped(data),
    "zip in zip": lambda data: zipped(zipped(data)),
    "gzip in zip": lambda data: zipped_member(gzip.compress(data)),
}


def zipped_member(data):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.gz", data)
    return out.getvalue()


@pytest.mark.parametrize(
    ("form", "inside"),
    [
        *((form, inside) for form in FORMS for inside in ("itself", "tar.gz")),
        *((form, inside) for form in ("as it is", "base64 after 1 letters", "JSON") for inside in INSIDE),
    ],
)
def test_each_form_is_found_wherever_it_is(tmp_path, form, inside):
    file = tmp_path / "file"
    file.write_bytes(INSIDE[inside](b"before " + FORMS[form] + b" after"))
    assert Disguises({"OTHER": "another value", "TOKEN": TOKEN}).of_path(str(file)) == ["TOKEN"]


@pytest.mark.parametrize("form", FORMS)
def test_and_is_masked_in_what_is_printed(form):
    printed = b"said: " + FORMS[form] + b" :end\n"
    shown = b"".join(Disguises({"TOKEN": TOKEN}).masked(line) for line in printed.splitlines(keepends=True))
    assert shown.startswith(b"said: ")
    assert b"***" in shown
    for start in range(len(FORMS[form]) - 16):
        if form != "base64 in lines" or b"\n" not in FORMS[form][start : start + 16]:
            piece = FORMS[form][start : start + 16]
            assert piece not in shown or piece not in secret_part(form), piece


def secret_part(form):
    """Of a form what tells of the value; the rest is whatever stood around it."""
    plain = FORMS[form]
    if "base64" not in form and "config" not in form:
        return plain
    known = Disguises({"TOKEN": TOKEN})._encoded["TOKEN"]
    return b" ".join(known)


@given(st.text(st.characters(codec="utf-8"), min_size=8), st.binary(max_size=50), st.binary(max_size=50))
def test_whatever_the_value_and_what_stands_around_it(value, before, after):
    if len(value.encode()) < 8 or "\0" in value:
        return
    forms = Disguises({"X": value})
    raw = value.encode()
    for data in (
        base64.b64encode(before + raw + after),
        base64.urlsafe_b64encode(before + raw + after),
        json.dumps(value).encode(),
        quote(value, safe="").encode(),
        raw.hex().encode(),
    ):
        assert list(forms._in(data)) == ["X"]
        assert list(forms._in(before + b" " + data + b" " + after)) == ["X"]


def test_what_is_not_it_is_left_alone(tmp_path):
    forms = Disguises({"TOKEN": TOKEN, "SHORT": "ab1"})
    text = b"https://h.example/AbCdEfGhIjKlMnOpQrStUvWxYz0123456789 sha256:" + b"0123456789abcdef" * 4 + b"\n"
    assert forms.masked(text) == text
    (tmp_path / "file").write_bytes(text * 10_000 + base64.b64encode(b"ab1" * 5) + gzip.compress(text))
    assert forms.of_path(str(tmp_path / "file")) == []


def test_a_short_value_is_known_as_it_is_alone(tmp_path):
    forms = Disguises({"SHORT": "ab1"})
    assert forms.masked(b"x ab1 y") == b"x *** y"
    assert forms.masked(base64.b64encode(b"ab1")) == base64.b64encode(b"ab1")


@pytest.mark.parametrize(
    "data",
    [
        b"\x1f\x8b",
        b"\x1f\x8b\x08" + bytes(100),
        gzip.compress(b"x" * 1000)[:30],
        b"PK\x03\x04" + bytes(100),
        b"PK\x05\x06" + bytes(18),
        zipped(b"x")[:-30],
        zipped(b"x").replace(b"b/c", b"b/d", 1),
        b"\x78\x9cxxxx",
        b"",
        b"\x78",
    ],
)
def test_what_is_damaged_is_looked_at_as_it_is(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    assert Disguises({"TOKEN": TOKEN}).of_path(str(tmp_path / "file")) == []
    (tmp_path / "file").write_bytes(data + RAW)
    assert Disguises({"TOKEN": TOKEN}).of_path(str(tmp_path / "file")) == ["TOKEN"]


def test_a_bomb_does_not_keep_it_busy(tmp_path, monkeypatch):
    monkeypatch.setattr(disguises, "_MOST_INFLATED", 1 << 22)
    (tmp_path / "gzip").write_bytes(gzip.compress(bytes(1 << 24) + RAW))
    (tmp_path / "zip").write_bytes(zipped(bytes(1 << 24) + RAW))
    for name in ("gzip", "zip"):
        assert Disguises({"TOKEN": TOKEN}).of_path(str(tmp_path / name)) == []


def test_links_and_names(tmp_path):
    forms = Disguises({"TOKEN": "s3cret-t0ken"})
    (tmp_path / "link").symlink_to("/usr/" + base64.urlsafe_b64encode(b"me:s3cret-t0ken").decode())
    named = tmp_path / quote("a/s3cret-t0ken", safe="")
    named.mkdir()
    assert forms.of_path(str(tmp_path / "link")) == forms.of_path(str(named)) == ["TOKEN"]
