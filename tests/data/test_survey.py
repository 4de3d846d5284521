"""What was decided about a set is told from a sample of it."""

import io

import numpy as np
import pytest
from PIL import Image

from isosphere.data import Opening, Pixels, Reading, as_source, open_source, survey
from tests.zoo import colours, encoded, exif, zoo

ZOO = zoo()


@pytest.fixture
def mixed(tmp_path):
    for i, kind in enumerate(
        ("RGB PNG", "EXIF 6 JPEG", "EXIF 3", "EXIF 1", "RGBA PNG", "keyed PNG", "pages TIFF")
    ):
        (tmp_path / f"{i}.{ZOO[kind].suffix}").write_bytes(ZOO[kind].body)
    (tmp_path / "broken.png").write_bytes(b"broken")
    return tmp_path


def test_what_is_done_to_pictures_is_counted(mixed):
    found = survey(open_source(mixed))
    assert (found.looked, found.turned, found.clear, found.pages) == (7, 2, 2, 1)
    expected = (
        "2 of 7 images looked at are turned by EXIF",
        "2 of 7 images looked at have transparency, over white, black where nothing would be seen on white (",
        "1 of 7 images looked at has several pages: page 1 is taken (",
    )
    for said, begins in zip(found.decided, expected, strict=True):
        assert said.startswith(begins)
    assert found.sentences[0].startswith("2 of 7 images looked at are turned by EXIF; 2 of 7")
    chosen = open_source(mixed).read_as(Reading(opening=Opening(ground=(255, 136, 0))))
    assert "transparency, over #ff8800" in survey(chosen).sentences[0]


def test_every_entry_counts_alike(mixed):
    opened = [Image.open(io.BytesIO(ZOO[kind].body)) for kind in ("EXIF 6 JPEG", "EXIF 3", "RGBA PNG")]
    found = survey(as_source(opened))
    assert (found.turned, found.clear) == (2, 1)
    some = open_source(f"{mixed} + {mixed}").subset([1, 9])
    assert survey(some).turned == 2
    plain = survey(as_source(np.zeros((3, 8, 8), np.uint8)))
    assert (plain.sentences, plain.outside) == ([], None)


def test_the_share_outside_is_that_of_what_looks(tmp_path):
    (tmp_path / "wide.png").write_bytes(encoded(colours(40, 20), "PNG"))
    timm = Pixels.of_timm({"crop_pct": 0.9, "input_size": (3, 32, 32)})
    said = {"crop": "50%", "timm": "60%", "squash": "19%"}
    readings = {"crop": Reading(), "timm": timm.reading}
    readings["squash"] = Pixels.of_timm({"crop_pct": 0.9, "crop_mode": "squash"}).reading
    for name, share in said.items():
        found = survey(open_source(tmp_path).read_as(readings[name])).outside
        assert found is not None, name
        assert f"{share} of an average one lies outside" in found, name
        assert ("timm" in found) == (name != "crop")
    for fit in ("pad", "squeeze"):
        assert survey(open_source(tmp_path).read_as(Reading(fit))).outside is None


def test_what_is_stored_is_shown_as_it_is(tmp_path):
    turned = encoded(colours(), "PNG", exif=exif(6))
    (tmp_path / "a.png").write_bytes(turned)
    (tmp_path / "b.png").write_bytes(ZOO["16-bit grey PNG"].body)
    (tmp_path / "c.png").write_bytes(ZOO["RGBA PNG"].body)
    source = open_source(tmp_path)
    assert np.array_equal(np.asarray(source.stored(0)), colours())
    assert np.array_equal(np.asarray(source.stored(1)), ZOO["16-bit grey PNG"].shown)
    assert np.array_equal(np.asarray(source.subset([2]).stored(0)), colours()), "what lies under transparency"
    assert source.image(0).size == (14, 20)
