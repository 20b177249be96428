"""Only a pinned key's word counts, and only for the suite that was asked for and while it is valid."""

import base64
from datetime import UTC, datetime

import pytest
from pysequoia import ArmorKind, SignatureMode, Tsk, armor, sign

from tungstenkit.debian.release import (
    RELEASES,
    Listed,
    certificates,
    machine_keyrings,
    pinned_fingerprints,
    verify_inrelease,
)
from tungstenkit.sdk.errors import UnusableError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEXT = """\
Origin: Debian
Label: Debian
Suite: stable
Codename: trixie
Date: Sat, 28 Feb 2026 10:00:00 UTC
Valid-Until: Sat, 07 Mar 2026 10:00:00 UTC
Acquire-By-Hash: yes
Description: Debian
- dashed
MD5Sum:
 00 5 main/binary-amd64/Packages
SHA256:
 aa 5 main/binary-amd64/Packages
 bb 3 main/binary-amd64/Packages.xz
"""


@pytest.fixture(scope="module")
def key():
    return Tsk.generate("an archive <archive@example.org>")


@pytest.fixture(scope="module")
def other_key():
    return Tsk.generate("somebody else <else@example.org>")


def signed(key, text=TEXT):
    return sign(key.signer(), text.encode(), mode=SignatureMode.CLEAR)


def verify(data, key, codename="trixie", now=NOW):
    return verify_inrelease(data, [key.extract_certificate()], codename=codename, where="InRelease", now=now)


def refusal(data, key, **options):
    with pytest.raises(UnusableError) as caught:
        verify(data, key, **options)
    assert caught.value.where == "InRelease"
    assert caught.value.hint
    return caught.value.what


def test_a_good_release_is_read(key):
    release = verify(signed(key), key)
    assert (release.origin, release.label, release.codename, release.by_hash) == (
        "Debian",
        "Debian",
        "trixie",
        True,
    )
    assert release.date == datetime(2026, 2, 28, 10, tzinfo=UTC)
    assert release.files == {
        "main/binary-amd64/Packages": Listed("aa", 5),
        "main/binary-amd64/Packages.xz": Listed("bb", 3),
    }


def test_one_good_signature_among_unknown_ones_is_enough(key, other_key):
    text, mark, first = signed(other_key).partition(b"-----BEGIN PGP SIGNATURE-----")
    second = signed(key).partition(mark)[2]
    packets = b"".join(
        base64.b64decode(armored.partition(b"\n\n")[2].partition(b"\n=")[0]) for armored in (first, second)
    )
    both = text + armor(packets, ArmorKind.Signature).encode()
    assert verify(both, key).origin == "Debian"


@pytest.mark.parametrize("data", [b"", TEXT.encode(), b"<html>log in</html>"])
def test_an_unsigned_index_is_refused(key, data):
    assert refusal(data, key) == "the index is not signed"


def test_another_keys_signature_is_refused(key, other_key):
    assert refusal(signed(other_key), key) == "no pinned Debian key made a good signature on the index"


def test_an_altered_text_is_refused(key):
    assert "no pinned Debian key" in refusal(signed(key).replace(b" aa 5", b" ab 5"), key)


def test_a_truncated_signature_is_refused(key):
    assert "no pinned Debian key" in refusal(signed(key)[:-60], key)


def test_text_outside_the_signature_is_never_used(key):
    before = b"Codename: trixie\nSHA256:\n cc 1 evil\n\n" + signed(key)
    assert refusal(before, key) == "the index is not signed"
    after = signed(key) + b"\nSHA256:\n cc 1 evil\n"
    assert "evil" not in verify(after, key).files


def test_another_suite_is_refused(key):
    what = refusal(signed(key), key, codename="bookworm")
    assert what == "the mirror gave the index of 'trixie' for 'bookworm'"


def test_an_expired_index_is_refused(key):
    assert refusal(signed(key), key, now=datetime(2026, 3, 7, 10, 1, tzinfo=UTC)) == (
        "the index expired on 2026-03-07 10:00 UTC"
    )


def test_an_index_without_an_end_never_expires(key):
    endless = "\n".join(line for line in TEXT.splitlines() if not line.startswith("Valid-Until")) + "\n"
    assert verify(signed(key, endless), key, now=datetime(2036, 1, 1, tzinfo=UTC)).codename == "trixie"


def test_an_index_from_the_future_is_refused(key):
    assert "from the future" in refusal(signed(key), key, now=datetime(2026, 2, 27, tzinfo=UTC))


@pytest.mark.parametrize("line", ["Date", "SHA256"])
def test_a_release_without_what_is_needed_is_refused(key, line):
    with pytest.raises(UnusableError, match="can't be read"):
        verify(signed(key, TEXT.replace(f"{line}:", f"X-{line}:")), key)


class TestKeys:
    def test_only_pinned_certificates_are_taken_from_a_keyring(self, key, other_key):
        keyring = bytes(key.extract_certificate()) + bytes(other_key.extract_certificate())
        pinned = frozenset({key.extract_certificate().fingerprint})
        assert [c.fingerprint for c in certificates([b"no keyring", keyring], pinned)] == list(pinned)

    def test_a_key_may_stand_in_several_keyrings(self, key):
        certificate = key.extract_certificate()
        found = certificates(
            [bytes(certificate), str(certificate).encode()], frozenset({certificate.fingerprint})
        )
        assert [c.fingerprint for c in found] == [certificate.fingerprint]

    def test_keyrings_are_files_with_their_suffixes(self, tmp_path):
        for name in ("a.gpg", "b.asc", "c.pgp", "d.txt"):
            (tmp_path / name).write_bytes(name.encode())
        assert machine_keyrings([tmp_path, tmp_path / "none"]) == [b"a.gpg", b"b.asc", b"c.pgp"]

    @pytest.mark.parametrize("release", RELEASES)
    def test_every_release_has_its_own_keys_for_each_archive(self, release):
        main, security = (pinned_fingerprints(release, archive) for archive in ("debian", "debian-security"))
        assert main
        assert security
        assert not main & security
        assert all(len(f) == 40 and f == f.lower() for f in main | security)
