"""Every kind of file that a folder of photographs, scans and downloads can hold."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from isosphere.data._decode import MAX_PIXELS, UnreadableImageError, decode, fit_square

RNG = np.random.default_rng(0)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def colours(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


UPRIGHT = {  # EXIF orientation -> what brings the stored rows and columns upright
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


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


def png16(values: np.ndarray, colour_type: int) -> bytes:
    """A PNG of 16-bit channels, which Pillow reads and does not write: (h, w, channels)."""
    h, w, _ = values.shape
    rows = values.astype(">u2").reshape(h, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", w, h, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("channels", "colour_type"), [(3, 2), (2, 4), (4, 6)])
def test_sixteen_bits_of_colour_and_of_transparency(channels, colour_type):
    values = RNG.integers(0, 65536, (5, 4, channels))
    shown = np.asarray(decode(png16(values, colour_type))).astype(float)
    expected = values[..., :3] if channels != 2 else values[..., :1].repeat(3, -1)
    if channels in (2, 4):
        alpha = values[..., -1:] / 65535
        expected = expected * alpha + 65535 * (1 - alpha)
    assert np.abs(shown - expected / 257).max() <= 2  # Pillow drops the low byte of each channel


def tiff16(values: np.ndarray, order: str) -> bytes:
    """An uncompressed TIFF of 16-bit channels in either order of bytes."""
    h, w, channels = values.shape
    pixels = values.astype(f"{order}u2").tobytes()
    bits = struct.pack(f"{order}3H", 16, 16, 16)
    tags = [(256, 3, 1, w), (257, 3, 1, h), (258, 3, channels, 0 if channels == 3 else 16), (259, 3, 1, 1)]
    tags += [(262, 3, 1, 2 if channels == 3 else 1), (273, 4, 1, 0), (277, 3, 1, channels)]
    tags += [(278, 3, 1, h), (279, 4, 1, len(pixels))]
    after = 8 + 2 + 12 * len(tags) + 4
    body = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    for tag, kind, count, value in tags:
        value = {258: after if channels == 3 else value, 273: after + 6}.get(tag, value)
        short = kind == 3 and count == 1
        body += struct.pack(
            f"{order}HHI" + ("HH" if short else "I"), tag, kind, count, *([value, 0] if short else [value])
        )
    return body + struct.pack(f"{order}I", 0) + bits + pixels


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_of_a_scanner(order, channels):
    values = RNG.integers(0, 65536, (5, 4, channels))
    shown = np.asarray(decode(tiff16(values, order))).astype(float)
    assert np.abs(shown - np.broadcast_to(values, (5, 4, 3)) / 257).max() <= 1


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


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


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
