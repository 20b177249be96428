"""What was built here, as a program asks for it."""

from tests.tungstenkit.models.engine import image
from tungstenkit import models

ONE = "1" * 64


def test_a_program_lists_inspects_and_removes(alone, engine):
    blur = alone.model("blur")
    engine.put("image", image(ONE, "localhost/other:latest", title="other"))
    assert [one.name for one in models.list()] == ["blur", "other"]
    (shown,) = models.inspect(blur)
    assert shown.built.folder == blur
    assert models.remove("other").names == ("localhost/other:latest",)
    models.remove(blur)
    assert models.list() == []
