"""Some forty tiny files, one of each kind of picture, each with the pixels that it must become; written by numpy,
struct and zlib where Pillow, which reads them, does not have to be trusted."""

import io
import struct
import zlib
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

WIDTH, HEIGHT = 20, 14


class Animal(NamedTuple):
    """A file: its ending, its bytes, the pixels that it must become, (h, w, 3), and the levels they may differ by."""

    suffix: str
    body: bytes
    shown: np.ndarray
    within: float = 0.0


def colours(width: int = WIDTH, height: int = HEIGHT, seed: int = 1) -> np.ndarray:
    """Smooth colours without symmetry: uint8 (h, w, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def encoded(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(stream, kind, **options)
    return stream.getvalue()


def timm_transform(pretrained_cfg: Any, size: int | None = None) -> Any:
    """timm's own evaluation transform: from a picture of Pillow to the tensor that the network takes."""
    given = {} if size is None else {"input_size": (3, size, size)}
    return create_transform(**resolve_data_config(given, pretrained_cfg=pretrained_cfg), is_training=False)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(values: np.ndarray, colour_type: int) -> bytes:
    """A PNG of 16-bit channels, which Pillow reads and does not write: (h, w, channels)."""
    h, w, _ = values.shape
    rows = values.astype(">u2").reshape(h, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", w, h, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    )


def tiff(
    values: np.ndarray,
    order: Literal["<", ">"] = "<",
    *,
    white_is_zero: bool = False,
    planes: bool = False,
    packed: bool = False,
    colours: bool = True,
) -> bytes:
    """A TIFF of any numbers, (h, w, bands), in either order of bytes; ``packed`` by zlib. Of ``colours`` the first
    three bands of several are red, green and blue.
    """
    h, w, bands = values.shape
    pixels = (
        (np.moveaxis(values, 2, 0) if planes else values).astype(values.dtype.newbyteorder(order)).tobytes()
    )
    shown = 0 if white_is_zero else 2 if bands >= 3 and colours else 1
    pixels = zlib.compress(pixels) if packed else pixels
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    plane, parts = len(pixels) // bands, bands if planes else 1
    at = 8 + 2 + 12 * 11 + 4
    tags = {256: [w], 257: [h], 258: [8 * values.itemsize] * bands, 259: [8 if packed else 1], 262: [shown]}
    tags |= {273: [0], 277: [bands], 278: [h], 279: [len(pixels)], 284: [1 + planes], 339: [kind] * bands}
    after, entries = b"", b""
    tags[273] = [plane * i for i in range(parts)]
    tags[279] = [len(pixels) // parts] * parts
    lists = sum(4 * len(found) for found in tags.values() if len(found) > 1)
    tags[273] = [at + lists + place for place in tags[273]]
    for tag, found in tags.items():
        body = struct.pack(f"{order}{len(found)}I", *found)
        if len(found) > 1:
            body, after = struct.pack(f"{order}I", at + len(after)), after + body
        entries += struct.pack(f"{order}HHI", tag, 4, len(found)) + body
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return header + entries + struct.pack(f"{order}I", 0) + after + pixels


def banded(bands: int, side: int = 20, seed: int = 5, dtype: type = np.uint8) -> np.ndarray:
    """Smooth bands without symmetry, each unlike the others: (side, side, bands); 16 bits are 257 times the eight."""
    made = np.dstack([colours(side, side, seed + k)[..., k % 3] for k in range(bands)])
    return made.astype(dtype) * dtype(257 if dtype == np.uint16 else 1)


BANDS = {"grey": 1, "two bands": 2, "four bands": 4, "five bands": 5, "thirteen bands": 13}
"""Numbers of bands by the name of their kind."""

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


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, -1)


def over(colour: np.ndarray, alpha: np.ndarray, ground: int = 255) -> np.ndarray:
    share = alpha[..., None].astype(float) / 255
    return np.rint(colour * share + ground * (1 - share))


TWELVE = 4095


def twelve_bits() -> dict[str, Animal]:
    """Pictures of 12 bits in files of 16, each with the pixels that it must become where 4095 is white."""
    levels = np.random.default_rng(4).integers(0, TWELVE + 1, (HEIGHT, WIDTH, 3)).astype(np.uint16)
    levels[0, 0], levels[0, 1] = 0, TWELVE
    shown = np.rint(levels * (255 / TWELVE))
    alpha = colours(seed=2)[..., 1]
    with_alpha = np.dstack([levels, alpha * np.uint16(257)])
    grey, on_ground = rgb(shown[..., 0]), over(shown, alpha)
    opaque = np.full_like(levels[..., :1], 65535)
    return {
        "RGB PNG": Animal("png", png16(levels, 2), shown),
        "RGBA PNG": Animal("png", png16(with_alpha, 6), on_ground, 1),
        "grey PNG": Animal("png", png16(levels[..., :1], 0), grey),
        "LA PNG": Animal("png", png16(np.dstack([levels[..., :1], opaque]), 4), grey),
        "transparent LA PNG": Animal("png", png16(with_alpha[..., [0, 3]], 4), over(grey, alpha), 1),
        "RGB TIFF": Animal("tif", tiff(levels), shown),
        "RGB TIFF of a Mac": Animal("tif", tiff(levels, ">"), shown),
        "packed RGB TIFF": Animal("tif", tiff(levels, packed=True), shown),
        "packed RGB TIFF of a Mac": Animal("tif", tiff(levels, ">", packed=True), shown),
        "grey TIFF": Animal("tif", tiff(levels[..., :1]), grey),
    }


def zoo() -> dict[str, Animal]:
    """Every kind by its name."""
    c = colours()
    g, alpha = c[..., 0], colours(seed=2)[..., 1]
    wide, tall, large = colours(60, 14), colours(9, 50), colours(600, 400)
    sixteen = colours(seed=3).astype(np.uint16) * 257
    cmyk = np.dstack([255 - c, np.zeros_like(g)])
    palette = Image.fromarray(c).quantize(16)
    of_palette = np.asarray(palette.convert("RGB"))
    keyed = c.copy()
    keyed[:5, :5] = (1, 2, 3)
    on_white = np.where((keyed == (1, 2, 3)).all(-1, keepdims=True), 255, keyed)
    glyph = np.zeros((HEIGHT, WIDTH), np.uint8)
    glyph[3:9, 4:12] = 255
    bits = g > 128
    found = {
        "RGB PNG": Animal("png", encoded(c, "PNG"), c),
        "RGB BMP": Animal("bmp", encoded(c, "BMP"), c),
        "RGB PPM": Animal("ppm", b"P6 %d %d 255\n" % (WIDTH, HEIGHT) + c.tobytes(), c),
        "RGB TIFF": Animal("tif", encoded(c, "TIFF"), c),
        "LZW TIFF": Animal("tif", encoded(c, "TIFF", compression="tiff_lzw"), c),
        "raw TIFF": Animal("tif", tiff(c), c),
        "planar TIFF": Animal("tif", tiff(c, planes=True), c),
        "WebP": Animal("webp", encoded(c, "WEBP", lossless=True), c),
        "JPEG": Animal("jpg", encoded(c, "JPEG", quality=98, subsampling=0), c, 8),
        "progressive JPEG": Animal(
            "jpg", encoded(c, "JPEG", quality=98, subsampling=0, progressive=True), c, 8
        ),
        "grey JPEG": Animal("jpg", encoded(g, "JPEG", quality=98), rgb(g), 8),
        "CMYK JPEG": Animal("jpg", encoded(Image.fromarray(cmyk, "CMYK"), "JPEG", quality=98), c, 10),
        "CMYK TIFF": Animal("tif", encoded(Image.fromarray(cmyk, "CMYK"), "TIFF"), c),
        "large JPEG": Animal("jpg", encoded(large, "JPEG", quality=95), large, 8),
        "palette PNG": Animal("png", encoded(palette, "PNG"), of_palette),
        "GIF": Animal("gif", encoded(palette, "GIF"), of_palette),
        "moving GIF": Animal(
            "gif", encoded(palette, "GIF", save_all=True, append_images=[palette.rotate(180)]), of_palette
        ),
        "keyed PNG": Animal("png", encoded(keyed, "PNG", transparency=(1, 2, 3)), on_white),
        "pages TIFF": Animal(
            "tif", encoded(c, "TIFF", save_all=True, append_images=[Image.fromarray(255 - c)]), c
        ),
        "grey PNG": Animal("png", encoded(g, "PNG"), rgb(g)),
        "grey PGM": Animal("pgm", b"P5 %d %d 255\n" % (WIDTH, HEIGHT) + g.tobytes(), rgb(g)),
        "bilevel PNG": Animal("png", encoded(Image.fromarray(bits), "PNG"), rgb(bits * 255)),
        "RGBA PNG": Animal("png", encoded(np.dstack([c, alpha]), "PNG"), over(c, alpha), 1),
        "LA PNG": Animal("png", encoded(np.dstack([g, alpha]), "PNG"), over(rgb(g), alpha), 1),
        "white glyphs": Animal("png", encoded(np.dstack([glyph * 0 + 255] * 3 + [glyph]), "PNG"), rgb(glyph)),
        "16-bit grey PNG": Animal("png", encoded(sixteen[..., 0], "PNG"), rgb(sixteen[..., 0] // 257)),
        "16-bit RGB PNG": Animal("png", png16(sixteen, 2), sixteen // 257),
        "16-bit RGBA PNG": Animal(
            "png", png16(np.dstack([sixteen, alpha * np.uint16(257)]), 6), over(sixteen // 257, alpha), 1
        ),
        "16-bit grey TIFF": Animal("tif", tiff(sixteen[..., :1]), rgb(sixteen[..., 0] // 257)),
        "16-bit TIFF of a Mac": Animal("tif", tiff(sixteen[..., :1], ">"), rgb(sixteen[..., 0] // 257)),
        "16-bit TIFF, zero is white": Animal(
            "tif", tiff(sixteen[..., :1], white_is_zero=True), 255 - rgb(sixteen[..., 0] // 257)
        ),
        "8-bit TIFF, zero is white": Animal("tif", tiff(c[..., :1], white_is_zero=True), 255 - rgb(g)),
        "float TIFF of [0, 1]": Animal("tif", tiff((c[..., :1] / 255).astype(np.float32)), rgb(g)),
        "float TIFF of [0, 255]": Animal("tif", tiff(c[..., :1].astype(np.float32)), rgb(g)),
        "wide": Animal("png", encoded(wide, "PNG"), wide),
        "tall": Animal("png", encoded(tall, "PNG"), tall),
        "one pixel": Animal("png", encoded(c[:1, :1], "PNG"), c[:1, :1]),
    }
    for orientation, upright in UPRIGHT.items():
        found[f"EXIF {orientation}"] = Animal("png", encoded(c, "PNG", exif=exif(orientation)), upright(c))
    found["EXIF 6 JPEG"] = Animal(
        "jpg", encoded(large, "JPEG", quality=95, exif=exif(6)), np.rot90(large, -1), 8
    )
    return found
