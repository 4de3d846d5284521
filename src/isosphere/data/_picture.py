"""From a picture that Pillow has opened to a square of pixels. Needs numpy and Pillow alone: exported weights bring
this file along, so that whoever uses them reads pictures as isosphere does."""

import io
import math
import sys
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageOps

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


def fit_square(image, size: int, fit: str = "crop"):
    """A picture as ``size`` x ``size`` pixels, by antialiased bicubic interpolation.

    ``crop``: the short side becomes ``size`` and the rest is cut; a long thin picture never grows on the way. ``pad``:
    the long side becomes ``size``, between bars. ``squeeze``: both sides become ``size``.
    """
    if image.size == (size, size):
        return image
    if fit == "squeeze":
        return image.resize((size, size), Image.Resampling.BICUBIC)
    if fit == "pad":
        scale = size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        whole = Image.new("RGB", (size, size), BARS)
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
        whole = Image.new("RGB", (size, size), tuple(fill))
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
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
):
    """A file, its bytes or a picture of Pillow as the numbers that the network takes: float32 (3, size, size).

    A JPEG file may be decoded at 1/2, 1/4 or 1/8 of its size, as long as its short side keeps twice the ``canvas``.
    ``timm``: what `timm_square` takes; a file is decoded whole then.
    """
    opened = not hasattr(picture, "getpixel")
    image = Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) if opened else picture
    if opened and page > 1:
        image.seek(page - 1)
    if opened and image.format in ("JPEG", "MPO") and timm is None:
        image.draft(None, (2 * canvas, 2 * canvas))
    upright = upright_rgb(image, white=white, ground=ground)
    square = fit_square(upright, canvas, fit) if timm is None else timm_square(upright, canvas, *timm)
    planes = [plane.convert("F") for plane in square.split()]
    if canvas != size:
        planes = [plane.resize((size, size), Image.Resampling.BILINEAR) for plane in planes]
    values = np.stack([np.asarray(plane, np.float32) for plane in planes]) / 255
    means, stds = (np.array(x, np.float32).reshape(3, 1, 1) for x in (mean, std))
    return (values - means) / stds
