"""What a file is that is an image, and not one that is read: said truly, where "damaged" would be wrong."""

from importlib.util import find_spec
from typing import Any

from PIL import Image, TiffImagePlugin
from PIL.TiffTags import lookup

from . import _picture
from ._picture import tiff_tags

HEIF_SUFFIXES = frozenset({".heic", ".heif"})
HEIF_IS_READ = find_spec("pillow_heif") is not None
"""Photographs of phones; Pillow reads them where pillow-heif is installed."""
HEIF_HINT = "is read where pillow-heif is installed: pip install pillow-heif, or convert it to .png or .jpg"

_BITS, _SAMPLES, _FORMAT, _PLANAR, _COMPRESSION = 258, 277, 339, 284, 259
_NUMBERS = {
    1: "unsigned integers",
    2: "signed integers",
    3: "floats",
    5: "complex integers",
    6: "complex floats",
}
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def described(body: bytes) -> str | None:
    """What a file is that Pillow does not know, and what is read instead; None where it may well be damaged."""
    if body[4:8] == b"ftyp" and body[8:12] in _HEIF_BRANDS:
        return None if HEIF_IS_READ else f"it is a HEIC image, which {HEIF_HINT}"
    if body[:4] in TiffImagePlugin.PREFIXES:
        try:
            tags = tiff_tags(body)
            said = f"it is a TIFF of {_kind(tags)}"
            return (
                _not_read(tags)
                if _is_foreign(tags)
                else f"{said} of a form that is not read here, or damaged"
            )
        except Exception:  # damaged after all
            return None
    return None


_INSTEAD = "expected 1, 3 or 4 bands of 8 or 16 bits, or one of 32-bit floats"


def misread(image: Image.Image) -> str | None:
    """What is wrong with a TIFF that Pillow opens and would decode to other numbers than it holds; else None."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None:
        return None
    return _not_read(tags) if _picture.misread(tags) else None


def _is_foreign(tags: Any) -> bool:
    """Whether a TIFF that Pillow does not know is of a kind that it cannot know."""
    samples, bits, floats = int(tags.get(_SAMPLES, 1)), tags.get(_BITS, (1,)), 3 in tags.get(_FORMAT, (1,))
    known = bits[0] == 32 and samples == 1 if floats else bits[0] in (1, 2, 4, 8, 16)
    packed = tags.get(_COMPRESSION, 1) in TiffImagePlugin.COMPRESSION_INFO
    return not (known and packed and samples <= 4 and len(set(bits)) == 1)


def _not_read(tags: Any) -> str:
    return f"it is a TIFF of {_kind(tags)}, which is not read here; {_INSTEAD}"


def _kind(tags: Any) -> str:
    samples, bits = int(tags.get(_SAMPLES, 1)), tags.get(_BITS, (1,))
    numbers = _NUMBERS.get(tags.get(_FORMAT, (1,))[0], "numbers of an unknown kind")
    apart = ", each band by itself" if samples > 1 and tags.get(_PLANAR, 1) == 2 else ""
    packed = tags.get(_COMPRESSION, 1)
    how = "" if packed == 1 else f", compressed by {_compression(packed)}"
    return f"{samples} band{'s' * (samples > 1)} of {bits[0]}-bit {numbers}{apart}{how}"


def _compression(value: int) -> str:
    names = {number: name for name, number in lookup(_COMPRESSION).enum.items()}
    return TiffImagePlugin.COMPRESSION_INFO.get(value) or names.get(value) or f"method {value}"
