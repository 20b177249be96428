"""What is kept beside an image is found there, whole; what was changed, or is another's, is refused by name."""

import json

import pytest

from tests.registry import registry
from tests.tungstenkit.bill.made import e
from tests.tungstenkit.bill.test_signature import key
from tests.tungstenkit.locks import SYSTEM
from tungstenkit.bill.provenance import PROVENANCE, statement
from tungstenkit.bill.referrers import check_signed, check_whole, documents, referrers
from tungstenkit.bill.referrers import signature as signing
from tungstenkit.bill.signature import MEDIA_TYPE, SIGNED_IMAGE, SignatureError, bundle
from tungstenkit.registry.artifact import TITLE, Artifact, Layer, layers_of
from tungstenkit.registry.place import place
from tungstenkit.sdk.errors import FetchError

SPDX, CYCLONEDX = "application/spdx+json", "application/vnd.cyclonedx+json"


@pytest.fixture(params=["referrers", "no referrers", "layout"])
def kept(request, tmp_path):
    if request.param == "layout":
        (tmp_path / "place").mkdir()
        yield place(str(tmp_path / "place"))
    else:
        with registry(has_referrers=request.param == "referrers") as found:
            yield place(f"{found.host}/team/some:1")


def push(made, where):
    """The image itself, as it is; its manifest there."""
    content = (
        made.image.layout / "blobs" / "sha256" / made.image.digest.removeprefix("sha256:")
    ).read_bytes()
    document = json.loads(content)
    blobs = [
        made.image.layout / "blobs" / "sha256" / one["digest"].removeprefix("sha256:")
        for one in (document["config"], *document["layers"])
    ]
    where.put_blobs([Layer(one.read_bytes()) for one in blobs])
    return where.put_manifest(content, tag="1")


@pytest.fixture
def subject(made, kept):
    """The image in a place, with nothing beside it."""
    return push(made, kept)


@pytest.fixture
def signed(made, subject, kept, tmp_path):
    """The same, signed."""
    for one in referrers(made, subject, SYSTEM, key(), tmp_path / "cache"):
        kept.attach(one)
    return subject


def test_the_bill_is_kept_in_both_formats_under_its_own_type(made, subject, kept, tmp_path):
    for one in referrers(made, subject, SYSTEM, None, tmp_path / "cache"):
        kept.attach(one)
    bills = documents(made, tmp_path / "cache")
    for kind in (SPDX, CYCLONEDX):
        (found,) = kept.referrers(subject.digest, kind)
        layers = layers_of(kept.manifest(found.digest))
        assert {layer.media_type for layer in layers} == {kind}
        # Some scanners read the first alone.
        assert [kept.document(layer.digest, layer.size) for layer in layers] == [
            bills[kind].packages,
            bills[kind].image,
        ]
        end = "spdx.json" if kind == SPDX else "cdx.json"
        titles = [layer.annotations[TITLE] for layer in layers]
        assert titles == [f"some-model.packages.{end}", f"some-model.{end}"]
    (found,) = kept.referrers(subject.digest, "application/vnd.in-toto+json")
    (layer,) = layers_of(kept.manifest(found.digest))
    assert json.loads(kept.document(layer.digest, layer.size))["predicateType"] == PROVENANCE
    assert kept.referrers(subject.digest, MEDIA_TYPE) == []
    assert kept.resolve("1").digest == subject.digest


def test_a_second_time_nothing_is_sent(made, tmp_path):
    with registry() as there:
        kept = place(f"{there.host}/team/some:1")
        subject = push(made, kept)
        for _ in range(2):
            before = there.received
            for one in referrers(made, subject, SYSTEM, key(), tmp_path / "cache"):
                kept.attach(one)
        assert there.received == before


def test_of_an_edited_model_little_is_sent(world, made, tmp_path):
    """Its own documents, and the statement."""
    with registry() as there:
        kept = place(f"{there.host}/team/some:1")
        for one in referrers(made, push(made, kept), SYSTEM, None, tmp_path / "cache"):
            kept.attach(one)
        (world.model / "tungsten_model.py").write_text("pass  # and more\n")
        world.layers[-1][1].append(e("app/more.py", "tree app"))
        edited = world.made()
        subject = push(edited, kept)
        before = set(there.blobs)
        for one in referrers(edited, subject, SYSTEM, None, tmp_path / "cache"):
            kept.attach(one)
        sent = {there.blobs[one] for one in there.blobs.keys() - before}
    bills = documents(edited, tmp_path / "cache").values()
    assert len(sent) == 3
    assert {one.image for one in bills} <= sent


def test_what_a_key_has_signed_is_found_with_its_bills(kept, signed):
    found = check_signed(kept, signed.digest, key().public)
    assert {one.kind for one in found.statements} == {PROVENANCE, SIGNED_IMAGE}
    assert ({*found.bills}, found.passed_over) == ({SPDX, CYCLONEDX}, ())


def test_a_bundle_says_in_its_manifest_what_is_in_it(kept, signed):
    """As others look for it."""
    found = [json.loads(kept.manifest(one.digest)) for one in kept.referrers(signed.digest, MEDIA_TYPE)]
    said = {one["annotations"]["dev.sigstore.bundle.predicateType"] for one in found}
    assert said == {PROVENANCE, SIGNED_IMAGE}
    assert {one["annotations"]["dev.sigstore.bundle.content"] for one in found} == {"dsse-envelope"}


def refused(kept, subject, message, error=SignatureError):
    with pytest.raises(error, match=message) as caught:
        check_signed(kept, subject.digest, key().public)
    return caught.value


def test_an_image_without_a_signature_is_refused(kept, subject):
    assert refused(kept, subject, "has signed nothing").where == f"{kept.name}@{subject.digest}"


def test_another_keys_signature_is_none_and_takes_nothing_away(kept, signed):
    with pytest.raises(SignatureError, match=r"(?s)has signed nothing of this image.*signed by another key"):
        check_signed(kept, signed.digest, key(2).public)
    kept.attach(signing(signed, "some", key(2)))
    (other,) = check_signed(kept, signed.digest, key().public).passed_over
    assert "signed by another key" in other


def attached(kept, subject, data, kind=MEDIA_TYPE, layers=None):
    """Whatever somebody has put beside an image; where it is."""
    made = Artifact(kind, [Layer(data, kind)] if layers is None else layers, subject)
    return f"{kept.name}@{kept.attach(made).digest}"


def test_a_signature_of_another_image_is_refused(kept, subject):
    said = statement(f"sha256:{'f' * 64}", "some", SIGNED_IMAGE, {})
    where = attached(kept, subject, bundle(said, key()))
    problem = refused(kept, subject, "of another image")
    assert (problem.where, "f" * 64 in problem.hint) == (where, True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 100_000, "no JSON object"),
        (b"{}", "another kind"),
        (b"", "no JSON object"),
    ],
)
def test_what_is_no_bundle_is_refused_with_its_place(kept, signed, data, message):
    where = attached(kept, signed, data)
    assert refused(kept, signed, message).where == where


def test_an_artifact_of_other_blobs_is_refused(kept, signed):
    where = attached(kept, signed, b"", layers=[Layer(b"{}", "application/json")])
    assert refused(kept, signed, "no artifact with one blob").where == where


def test_an_artifact_of_many_blobs_is_refused(kept, signed):
    attached(kept, signed, b"", layers=[Layer(b"{}", MEDIA_TYPE), Layer(b"{} ", MEDIA_TYPE)])
    refused(kept, signed, "no artifact with one blob")


def test_one_that_says_it_is_larger_than_any_is_not_taken(kept, signed, monkeypatch):
    monkeypatch.setattr("tungstenkit.bill.signature.LARGEST", 100)
    refused(kept, signed, "bytes is none", FetchError)


def blob_of(place_kept, subject, kind, number):
    """The digest of a blob of an artifact, the first of its kind."""
    found = min(place_kept.referrers(subject.digest, kind), key=lambda one: one.digest)
    return layers_of(place_kept.manifest(found.digest))[number].digest


@pytest.mark.parametrize(
    ("kind", "number"),
    [(MEDIA_TYPE, 0), *((kind, number) for kind in (SPDX, CYCLONEDX) for number in (0, 1))],
)
def test_a_flipped_byte_in_what_is_kept_is_refused_by_its_digest(made, tmp_path, kind, number):
    with registry() as there:
        kept = place(f"{there.host}/team/some:1")
        subject = push(made, kept)
        for one in referrers(made, subject, SYSTEM, key(), tmp_path / "cache"):
            kept.attach(one)
        digest = blob_of(kept, subject, kind, number)
        there.damaged.add(digest)
        assert digest in str(refused(kept, subject, "not what its digest says", FetchError))
        with pytest.raises(FetchError, match="not what its digest says") as caught:
            check_whole(kept, subject.digest)
        assert digest in str(caught.value)


@pytest.mark.parametrize("kind", [SPDX, CYCLONEDX])
def test_another_bill_in_the_place_of_the_signed_one_is_refused(made, kept, subject, tmp_path, kind):
    """Under a manifest that fits: only the signature knows."""
    for one in referrers(made, subject, SYSTEM, key(), tmp_path / "cache"):
        if one.kind != kind:
            kept.attach(one)
    problem = refused(kept, subject, "was signed, and is not there")
    assert kind in problem.what
    said = documents(made, tmp_path / "cache")[kind]
    others = [
        (said.packages.replace(b"1.5", b"1.6", 1), said.image),
        (said.packages, said.image.replace(b"weights.pt", b"weights.pX")),
        (said.packages,),
        (said.image, said.packages),
        (b"{}", said.packages, said.image),
    ]
    for number, some in enumerate(others):
        assert some not in others[:number]
        attached(kept, subject, b"", kind, [Layer(one, kind) for one in some])
        assert kind in refused(kept, subject, "is another than was signed").what
    # Beside the right one they are somebody's own.
    attached(kept, subject, b"", kind, [Layer(one, kind) for one in (said.packages, said.image)])
    assert kind in check_signed(kept, subject.digest, key().public).bills


@pytest.mark.parametrize("kind", [SPDX, CYCLONEDX])
def test_another_bill_beside_a_copy_without_signatures_is_refused(made, kept, signed, tmp_path, kind):
    (tmp_path / "copy").mkdir()
    copy = place(str(tmp_path / "copy"))
    push(made, copy)
    assert kind in check_signed(kept, signed.digest, key().public, [copy]).bills
    said = documents(made, tmp_path / "cache")[kind]
    other = said.packages.replace(b"1.5", b"1.6", 1)
    assert other != said.packages
    attached(copy, signed, b"", kind, [Layer(other, kind), Layer(said.image, kind)])
    with pytest.raises(SignatureError, match="is another than was signed") as caught:
        check_signed(kept, signed.digest, key().public, [copy])
    assert caught.value.where == f"{copy.name}@{signed.digest}"


def test_an_image_is_the_same_with_and_without_all_of_this(made, kept, signed):
    assert kept.resolve("1").digest == signed.digest == made.image.digest


def test_an_index_is_signed_as_an_image_is(kept, subject):
    """What is signed is a digest."""
    kept.attach(signing(subject, "some", key()))
    (found,) = check_signed(kept, subject.digest, key().public).statements
    assert (found.kind, found.digests) == (SIGNED_IMAGE, {subject.digest})
