"""Whatever an image, a layer or an export holds: it is read, or refused in our own words."""

import gzip
import json
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tungstenkit.prove.images import CONFIG, GZIP, digest, export, member, tar
from tungstenkit.fetch.kept import lay_out
from tungstenkit.prove import layers
from tungstenkit.prove.comparison import compare
from tungstenkit.prove.image import image_at, opened
from tungstenkit.registry.artifact import MANIFEST, Layer, spelled
from tungstenkit.registry.layout import LayoutPlace
from tungstenkit.sdk.errors import TungstenError

pytestmark = pytest.mark.timeless("documents and archives are judged without a clock")

LAYER = tar(member("usr/a", b"a", pax_headers={"x": "y"}), member("usr/.wh.b"))
KEYS = [
    "config",
    "rootfs",
    "diff_ids",
    "history",
    "created",
    "created_by",
    "architecture",
    "os",
    "Labels",
    "Env",
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), parts, max_size=5)
    ),
    max_leaves=20,
)


def spoilt(data, changes):
    """Bytes of which some are others."""
    found = bytearray(data)
    for place, value in changes:
        found[place % len(found)] = value
    return bytes(found)


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=8)


@given(CHANGES, st.booleans())
def test_a_layer_is_read_or_refused(changes, is_packed):
    data = spoilt(LAYER, changes)
    with tempfile.TemporaryDirectory() as folder:
        blob = Path(folder) / "blob"
        blob.write_bytes(gzip.compress(data) if is_packed else data)
        with suppress(TungstenError), layers.unpacked(blob, "it", Path(folder)) as file:
            layers.members(file, "it")
            layers.read(file, {"/usr/a"}, 10, "it")


@given(CHANGES)
def test_an_export_is_laid_out_or_refused(changes):
    data = spoilt(tar(*export(member("model/a", b"a"))), changes)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "export.tar").write_bytes(data)
        (Path(folder) / "deep" / "source").mkdir(parents=True)
        with suppress(TungstenError):
            lay_out(Path(folder) / "export.tar", Path(folder) / "deep" / "source", set(), "it")
        assert {path.name for path in Path(folder).iterdir()} == {"export.tar", "deep"}
        assert [path.name for path in (Path(folder) / "deep").iterdir()] == ["source"]


@pytest.mark.parametrize("is_config", [True, False])
@given(document=ANYTHING)
def test_a_manifest_and_a_config_are_read_or_refused(document, is_config):
    with tempfile.TemporaryDirectory() as folder:
        place = LayoutPlace(Path(folder) / "image")
        (Path(folder) / "scratch").mkdir()
        blob = Layer(gzip.compress(LAYER), GZIP)
        rootfs = {"rootfs": {"diff_ids": [digest(LAYER)]}}
        told = {**document, **rootfs} if isinstance(document, dict) else document
        config = Layer(json.dumps(told if is_config else rootfs).encode(), CONFIG)
        place.put_blobs([blob, config])
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor.to_json(),
            "layers": [blob.descriptor.to_json()],
            **(document if isinstance(document, dict) and not is_config else {}),
        }
        with suppress(TungstenError):
            place.put_manifest(spelled(manifest), tag="latest")
            with opened(str(place.folder), Path(folder) / "scratch") as there:
                image = image_at(there, Path(folder) / "scratch")
                image.check(lambda _: None)
                compare(image, image, Path(folder))
