"""Which picture of a file is taken, what lies under transparency, and how large a picture is decoded."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from isosphere.data import (
    Opening,
    Pixels,
    Reading,
    UnreadableImageError,
    as_source,
    decode,
    ground_of,
    open_source,
    read_images,
)
from isosphere.errors import UsageError
from isosphere.training import load_config
from tests.zoo import colours, encoded, over, zoo

ZOO = zoo()
PAGES, CLEAR = ZOO["pages TIFF"].body, ZOO["RGBA PNG"].body
ALPHA = colours(seed=2)[..., 1]


def script(opening: Opening, body: bytes) -> np.ndarray:
    """What the file beside exported weights makes of a picture, at its own height."""
    defined: dict[str, Any] = {}
    exec(Pixels(14, 14, (0.0,) * 3, (1.0,) * 3, Reading(opening=opening)).script(), defined)
    return defined["prepare"](body).transpose(1, 2, 0) * 255


def test_the_page_that_is_asked_for_is_read(tmp_path):
    shown = ZOO["pages TIFF"].shown
    assert np.array_equal(np.asarray(decode(PAGES)), shown)
    second = Opening(page=2)
    assert np.array_equal(np.asarray(decode(PAGES, opening=second)), 255 - shown)
    assert np.abs(script(second, PAGES) - (255 - shown)[:, 3:17]).max() < 1e-3
    turned = np.asarray(decode(ZOO["moving GIF"].body, opening=second)).astype(int)
    assert np.abs(turned - ZOO["moving GIF"].shown[::-1, ::-1]).max() == 0
    (tmp_path / "a.tif").write_bytes(PAGES)
    (tmp_path / "b.png").write_bytes(encoded(shown, "PNG"))
    found = read_images(open_source(tmp_path).read_as(Reading(opening=second)), 14)
    assert found.paths == ["a.tif"]
    assert found.skipped[0][0] == "b.png"
    assert "it has 1 page, and page 2 is asked for" in found.skipped[0][1]


@pytest.mark.parametrize("ground", ["white", "black", "#ff8800"])
def test_transparency_lies_over_the_ground_that_is_chosen(ground):
    opening = Opening(ground=ground_of(ground))
    expected = over(colours(), ALPHA, np.array(opening.ground))  # type: ignore[arg-type]
    assert np.abs(np.asarray(decode(CLEAR, opening=opening)).astype(int) - expected).max() <= 1
    source = as_source([Image.open(io.BytesIO(CLEAR))]).read_as(Reading(opening=opening))
    assert np.abs(np.asarray(source.image(0)).astype(int) - expected).max() <= 1
    assert np.abs(script(opening, CLEAR) - expected[:, 3:17]).max() <= 1
    assert decode(ZOO["white glyphs"].body, opening=opening).getpixel((0, 0)) == opening.ground


def test_a_jpeg_beyond_the_limit_is_decoded_smaller_and_others_are_refused(monkeypatch):
    large = ZOO["large JPEG"].body  # 600 x 400
    for most, size in ((240_000, (600, 400)), (70_000, (300, 200)), (5_000, (75, 50))):
        assert decode(large, opening=Opening(max_pixels=most)).size == size
        assert decode(large, at_least=400, opening=Opening(max_pixels=most)).size == size
    assert decode(large, at_least=100, opening=Opening(max_pixels=70_000)).size == (150, 100)
    with pytest.raises(UnreadableImageError, match="75 x 50 pixels: more than the 3,000 that are decoded"):
        decode(large, opening=Opening(max_pixels=3_000))
    png = encoded(ZOO["large JPEG"].shown.astype(np.uint8), "PNG")
    with pytest.raises(UnreadableImageError, match="600 x 400 pixels: more than the 70,000"):
        decode(png, opening=Opening(max_pixels=70_000))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)  # Pillow itself opens no more than twice as many
    assert decode(png).size == (600, 400)
    assert decode(large).size == (600, 400)


def test_what_is_chosen_is_in_the_key_and_what_is_usual_is_not():
    usual = Pixels(16, 16, (0.5,), (0.5,))
    assert "page" not in usual.key
    readings = [Reading(opening=Opening.of(*words)) for words in ((2, "auto", None), (None, "black", 9))]
    keys = [Pixels(16, 16, (0.5,), (0.5,), reading).key for reading in readings]
    assert keys == [usual.key | {"page": 2}, usual.key | {"ground": [0, 0, 0], "max_pixels": 9}]


def test_the_words_of_a_configuration():
    given = ["data.page=3", "data.ground=black", "data.max_pixels=1000"]
    assert load_config(None, given).data.reading.opening == Opening(3, (0, 0, 0), 1000)
    assert load_config(None, []).data.reading == Reading()
    with pytest.raises(UsageError, match="got 'whit', expected auto, white, black or a colour as #ff8800"):
        load_config(None, ["data.ground=whit"])
