"""Images in: where they come from, in which order they are taken, and the views of them."""

from .class_list import CLASS_LIST
from .decode import UnreadableImageError
from .given import as_picture, as_source
from .images import ImageSet, digests, images_bytes, load_images, name_skipped, read_images, require_readable
from .loader import Batch, Loader
from .source import Source, stratified_split
from .sources import BUILTIN, open_source
from .stream import Decoded, images_at, stream
from .suggestion import Suggestion, suggest
from .textures import texture, textures
from .views import RECIPES, ViewRecipe, Views, centre_view, recipe

__all__ = [
    "BUILTIN",
    "CLASS_LIST",
    "RECIPES",
    "Batch",
    "Decoded",
    "ImageSet",
    "Loader",
    "Source",
    "Suggestion",
    "UnreadableImageError",
    "ViewRecipe",
    "Views",
    "as_picture",
    "as_source",
    "centre_view",
    "digests",
    "images_at",
    "images_bytes",
    "load_images",
    "name_skipped",
    "open_source",
    "read_images",
    "recipe",
    "require_readable",
    "stream",
    "stratified_split",
    "suggest",
    "texture",
    "textures",
]
