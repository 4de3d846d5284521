"""From a picture that Pillow has opened to a square of pixels. Needs numpy and Pillow alone: exported weights bring
this file along, so that whoever uses them reads pictures as isosphere does."""

import io
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageOps, TiffImagePlugin

BARS = (124, 116, 104)
"""Beside a picture that is padded: ImageNet's mean, which is nearly zero to a network."""

_STRIP = 1 << 20
"""Pixels that are converted at a time: the largest pictures take no more than their own memory and that as RGB."""
_SEEN = 32
"""Levels of 255 by which a pixel must differ from the ground to be seen."""
_ENOUGH = 0.01
"""Share of the pixels that are not transparent of which so much must be seen."""
_BEYOND = 0.1
"""By how much of white numbers may leave [0, white]: they are cut. What goes further is on another scale."""
_LONG = 16
"""Sides of a square, beyond which a picture is not resized as a whole for its middle."""

_GREY_ALPHA = "LA;16B"
_OTHER_BYTES = {_GREY_ALPHA: "RGBA"}
"""By what Pillow is told of 16-bit colours as they are stored (L: low byte first, N: as this machine has it), of which
it takes the high byte: what makes it take the low one."""
for _kind in ("RGB", "RGBA", "RGBX"):
    _low, _high = f"{_kind};16L", f"{_kind};16B"
    _OTHER_BYTES |= {_low: _high, _high: _low, f"{_kind};16N": _high if sys.byteorder == "little" else _low}


class Channels(NamedTuple):
    """Which channels are taken of a picture: colours (``rgb``, with ``rgba`` the fourth band of an array is
    transparency; ``grey``), or bands by their numbers from 1, all of them where none are named, of pictures that have
    ``of``. Bands are colours where ``colour`` says so too.
    """

    colour: str = ""
    bands: tuple = ()
    of: int | None = None

    @classmethod
    def parse(cls, text):
        """As it is typed: rgb, rgba, grey, all, 4,3,2 or rgb:4,3,2; with the number of bands, all of 13. ValueError."""
        word = str(text).strip().lower().replace("gray", "grey")
        found = re.fullmatch(r"(rgba?|grey)|(?:(all)|(rgb:)?([0-9 ,]+?))(?: of ([0-9]+))?", word)
        if not found:
            raise ValueError(_EXPECTED)
        numbers = [each.strip() for each in (found[4] or "").split(",")]
        bands = tuple(int(each) for each in numbers) if found[4] and all(map(str.isdigit, numbers)) else ()
        of = int(found[5]) if found[5] else None
        wrong = (
            (found[4] and not bands)
            or (found[3] and len(bands) != 3)
            or (of is not None and not 0 < of <= 1024)
        )
        if wrong or not all(0 < band <= (of or 1024) for band in bands) or len(bands) > 1024:
            raise ValueError(_EXPECTED)
        return cls(found[1] or ("rgb" if found[3] else ""), bands, of)

    def __str__(self):
        bands = ",".join(map(str, self.bands))
        named = f"{self.colour}:{bands}" if self.colour and bands else self.colour or bands or "all"
        return f"{named} of {self.of}" if self.of else named

    @property
    def number(self):
        """How many there are; None for all of a picture of which nothing is known."""
        return len(self.bands) or {"rgb": 3, "rgba": 3, "grey": 1}.get(self.colour, self.of)

    def fit(self, bands):
        """Whether they can be taken of a picture of so many bands."""
        if self.of or self.bands:
            return bands == self.of if self.of else bands >= max(self.bands)
        return not self.colour or bands in ((1, 3, 4) if self.colour == "rgba" else (1, 3))

    @property
    def expected(self):
        """The numbers of bands of which they can be taken, in words."""
        if self.of or self.bands:
            return f"{self.of}" if self.of else f"{max(self.bands)} or more"
        return {"rgb": "3", "rgba": "3 or 4", "grey": "1 or 3"}.get(self.colour, "any number")


_EXPECTED = "expected rgb, rgba, grey, all, or bands from 1 on as 4,3,2 (rgb:4,3,2 where they are red, green and blue)"


class Bands:
    """A picture of any number of bands of 8 bits, each a grey picture of Pillow."""

    def __init__(self, planes):
        self.planes = tuple(planes)

    @property
    def size(self):
        return self.planes[0].size

    @property
    def width(self):
        return self.size[0]

    @property
    def height(self):
        return self.size[1]

    def split(self):
        return self.planes


def upright(image, *, white=None, ground=None, channels=None, in_place=False):
    """A picture that Pillow has opened as upright 8-bit channels: of mode RGB, or L for ``grey``, else ``Bands``.

    Raises: ValueError for numbers that are not within [0, white], too few bands, or a TIFF that Pillow misreads.
    """
    require_whole(getattr(image, "tag_v2", None), channels)
    grey = image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")
    rgb = upright_rgb(image, white=white, ground=ground, in_place=in_place)
    if channels is None or (channels.colour and not channels.bands):
        return rgb.convert("L") if channels is not None and channels.colour == "grey" else rgb
    values = np.asarray(rgb)
    return taken(values[..., :1] if grey else values, channels)


def taken(values, channels=None, ground=None):
    """Numbers of 8 bits, (h, w, bands), as a picture of the channels that are taken of them; by default all, as RGB
    where there are 1 or 3; a fourth band of ``rgba`` is laid over ``ground``. Raises: ValueError for too few or too
    many bands.
    """
    bands = values.shape[2]
    channels = channels or Channels("rgb" if bands in (1, 3) else "")
    if not channels.fit(bands):
        raise ValueError(
            f"it has {bands} band{'s' * (bands > 1)}, and {channels.expected} are expected ({channels})"
        )
    if channels.bands:
        values = values[..., [band - 1 for band in channels.bands]]
    if not channels.colour:
        return Bands(Image.fromarray(np.ascontiguousarray(values[..., k])) for k in range(values.shape[2]))
    values = over_ground(values, ground) if values.shape[2] == 4 else values
    rgb = Image.fromarray(np.broadcast_to(values, (*values.shape[:2], 3)))
    return rgb.convert("L") if channels.colour == "grey" else rgb


def bands_of_tiff(body, page=1, require_pixels=lambda width, height: None):
    """The numbers of a TIFF whose bands are more than its colours, (h, w, bands), by tifffile; None of other files.

    Raises: ValueError where tifffile is not installed, or cannot read it; what `require_pixels` raises of its size.
    """
    if body[:4] not in TiffImagePlugin.PREFIXES:
        return None
    try:
        tags = tiff_tags(body)
        bands = banded(tags)
    except Exception:  # damaged: said where it is decoded
        return None
    if not bands:
        return None
    require_pixels(int(tags.get(256, 1)), int(tags.get(257, 1)))
    try:
        import tifffile  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            f"it is a TIFF of {bands} bands, which needs tifffile: pip install tifffile"
        ) from None
    try:
        with tifffile.TiffFile(io.BytesIO(body)) as file:
            found = file.pages[page - 1].aspage()
            values, said = found.asarray(), {tag.code: tag.value for tag in found.tags}
    except Exception as error:  # codecs that are absent, and nearly anything on a damaged file
        raise ValueError(f"it is a TIFF of {bands} bands that tifffile cannot read ({error})") from error
    values = values.reshape(values.shape[-3:])
    values = np.moveaxis(values, 0, 2) if int(said.get(284, 1)) == 2 else values
    if int(said.get(262, 1)) == 0:
        if values.dtype != np.uint8:
            raise ValueError(f"it is a TIFF of {bands} bands of more than 8 bits in which zero is white")
        values = 255 - values
    return _UPRIGHT.get(int(said.get(274, 1)), lambda x: x)(values)


def banded(tags) -> int:
    """How many bands a TIFF has, where they are more than its colours and their transparency; else 0."""
    bands, more = int(tags.get(277, 1)), tags.get(338, ())
    colours = {2: 3, 5: 4, 6: 3, 8: 3}.get(int(tags.get(262, 1)), 1)
    alpha = bands == colours + 1 and more in ((1,), (2,), *([()] if colours == 3 else []))
    return 0 if bands <= colours or alpha else bands


def misread(tags) -> bool:
    """Whether Pillow opens a TIFF with these tags and would decode it to other numbers than it holds."""
    bits = tags.get(258, (1,))
    planes = tags.get(277, 1) > 1 and tags.get(284, 1) == 2 and max(bits) > 8
    return planes or (2 in tags.get(339, (1,)) and max(bits) == 8)


def require_whole(tags, channels=None):
    """Refuse a TIFF of which Pillow gives other numbers than it holds, or not all bands. Raises: ValueError."""
    if tags is None:
        return
    if misread(tags):
        raise ValueError("it is a TIFF that Pillow decodes to other numbers than it holds")
    if (bands := banded(tags)) and not (channels is not None and channels.colour == "rgba"):
        raise ValueError(f"it is a TIFF of {bands} bands, and Pillow drops some: give the path of the file")


_UPRIGHT = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""By the tag Orientation of a TIFF: what turns its numbers upright."""


def tiff_tags(body):
    """The tags of the first page of a TIFF, which is not decoded."""
    stream = io.BytesIO(body)
    header = stream.read(8)
    if header[2] == 43 or header[3] == 43:  # BigTIFF
        header += stream.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(header)
    stream.seek(tags.next)
    tags.load(stream)
    return tags


def upright_rgb(image, *, white=None, ground=None, in_place=False):
    """A picture as upright 8-bit RGB: turned by EXIF, transparency over the colour ``ground`` (None: white, and black
    where nothing would be seen on white), numbers of more than 8 bits divided by ``white``.

    Raises: ValueError for numbers that are not within [0, white].
    """
    tags = getattr(image, "tag_v2", None)
    # Pillow has turned 8 bits in which zero is white, and left others.
    negative = tags is not None and tags.get(262) == 0 and image.mode[:1] in ("I", "F")
    low = None if white is None else low_bytes(image)
    image.load()
    image = _upright(image, in_place)
    if low is not None and white is not None:
        image = _colour_of_numbers(image, _upright(low, True), white)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _grey_of_numbers(image, negative, white)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        plain = image.mode == "RGBA" and "transparency" not in image.info
        return _over_ground(image if plain else image.convert("RGBA"), ground)
    return image.convert("RGB")


def _upright(image, in_place: bool):
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image
        return ImageOps.exif_transpose(image, in_place=in_place) or image
    except Exception:  # damaged metadata beside sound pixels: keep the picture as it lies
        return image


# --- numbers of more than eight bits ----------------------------------------------------------------------------------


def require_within(low: float, high: float, white: float) -> None:
    """Refuse numbers that leave [0, white] by more than a tenth of it. Raises: ValueError."""
    if low < -_BEYOND * white or high > (1 + _BEYOND) * white:
        raise ValueError(f"its numbers reach from {low:g} to {high:g}, and {white:g} is white")


def white_of(floats: bool, low: float, high: float, white=None) -> float:
    """The number that is shown as white in a picture of more than 8 bits; None: 65535, of floats 1 or 255.

    Raises: ValueError for numbers that are not within [0, white].
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("its numbers are not finite")
    if white is not None:
        require_within(low, high, white)
        return white
    top = (1.0 if high <= 1 else 255.0) if floats else 65535.0
    if low < 0 or high > top:
        expected = "[0, 1] or [0, 255]" if floats else "[0, 65535]"
        raise ValueError(f"its numbers reach from {low:g} to {high:g}; expected {expected}")
    return top


def to_bytes(values, white: float, negative: bool = False):
    """Numbers in [0, white] in steps of 1/255, those beyond cut."""
    values = np.asarray(values).astype(np.float64)
    scaled = (white - values if negative else values) * (255.0 / white)
    return np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)


def other_bytes(image) -> list[str]:
    """What makes Pillow take the low bytes of a file of colours of 16 bits that it has opened and not decoded yet, for
    each part of it; nothing of other pictures.
    """
    if "transparency" in image.info:
        return []
    told = [tile[3] for tile in getattr(image, "tile", [])]
    stored = [str(args[0] if isinstance(args, tuple) and args else args) for args in told]
    return [_OTHER_BYTES[raw] for raw in stored] if all(raw in _OTHER_BYTES for raw in stored) else []


def _told(tile, raw: str):
    args = (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw
    return tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)


def low_bytes(image):
    """What Pillow drops of a file of colours of 16 bits that it has opened and not decoded yet, as a picture like it;
    None of other pictures. What it keeps is the high bytes.
    """
    other, stream = other_bytes(image), getattr(image, "fp", None)
    if not other or stream is None:
        return None
    before = stream.tell()
    stream.seek(0)
    twin = type(image)(io.BytesIO(stream.read()))
    stream.seek(before)
    if page := image.tell():
        twin.seek(page)
    twin.tile = [_told(tile, raw) for tile, raw in zip(twin.tile, other, strict=True)]
    twin.load()
    if other[0] == _OTHER_BYTES[_GREY_ALPHA]:  # the bytes of each pixel as four channels
        twin.paste(Image.merge("RGBA", [twin.getchannel(1)] * 4))
    return twin


def colour_numbers(image, low) -> Iterator:
    """The numbers of a picture whose `low_bytes` are at hand, some rows at a time: uint16 (rows, w, 3)."""
    for (high, _), (rest, _) in zip(_strips(image), _strips(low), strict=True):
        parts = (np.asarray(each)[..., :3].astype(np.uint16) for each in (high, rest))
        yield next(parts) << 8 | next(parts)


def ends_of(numbers: Iterable) -> tuple[float, float]:
    """Least and greatest of numbers that come in parts."""
    ends = np.array([(part.min(), part.max()) for part in numbers], dtype=np.float64)
    return float(ends[:, 0].min()), float(ends[:, 1].max())


def _colour_of_numbers(image, low, white: float):
    require_within(*ends_of(colour_numbers(image, low)), white)
    shown, top = Image.new("RGB", image.size), 0
    for part in colour_numbers(image, low):
        shown.paste(Image.fromarray(to_bytes(part, white)), (0, top))
        top += len(part)
    if image.mode == "RGBA":
        shown.putalpha(image.getchannel("A"))
    return shown


def scaled(values, white: float):
    """An array of any shape as `to_bytes` makes it, some rows at a time: doubles of all would take eight times it."""
    made = np.empty(values.shape, np.uint8)
    rows = max(1, _STRIP // max(1, values[:1].size))
    for start in range(0, len(values), rows):
        made[start : start + rows] = to_bytes(values[start : start + rows], white)
    return made


def bytes_of(values, white=None):
    """The numbers of one picture, an array, as 8 bits. Raises: ValueError for what is not within [0, white]."""
    if values.dtype in (np.uint8, np.bool_):
        return values if values.dtype == np.uint8 else values * np.uint8(255)
    return scaled(values, white_of(values.dtype.kind == "f", float(values.min()), float(values.max()), white))


def _grey_of_numbers(image, negative: bool, white: float | None):
    low, high = ends_of(np.asarray(strip) for strip, _ in _strips(image))
    top = white_of(image.mode == "F", low, high, white)
    return _in_strips(image, lambda strip: Image.fromarray(to_bytes(strip, top, negative)))


# --- transparency -----------------------------------------------------------------------------------------------------


def ground_under(pieces: Iterable) -> int:
    """255, or 0 where less than a hundredth of what is not transparent would be seen on white (white glyphs).

    Args:
        pieces: parts of one picture, of mode RGBA.
    """
    seen = visible = 0
    for piece in pieces:
        red, green, blue, alpha = piece.split()
        darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
        contrast = ImageChops.multiply(ImageChops.invert(darkest), alpha)
        seen += sum(contrast.histogram()[_SEEN:])
        visible += sum(alpha.histogram()[_SEEN:])
    return 0 if seen < _ENOUGH * visible else 255


def _over_ground(colour, ground=None):
    if ground is None:
        ground = (ground_under(piece for piece, _ in _strips(colour)),) * 3
    below = (*ground, 255)
    return _in_strips(colour, lambda x: Image.alpha_composite(Image.new("RGBA", x.size, below), x))


def over_ground(values, ground=None):
    """Numbers of 8 bits, (h, w, 4), the fourth of which is transparency, over a colour: (h, w, 3)."""
    if ground is None:
        ground = (ground_under([Image.fromarray(np.ascontiguousarray(values))]),) * 3
    below = np.array(ground, np.uint16)
    colour, alpha = values[..., :3].astype(np.uint16), values[..., 3:].astype(np.uint16)
    return ((colour * alpha + below * (255 - alpha) + 127) // 255).astype(np.uint8)


def _strips(image) -> Iterator[tuple]:
    """A picture from top to bottom, some rows at a time, and the row at which each part begins."""
    rows = max(1, _STRIP // image.width)
    if rows >= image.height:
        yield image, 0
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height))), top


def _in_strips(image, convert: Callable):
    """What ``convert`` makes of a picture, as RGB, of some rows at a time."""
    whole = Image.new("RGB", image.size)
    for strip, top in _strips(image):
        whole.paste(convert(strip).convert("RGB"), (0, top))
    return whole


# --- squares ----------------------------------------------------------------------------------------------------------


def fit_square(image, size: int, fit: str = "crop", bars=None):
    """A picture as ``size`` x ``size`` pixels, by antialiased bicubic interpolation.

    ``crop``: the short side becomes ``size`` and the rest is cut; a long thin picture never grows on the way. ``pad``:
    the long side becomes ``size``, between ``bars``. ``squeeze``: both sides become ``size``.

    Args:
        bars: the level of each channel; None: ImageNet's mean, of others than three channels the mean of that.
    """
    if isinstance(image, Bands):
        grounds = bars or (None,) * len(image.planes)
        levels = (None if level is None else (level,) for level in grounds)
        return Bands(
            fit_square(plane, size, fit, level) for plane, level in zip(image.planes, levels, strict=True)
        )
    if image.size == (size, size):
        return image
    if fit == "squeeze":
        return image.resize((size, size), Image.Resampling.BICUBIC)
    if fit == "pad":
        scale = size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        bars = bars or (BARS if image.mode == "RGB" else (round(sum(BARS) / 3),))
        whole = Image.new(image.mode, (size, size), bars if len(bars) > 1 else bars[0])
        inner = (
            image
            if image.size == (width, height)
            else image.resize((width, height), Image.Resampling.BICUBIC)
        )
        whole.paste(inner, ((size - width) // 2, (size - height) // 2))
        return whole
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    if side == size:  # whole pixels, so that nothing is blurred
        return image.crop((int(left), int(top), int(left) + size, int(top) + size))
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def timm_square(image, size: int, crop_pct: float, crop_mode: str, interpolation: str, fill):
    """A picture as ``size`` x ``size`` pixels, to the bit as by ``timm.data.create_transform(is_training=False)``.

    ``center``: the short side becomes ``size / crop_pct`` and the middle is cut out; ``squash``: both sides become so;
    ``border``: the long side, between bars of the colour ``fill``.
    """
    if isinstance(image, Bands):
        each = (crop_pct, crop_mode, interpolation)
        return Bands(
            timm_square(plane, size, *each, (level,)) for plane, level in zip(image.planes, fill, strict=True)
        )
    scale, resample = math.floor(size / crop_pct), Image.Resampling[interpolation.upper()]
    width, height = image.size
    if crop_mode == "squash":
        to = scale, scale
    elif crop_mode == "border":
        ratio = max(height / scale, width / scale)
        to = round(width / ratio), round(height / ratio)
    else:
        short = min(width, height)
        to = (scale, int(scale * height / short)) if width <= height else (int(scale * width / short), scale)
    left, top = (round((side - size) / 2) for side in to)
    if max(to) > _LONG * size:  # the middle alone, lest a long thin picture grow on the way
        across, down = width / to[0], height / to[1]
        box = (left * across, top * down, (left + size) * across, (top + size) * down)
        return image.resize((size, size), resample, box=box)
    if image.size != to:
        image = image.resize(to, resample)
    if min(to) < size:
        whole = Image.new(image.mode, (size, size), tuple(fill) if len(fill) > 1 else fill[0])
        across, down = ((size - side) // 2 for side in to)
        whole.paste(image, (across if to[0] < size else -left, down if to[1] < size else -top))
        return whole
    return image.crop((left, top, left + size, top + size))


def pixels(
    picture,
    *,
    canvas: int,
    size: int,
    fit: str = "crop",
    white=None,
    ground=None,
    page=1,
    timm=None,
    channels=None,
    bars=None,
    mean=0.0,
    std=1.0,
):
    """A file, its bytes, a picture of Pillow or an array (h, w) or (h, w, bands) as the numbers that the network takes:
    float32 (channels, size, size).

    A JPEG file may be decoded at 1/2, 1/4 or 1/8 of its size, as long as its short side keeps twice the ``canvas``.
    ``timm``: what `timm_square` takes; a file is decoded whole then.
    """
    chosen = None if channels is None else Channels.parse(channels)
    image = _opened(picture, None if timm else 2 * canvas, white, ground, page, chosen)
    square = fit_square(image, canvas, fit, bars) if timm is None else timm_square(image, canvas, *timm)
    planes = [plane.convert("F") for plane in square.split()]
    if canvas != size:
        planes = [plane.resize((size, size), Image.Resampling.BILINEAR) for plane in planes]
    values = np.stack([np.asarray(plane, np.float32) for plane in planes]) / 255
    means, stds = (np.array(x, np.float32).reshape(-1, 1, 1) for x in (mean, std))
    return (values - means) / stds


def _opened(picture, at_least, white, ground, page, channels):
    if isinstance(picture, np.ndarray):
        return taken(bytes_of(picture if picture.ndim == 3 else picture[..., None], white), channels, ground)
    if hasattr(picture, "getpixel"):
        return upright(picture, white=white, ground=ground, channels=channels)
    if not isinstance(picture, bytes):
        with open(picture, "rb") as file:  # noqa: PTH123
            picture = file.read()
    transparent = channels is not None and channels.colour == "rgba"  # Pillow's, as files say it
    if not transparent and (values := bands_of_tiff(picture, page)) is not None:
        return taken(bytes_of(values, white), channels)
    image = Image.open(io.BytesIO(picture))
    if page > 1:
        image.seek(page - 1)
    if at_least and image.format in ("JPEG", "MPO"):
        image.draft(None, (at_least, at_least))
    return upright(image, white=white, ground=ground, channels=channels)
