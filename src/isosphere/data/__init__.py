"""Images in: where they come from, in which order they are taken, and the views of them."""

from .cache import cache_folder
from .class_list import CLASS_LIST
from .decode import UnreadableImageError, decode, fit_square
from .formats import BUILTIN, FORMATS, Format, describe_formats
from .given import as_picture, as_source
from .images import (
    ImageSet,
    digests,
    images_bytes,
    load_images,
    name_skipped,
    read_images,
    require_readable,
)
from .layout import is_image_name
from .loader import Batch, Loader
from .random import permutation
from .recipes import IMAGENET_MEAN, IMAGENET_STD
from .source import Source, Split, stratified_split, to_tensor
from .sources import open_source
from .stream import Decoded, images_at, stream
from .suggestion import Suggestion, suggest
from .textures import texture, textures
from .views import RECIPES, ViewRecipe, Views, centre_view, recipe
from .workers import worker_count

__all__ = [
    "BUILTIN",
    "CLASS_LIST",
    "FORMATS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "RECIPES",
    "Batch",
    "Decoded",
    "Format",
    "ImageSet",
    "Loader",
    "Source",
    "Split",
    "Suggestion",
    "UnreadableImageError",
    "ViewRecipe",
    "Views",
    "as_picture",
    "as_source",
    "cache_folder",
    "centre_view",
    "decode",
    "describe_formats",
    "digests",
    "fit_square",
    "images_at",
    "images_bytes",
    "is_image_name",
    "load_images",
    "name_skipped",
    "open_source",
    "permutation",
    "read_images",
    "recipe",
    "require_readable",
    "stratified_split",
    "stream",
    "suggest",
    "texture",
    "textures",
    "to_tensor",
    "worker_count",
]
