"""Where the signatures of an image are looked for."""

import pytest

from tungstenkit.bill.signature import SignatureError, UnsignedError
from tungstenkit.prove import verify
from tungstenkit.prove.verify import signed_at

NOTHING, DAMAGED = UnsignedError("nothing is signed"), SignatureError("it was changed")


@pytest.fixture
def look(monkeypatch):
    """Looks in places, of which each is what is found there."""

    def found(place, _digest, _key, bare):
        assert all(isinstance(one, UnsignedError) for one in bare)
        if isinstance(place, Exception):
            raise place
        return place

    monkeypatch.setattr(verify, "check_signed", found)
    return lambda *places: signed_at(iter(places), "sha256:1", None)


def test_a_copy_without_signatures_has_those_of_where_it_was_pushed(look):
    assert look("signed", "and there") == "signed"
    assert look(NOTHING, "signed there") == "signed there"


def test_where_nothing_is_signed_the_image_s_own_place_is_named(look):
    with pytest.raises(UnsignedError, match="nothing is signed") as caught:
        look(NOTHING, UnsignedError("nor there"))
    assert caught.value is NOTHING


def test_what_is_damaged_is_not_passed_by(look):
    with pytest.raises(SignatureError, match="it was changed"):
        look(DAMAGED, "signed there")
    with pytest.raises(SignatureError, match="it was changed"):
        look(NOTHING, DAMAGED, "signed there")
