"""Every kind of file that a folder of photographs, scans and downloads can hold."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from isosphere.data import _jpeg
from isosphere.data._decode import MAX_PIXELS, UnreadableImageError, decode, decode_tensor, upright
from isosphere.data._layout import foreign_format
from isosphere.data._opening import Opening
from isosphere.data._picture import Channels, fit_square, taken
from isosphere.data._pixels import to_tensor
from tests.zoo import UPRIGHT, encoded, png16, png_chunk, tiff

RNG = np.random.default_rng(0)


def colours(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation, kind):
    stored = colours(7, 5)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decode(encoded(Image.fromarray(stored), kind, exif=exif, **options))
    np.testing.assert_array_equal(np.asarray(image), UPRIGHT[orientation](stored))


def test_exif_orientation_survives_the_shrinking_of_a_jpeg():
    exif = Image.Exif()
    exif[0x0112] = 6
    body = encoded(Image.new("RGB", (640, 320), "red"), "JPEG", exif=exif)
    assert decode(body).size == (320, 640)
    assert decode(body, at_least=80).size == (80, 160)


def test_broken_exif_does_not_cost_the_picture():
    body = encoded(Image.new("RGB", (8, 8), "red"), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(body).getpixel((4, 4)) == pytest.approx((254, 0, 0), abs=2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_full_range(kind):
    values = np.array([[0, 257, 257 * 100], [257 * 255, 128, 129]], dtype=np.uint16)
    grey = np.asarray(decode(encoded(Image.fromarray(values), kind)))
    np.testing.assert_array_equal(grey[..., 0], [[0, 1, 100], [255, 0, 1]])
    assert (grey == grey[..., :1]).all()


@pytest.mark.parametrize(("channels", "colour_type"), [(3, 2), (2, 4), (4, 6)])
def test_sixteen_bits_of_colour_and_of_transparency(channels, colour_type):
    values = RNG.integers(0, 65536, (5, 4, channels))
    shown = np.asarray(decode(png16(values, colour_type))).astype(float)
    expected = values[..., :3] if channels != 2 else values[..., :1].repeat(3, -1)
    if channels in (2, 4):
        alpha = values[..., -1:] / 65535
        expected = expected * alpha + 65535 * (1 - alpha)
    assert np.abs(shown - expected / 257).max() <= 2  # Pillow drops the low byte of each channel


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_of_a_scanner(order, channels):
    values = RNG.integers(0, 65536, (5, 4, channels), dtype=np.uint16)
    shown = np.asarray(decode(tiff(values, order))).astype(float)
    assert np.abs(shown - np.broadcast_to(values, (5, 4, 3)) / 257).max() <= 1


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_where_zero_is_white_grey_is_shown_as_it_looks(kind):
    values = np.array([[0, 51, 255]], dtype=np.uint8)[..., None]
    values = (
        values * kind(257)
        if kind is np.uint16
        else (values / 255).astype(kind)
        if kind is np.float32
        else values
    )
    shown = np.asarray(decode(tiff(values, white_is_zero=True)))
    np.testing.assert_array_equal(shown[..., 0], [[255, 204, 0]])


@pytest.mark.parametrize("compression", [None, "group3", "group4", "packbits"])
def test_bilevel_scans_are_shown_as_they_look(compression):
    page = np.zeros((8, 8), bool)
    page[2:] = True
    body = encoded(Image.fromarray(page), "TIFF", compression=compression)
    np.testing.assert_array_equal(np.asarray(decode(body))[..., 0], page * 255)
    entry = struct.pack("<HHI", 262, 3, 1)
    at = body.index(entry) + len(entry)
    faxed = body[:at] + b"\0\0" + body[at + 2 :]  # the same bits, in which zero is white
    np.testing.assert_array_equal(np.asarray(decode(faxed))[..., 0], ~page * np.uint8(255))


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        (
            np.zeros((4, 4, 1), np.float64),
            {},
            "a TIFF of 1 band of 64-bit floats, which is not read here; expected",
        ),
        (np.zeros((4, 4, 3), np.float32), {}, "a TIFF of 3 bands of 32-bit floats"),
        (
            np.zeros((4, 4, 3), np.uint16),
            {"planes": True},
            "3 bands of 16-bit unsigned integers, each band by itself",
        ),
        (np.zeros((4, 4, 1), np.int8), {}, "1 band of 8-bit signed integers"),
    ],
)
def test_what_a_scientific_tiff_holds_is_said(values, options, said):
    body = tiff(values, **options)
    with pytest.raises(UnreadableImageError, match=said):
        decode(body)
    with pytest.raises(UnreadableImageError, match="damaged"):
        decode(body[:60])


def test_a_tiff_that_pillow_does_not_know_is_described():
    values = np.zeros((2, 2, 1), np.uint16)
    with pytest.raises(
        UnreadableImageError, match="1 band of 16-bit unsigned integers of a form that is not read"
    ):
        decode(tiff(values, ">", white_is_zero=True))


def test_a_tiff_of_planes_is_read_in_eight_bits():
    values = RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(decode(tiff(values, planes=True))), values)


def test_a_photograph_of_a_phone_says_what_reads_it(monkeypatch):
    body = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(99)
    monkeypatch.setattr("isosphere.data._unknown.HEIF_IS_READ", False)
    with pytest.raises(UnreadableImageError, match=r"it is a HEIC image, .* pip install pillow-heif"):
        decode(body)
    monkeypatch.setattr("isosphere.data._layout.HEIF_IS_READ", False)
    assert "pip install pillow-heif" in (foreign_format("a/IMG_1.HEIC") or "")


def glyph(colour: int, alpha: int = 255) -> np.ndarray:
    drawn = np.zeros((16, 16, 4), np.uint8)
    drawn[..., :3], drawn[4:12, 6:10, 3] = colour, alpha
    return drawn


@pytest.mark.parametrize(("colour", "ground"), [(255, 0), (240, 0), (200, 255), (0, 255)])
def test_glyphs_are_laid_over_a_ground_that_shows_them(colour, ground):
    drawn = glyph(colour)
    shown = np.asarray(decode(encoded(Image.fromarray(drawn), "PNG")))
    assert shown[0, 0].tolist() == [ground] * 3
    assert shown[8, 8].tolist() == [colour] * 3
    np.testing.assert_array_equal(taken(drawn, Channels("rgba")), shown)
    np.testing.assert_array_equal(upright(Image.fromarray(drawn)), shown)


def test_nothing_but_transparency_is_white():
    assert decode(encoded(Image.fromarray(glyph(255, 0)), "PNG")).getpixel((8, 8)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "I;16", "I", "F"])
def test_large_pictures_are_converted_some_rows_at_a_time(monkeypatch, mode):
    drawn = Image.fromarray(RNG.integers(0, 256, (9, 7, 4), dtype=np.uint8))
    if mode in ("RGBA", "LA", "PA"):
        image = drawn.convert(mode)
    else:
        image = Image.fromarray(np.asarray(drawn)[..., 0].astype({"I;16": "u2", "I": "i4", "F": "f4"}[mode]))
    assert image.mode == mode
    whole = np.asarray(upright(image))
    monkeypatch.setattr("isosphere.data._picture._STRIP", 20)
    np.testing.assert_array_equal(upright(image), whole)


def test_a_picture_at_hand_is_left_as_it_is():
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(encoded(Image.new("RGB", (4, 2)), "PNG", exif=exif))) as image:
        assert upright(image).size == (2, 4)
        assert image.size == (4, 2)


def test_devices_and_pipes_are_not_read(tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for file in (Path("/dev/zero"), pipe):
        with pytest.raises(UnreadableImageError, match="a device or a pipe"):
            decode(file)


def test_floats_are_brought_to_bytes_and_strange_ranges_refused():
    unit = np.array([[0, 0.5, 1]], dtype=np.float32)
    np.testing.assert_array_equal(
        np.asarray(decode(encoded(Image.fromarray(unit), "TIFF")))[..., 0], [[0, 128, 255]]
    )
    wide = np.array([[0, 100, 255]], dtype=np.float32)
    np.testing.assert_array_equal(
        np.asarray(decode(encoded(Image.fromarray(wide), "TIFF")))[..., 0], [[0, 100, 255]]
    )
    for values in ([[-1, 0.5]], [[0, 4096]], [[0, np.nan]]):
        with pytest.raises(UnreadableImageError, match="its numbers"):
            decode(encoded(Image.fromarray(np.array(values, dtype=np.float32)), "TIFF"))
    with pytest.raises(UnreadableImageError, match=r"reach from 0 to 70000; expected \[0, 65535\]"):
        decode(encoded(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)), "TIFF"))


def over_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_laid_over_white(kind):
    rgba = RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    shown = np.asarray(decode(encoded(Image.fromarray(rgba), kind, **options)))
    assert shown.shape == (6, 5, 3)
    assert np.abs(shown - over_white(rgba)).max() <= 1


def test_grey_with_alpha_and_keyed_colours_are_laid_over_white():
    grey = np.stack([np.full((3, 3), 10), np.array([[0, 255, 255]] * 3)], axis=-1).astype(np.uint8)
    shown = np.asarray(decode(encoded(Image.fromarray(grey), "PNG")))
    np.testing.assert_array_equal(shown[0], [[255] * 3, [10] * 3, [10] * 3])
    keyed = encoded(Image.new("RGB", (2, 2), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert decode(keyed).getpixel((0, 0)) == (255, 255, 255)
    single = encoded(Image.new("L", (2, 2), 7), "PNG", transparency=7)
    assert decode(single).getpixel((0, 0)) == (255, 255, 255)


def test_palettes_with_and_without_transparency():
    paletted = Image.new("P", (2, 1))
    paletted.putpalette([255, 0, 0, 0, 0, 255])
    paletted.putdata([0, 1])
    for kind in ("PNG", "GIF", "BMP"):
        shown = decode(encoded(paletted, kind))
        assert [shown.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (0, 0, 255)]
    for kind in ("PNG", "GIF"):
        shown = decode(encoded(paletted, kind, transparency=1))
        assert [shown.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (255, 255, 255)]
    partly = decode(encoded(paletted, "PNG", transparency=b"\xff\x80"))
    assert partly.getpixel((1, 0)) == pytest.approx((127, 127, 255), abs=1)


def test_other_modes_become_rgb():
    assert decode(encoded(Image.new("1", (3, 3), 1), "PNG")).getpixel((1, 1)) == (255, 255, 255)
    assert decode(encoded(Image.new("L", (3, 3), 9), "JPEG")).getpixel((1, 1)) == (9, 9, 9)
    for kind in ("JPEG", "TIFF"):  # no ink is white, all cyan is cyan
        assert decode(encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), kind)).getpixel((4, 4)) == (
            255,
            255,
            255,
        )
        red, green, blue = np.asarray(decode(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), kind)))[4, 4]
        assert red < 20
        assert min(green, blue) > 235


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_a_moving_picture_is_taken(kind):
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "green", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    body = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(body)) as opened:
        assert getattr(opened, "n_frames", 1) == 3
    assert decode(body).getpixel((2, 2)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_truncated_file_is_refused(kind):
    body = encoded(Image.fromarray(colours(64, 64)), kind)
    with pytest.raises(UnreadableImageError):
        decode(body[: len(body) // 2])
    with pytest.raises(UnreadableImageError, match=r"not an image|damaged"):
        decode(body[:2])


def test_what_is_no_image_is_refused(tmp_path):
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    with pytest.raises(UnreadableImageError, match="the file is empty"):
        decode(b"")
    for body in (b"hello", b"<svg/>", bytes(1000), postscript):
        with pytest.raises(UnreadableImageError, match="not an image in a format that is read here"):
            decode(body)
    with pytest.raises(UnreadableImageError, match="no such file"):
        decode(tmp_path / "absent.png")
    with pytest.raises(UnreadableImageError, match="is a directory"):
        decode(tmp_path)


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    )


def test_decompression_bombs_are_refused_before_decoding():
    for side in (14_000, 60_000):  # a little and far above the limit
        assert side**2 > MAX_PIXELS
        with pytest.raises(UnreadableImageError, match="pixels"):
            decode(png_of(side, side))
    # Between half the limit and the limit Pillow only warns; the warning must not become the reason.
    with pytest.raises(UnreadableImageError) as refused:
        decode(png_of(10_000, 10_000))
    assert "pixels" not in str(refused.value)


def test_shrinking_while_decoding_keeps_the_picture():
    smooth = Image.fromarray(colours(8, 6)).resize((1024, 768), Image.Resampling.BICUBIC)
    body = encoded(smooth, "JPEG", quality=95)
    whole, small = decode(body), decode(body, at_least=96)
    assert small.size == (128, 96)
    assert decode(body, at_least=97).size == (256, 192)
    difference = np.asarray(fit_square(whole, 48)).astype(int) - np.asarray(fit_square(small, 48))
    assert np.abs(difference).mean() < 1
    assert decode(encoded(smooth, "PNG"), at_least=96).size == smooth.size


@pytest.mark.parametrize(
    ("width", "height", "size"), [(60, 30, 16), (30, 90, 10), (20, 20, 33), (100, 12, 12)]
)
def test_fit_square_is_the_antialiased_bicubic_of_torch_then_a_crop(width, height, size):
    # Away from black and white: Pillow clips what overshoots between its two passes.
    middle = Image.fromarray(colours(8, 8) // 2 + 64)
    array = np.array(middle.resize((width, height), Image.Resampling.BICUBIC))
    rows, columns = height * size // min(width, height), width * size // min(width, height)
    image = torch.from_numpy(array).permute(2, 0, 1)[None].float()
    whole = torch.nn.functional.interpolate(image, (rows, columns), mode="bicubic", antialias=True)[0]
    top, left = (rows - size) // 2, (columns - size) // 2
    got = torch.from_numpy(np.array(fit_square(Image.fromarray(array), size))).permute(2, 0, 1).float()
    assert (got - whole[:, top : top + size, left : left + size]).abs().max() <= 1.01


def test_fit_square_crops_the_centre_and_takes_any_shape():
    stripes = np.zeros((4, 12, 3), np.uint8)
    stripes[:, 4:8] = 200
    assert (np.asarray(fit_square(Image.fromarray(stripes), 4)) == 200).all()
    for shape in ((1, 1), (1, 9000), (9000, 1), (5, 2)):
        assert fit_square(Image.new("RGB", shape, "red"), 8).size == (8, 8)
    exact = colours(9, 8)
    np.testing.assert_array_equal(np.asarray(fit_square(Image.fromarray(exact), 8)), exact[:, :8])


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 40}], ids=str)
def test_a_plain_jpeg_is_decoded_by_torchvision_to_the_bits_of_pillow(options, monkeypatch):
    fast, asked = _jpeg.by_torchvision, []
    monkeypatch.setattr(_jpeg, "by_torchvision", lambda body: asked.append(body) or fast(body))
    pixels = np.kron(RNG.integers(0, 256, (9, 13, 3)), np.ones((7, 7, 1))).astype(np.uint8)
    body = b""
    for mode, exif in (("RGB", 6), ("L", 1), ("CMYK", 1), ("RGB", 1)):
        stream, tags = io.BytesIO(), Image.Exif()
        tags[ExifTags.Base.Orientation] = exif
        Image.fromarray(pixels).convert(mode).save(stream, "JPEG", exif=tags, **options)
        body = stream.getvalue()
        choices: tuple[dict, ...] = (
            *({}, {"at_least": 40}, {"channels": Channels("rgb")}),  # of a plain file the fast way
            *({"at_least": 20}, {"opening": Opening(max_pixels=2000)}, {"channels": Channels("grey")}),
        )
        for given in choices:
            asked.clear()
            assert torch.equal(decode_tensor(body, **given), to_tensor(decode(body, **given)))
            plain = (mode, exif) == ("RGB", 1) and given in (
                {},
                {"at_least": 40},
                {"channels": Channels("rgb")},
            )
            assert asked == [body] * plain
    for broken in (body[: len(body) // 2], b"", body[:20]):
        with pytest.raises(UnreadableImageError) as ours:
            decode_tensor(broken)
        with pytest.raises(UnreadableImageError) as theirs:
            decode(broken)
        assert str(ours.value) == str(theirs.value)


def test_pillow_decodes_where_torchvision_has_other_bits(monkeypatch):
    body = encoded(colours(9, 8), "JPEG")
    theirs = to_tensor(decode(body))
    monkeypatch.setattr(_jpeg, "_decoded", lambda body: torch.zeros(3, 9, 8, dtype=torch.uint8))
    _jpeg._has_bits_of_pillow.cache_clear()
    try:
        assert torch.equal(decode_tensor(body), theirs)
    finally:
        _jpeg._has_bits_of_pillow.cache_clear()
