"""What people are told of two results that should be one."""

import difflib
import hashlib
import io
import os
import random
import tarfile
import uuid
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from tungstenkit.seal.differences import differences, looks_like


def tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            elif isinstance(content, tuple):
                kind, value = content
                if kind == "link":
                    info.type, info.linkname = tarfile.SYMTYPE, value
                    archive.addfile(info)
                else:
                    info.mode = value
                    archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def of(tmp_path):
    def run(first, second):
        return differences(tar(tmp_path / "1.tar", first), tar(tmp_path / "2.tar", second))

    return run


def test_the_same_files_do_not_differ(of):
    same = {"app/a": b"x" * 3_000_000, "app/d": None, "app/l": ("link", "a")}
    assert of(same, dict(reversed(same.items()))) == []


def test_of_long_texts_no_more_is_compared_than_takes_a_moment(of, monkeypatch):
    compared, diff = [], difflib.unified_diff

    def noted(before, after, **options):
        compared.append((len(before), len(after)))
        return diff(before, after, **options)

    monkeypatch.setattr(difflib, "unified_diff", noted)
    first, last = ["begin"] * 50_000, ["end"] * 50_000
    texts = [("\n".join([*first, "lost", *middle, *last])).encode() for middle in (["a"], ["b", "c"])]
    assert of({"x": texts[0]}, {"x": texts[1]}) == ["/x:\n  -a\n  +b\n  +c"]
    texts = [("\n".join(f"{number % 150} {other}" for number in range(50_000))).encode() for other in "ab"]
    (said,) = of({"x": texts[0]}, {"x": texts[1]})
    assert said.startswith("/x:\n  -0 a\n  -1 a\n")
    assert compared == [(1, 2), (1000, 1000)]


def test_each_kind_of_difference_is_named(of):
    found = of(
        {"a": b"1", "b": b"", "c": ("link", "x"), "d": ("mode", 0o644), "e": None},
        {"b": None, "c": ("link", "y"), "d": ("mode", 0o755), "e": None, "f": b""},
    )
    assert found == [
        "/a: only the first run made it",
        "/b:\n  a file and a folder",
        "/c:\n  links to x and to y",
        "/d:\n  mode 0644 and 0755",
        "/f: only the second run made it",
    ]


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        (b'{"made": "2026-11-22T20:00:00"}', b'{"made": "2026-11-23T22:00:01"}', "time stamp"),
        (b"Sun Nov 22 20:19:53 2026", b"Mon Nov 23 22:19:54 2026", "time stamp"),
        (b"at 1795378654.25\n", b"at 1795472254.75\n", "time stamp"),
        (b"{b, a, c}", b"{a, c, b}", "another order"),
        (b"{2026-11-30, 2026-12-01}", b"{2026-12-01, 2026-11-30}", "another order"),
        (b"loss 0.1234567891\n", b"loss 0.1234567893\n", "the CPU"),
        (b"key 8f3a\n", b"key 77b0\n", None),
    ],
)
def test_a_text_shows_its_lines_and_what_they_look_like(of, old, new, hint):
    (found,) = of({"f": b"same\n" + old}, {"f": b"same\n" + new})
    assert f"-{old.decode().strip()}" in found
    assert f"+{new.decode().strip()}" in found
    assert "same\n" not in found
    assert (hint in found) if hint else ("(" not in found)


EAST = timezone(timedelta(hours=5, minutes=45))
FORMS = {
    **dict.fromkeys(
        (
            "%a %b %e %H:%M:%S %Y",  # ctime, asctime
            "%b %e %H:%M:%S",  # syslog
            "%a %b %e %H:%M:%S UTC %Y",  # date
            "%a %b %e %I:%M:%S %p UTC %Y",
            "%a %e %b %H:%M:%S CEST %Y",
            "%a %b %e %H:%M:%S %Y +0000",  # git
            "%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)",  # JavaScript
            "%a, %d %b %Y %H:%M:%S GMT",  # HTTP
            "%A, %d-%b-%y %H:%M:%S GMT",
            "[%d/%b/%Y:%H:%M:%S +0000]",  # servers' logs
            "%d-%b-%Y",
            "%d %b %Y",
            "%b %d %Y",
            "%B %e, %Y",
            "%B %e, %Y at %I:%M %p",
            "%e %B %Y %H:%M",
            "%Y-%m-%d",
            "model-%Y-%m-%d.bin",
            "%Y-%m-%d %H:%M:%S",
            "%Y-%m-%d %H:%M:%S +0000 UTC",  # Go
            "%Y-%m-%d %H:%M:%S,125 INFO made",  # Python's logging
            "%Y-%m-%dT%H:%M:%SZ",
            '{"made":"%Y-%m-%dT%H:%M:%S.%f"}',
            "%Y-%m-%dT%H:%M:%S.%f+01:00",
            "%Y-%m-%dT%H:%M:%S-0330",
            "%Y-%m-%d_%H-%M-%S",
            "%Y/%m/%d %H:%M",
            "%Y%m%dT%H%M%SZ",
            "%Y%m%d-%H%M%S",
            "run_%Y%m%d%H%M.log",
            "%Y%m%d%H%M%S",
            "%Y%m%d%H%M%S%f",
            "%Y%m%d",
            "%m/%d/%Y",
            "%m/%d/%y %H:%M:%S",
            "%d/%m/%Y",
            "%m/%d/%Y, %I:%M:%S\u202f%p",  # browsers
            "%d.%m.%Y",
            "%d.%m.%Y %H:%M",
            "%a %H:%M",
            "%H:%M:%S",
            "%I:%M %p",
        ),
        datetime.strftime,
    ),
    "RFC 2822": lambda moment, _: format_datetime(moment),
    "ISO": lambda moment, _: moment.astimezone(EAST).isoformat(),
    "seconds": lambda moment, _: f"at {int(moment.timestamp())}\n",
    "float": lambda moment, _: f'{{"at":{moment.timestamp()}}}',
    "milliseconds": lambda moment, _: f"{int(moment.timestamp() * 1000)},",
    "microseconds": lambda moment, _: f"{int(moment.timestamp() * 1_000_000)}",
    "nanoseconds": lambda moment, _: f"t={int(moment.timestamp()) * 1_000_000_000 + 42}",
    "unpadded": lambda moment, _: (
        f"{moment.month}/{moment.day}/{moment.year}, {moment.hour % 12 or 12}:30:00 AM"
    ),
}


def moments(year, hours):
    moment = datetime(year, 1, 1, 0, 30, 1, 125, tzinfo=UTC)
    while moment.year == year:
        yield moment
        moment += timedelta(hours=hours)


@pytest.mark.timeless("its moments are its own")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("year", "hours", "later"),
    [
        (2026, 1, timedelta(hours=26, minutes=7, seconds=1)),
        (2028, 31, timedelta(days=6, minutes=-7)),
        (2038, 101, timedelta(hours=24, minutes=1)),
        (2099, 101, timedelta(hours=46, minutes=1)),
    ],
)
def test_a_date_of_any_hour_is_known_in_every_form(form, year, hours, later):
    """At ends of months and of years, and where numbers get longer. Of a day's hours, each must be known."""
    pairs = [
        tuple(FORMS[form](one, form) for one in (moment, moment + later)) for moment in moments(year, hours)
    ]
    together = (pairs[at : at + 24] for at in range(0, len(pairs), 24))
    said = {looks_like(*map("\n".join, zip(*some, strict=True))) for some in together}
    assert said == {"looks like a time stamp"}, [
        pair for pair in pairs if "time" not in str(looks_like(*pair))
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2026-11-01 02:00", "2026-11-02 01:00"),
        ("12/11/2026", "11/12/2026"),
        ("made  9 November", "made 10 November"),
        ("at  9:59 PM.", "at 12:04 AM."),
        ("2026-11-29 03:06:42,125:INFO:made", "2026-11-30 05:06:43,250:INFO:made"),
        ("Sat Oct 31 23:00:00 CEST 2026", "Sun Nov  1 01:00:00 CET 2026"),
        ("MONDAY, NOVEMBER 30TH, 2026", "WEDNESDAY, DECEMBER 2ND, 2026"),
        ("November 2026", "December 2026"),
    ],
)
def test_two_moments_whose_words_differ_otherwise(before, after):
    assert looks_like(before, after) == "looks like a time stamp"


@pytest.mark.timeless("about how long it takes")
def test_looking_for_dates_takes_no_longer_than_a_text_is_long():
    """Some minutes otherwise."""
    for text in (" ", "1", "1:", "Nov ", "2026-11-", "03:06 (A"):
        assert looks_like(text * 50_000, text * 49_999) != "looks like a time stamp"


def test_a_moment_may_come_between_others_and_with_how_long_it_took():
    before = "from 2026-11-29 until Nov 30, 12 files in 0.35 s, see 2020-01-01\n"
    after = "from 2026-11-30 until Dec  1, 12 files in 0.5 s, see 2020-01-01\n"
    assert looks_like(before, after) == "looks like a time stamp"
    assert looks_like(before, after.replace("files", "folders")) is None
    assert looks_like("of 2026-11-29: 12 files", "of 2026-11-29: 13 files") is None
    assert looks_like("of 2026-11-29: 12 files", "of 2026-11-30: 13 files") is None


NO_DATES = {
    "hash": lambda chance: hashlib.sha256(chance.randbytes(8)).hexdigest(),
    "short hash": lambda chance: chance.randbytes(4).hex(),
    "fingerprint": lambda chance: chance.randbytes(20).hex(":"),
    "upper fingerprint": lambda chance: chance.randbytes(6).hex(":").upper(),
    "pairs": lambda chance: chance.randbytes(16).hex(" "),
    "uuid": lambda chance: str(uuid.UUID(bytes=chance.randbytes(16))),
    "hexadecimal": lambda chance: hex(chance.getrandbits(48)),
    "address": lambda chance: ".".join(str(chance.randrange(256)) for _ in range(4)) + ":8080",
    "version": lambda chance: ".".join(str(chance.randrange(30)) for _ in range(3)),
    "version by date": lambda chance: (
        f"{chance.randrange(2020, 2030)}.{chance.randrange(1, 13)}.{chance.randrange(9)}"
    ),
    "price": lambda chance: f"{chance.randrange(3000)}.{chance.randrange(100):02}",
    "large price": lambda chance: f"{chance.randrange(10**7, 10**10):,}",
    "count": lambda chance: str(chance.randrange(10**5)),
    "random 32 bits": lambda chance: str(chance.getrandbits(32)),
    "random 64 bits": lambda chance: str(chance.getrandbits(64)),
    "random float": lambda chance: str(chance.random()),
    "ratio": lambda chance: f"{chance.randrange(60, 100)}:{chance.randrange(60, 100)}",
    "words": lambda chance: " ".join(chance.choices(["may", "sunny", "mar", "moon", "second", "deco"], k=3)),
}


@pytest.mark.parametrize("kind", NO_DATES)
def test_what_is_no_date_is_not_called_one(kind):
    chance = random.Random(26)
    pairs = ((NO_DATES[kind](chance), NO_DATES[kind](chance)) for _ in range(3000))
    found = [pair for pair in pairs if looks_like(*pair) == "looks like a time stamp"]
    # Two numbers of ten digits are less than a week apart now and then.
    assert len(found) <= (3 if kind == "random 32 bits" else 0), found


def test_bytes_show_where_they_begin_to_differ(of):
    old = bytes(5) + b"\0\xff" + os.urandom(10)
    new = bytes(5) + b"\0\xfe" + old[7:] + b"more"
    (found,) = of({"f": old}, {"f": new})
    assert "17 and 21 bytes; from byte 6 on: ff" in found
    assert "and then: fe" in found


def test_a_large_file_is_compared_piece_by_piece(of):
    old = bytearray(5_000_000)
    new = bytearray(old)
    new[3_000_000] = 1
    (found,) = of({"f": bytes(old)}, {"f": bytes(new)})
    assert "from byte 3000000 on" in found


def test_a_long_text_is_cut(of):
    (found,) = of({"f": b"a\n" * 500}, {"f": b"b\n" * 500})
    assert len(found.splitlines()) < 20
    assert found.rstrip().endswith("…")
