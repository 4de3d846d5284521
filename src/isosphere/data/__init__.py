"""Images in: where they come from, and in which order they are taken."""

from .decode import UnreadableImageError
from .images import ImageSet, images_bytes, load_images, name_skipped
from .loader import Batch, Loader
from .source import Source, stratified_split
from .sources import BUILTIN, open_source
from .textures import texture, textures

__all__ = [
    "BUILTIN",
    "Batch",
    "ImageSet",
    "Loader",
    "Source",
    "UnreadableImageError",
    "images_bytes",
    "load_images",
    "name_skipped",
    "open_source",
    "stratified_split",
    "texture",
    "textures",
]
