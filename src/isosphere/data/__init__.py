"""Images in: where they come from, in which order they are taken, and the views of them."""

from ._cache import cache_folder
from ._channels import Taken, channel_statistics, find_channels, shown_as
from ._class_list import CLASS_LIST
from ._copies import KINDS as COPY_KINDS
from ._copies import CopiedSource, Copying, copy_of, copying
from ._decode import decode, dimensions
from ._decoded import DecodedCache, disk_room, open_decoded
from ._folder import is_image_file
from ._formats import BUILTIN, FORMATS, Format, describe_formats
from ._given import as_name, as_picture, as_source, is_picture
from ._identity import copied, fingerprint, first_of_each, linked, same_place, stamps
from ._images import (
    ImageSet,
    PictureSet,
    digests,
    images_bytes,
    left_out,
    load_images,
    load_pictures,
    name_skipped,
    read_images,
    read_pictures,
    require_readable,
    set_aside,
)
from ._joined import JoinedSource, distinct_ends, join_sources, joined, part_numbers, parts_of
from ._label_file import (
    Labelled,
    LabelRow,
    LabelTable,
    hex_digest,
    label_places,
    match_labels,
    read_label_file,
)
from ._labels import alike_classes
from ._layout import is_image_name
from ._limits import UnreadableImageError, reason_of, require_pixels
from ._loader import Batch, Loader
from ._numbers import White, find_white, require_levels, settle_reading
from ._opening import AUTO, Opening, ground_of
from ._picture import Channels, fit_square, pixels
from ._pictures import Pictures
from ._pixels import (
    PIXELS,
    WHOLE,
    Fit,
    Picture,
    Pixels,
    Reading,
    TimmTransform,
    picture_reader,
    to_tensor,
    visible,
    visible_channels,
)
from ._random import permutation
from ._recipes import IMAGENET_MEAN, IMAGENET_STD, RECIPES, ViewRecipe, recipe
from ._source import Source, Split, stratified_split
from ._sources import located, open_source, require_there
from ._stream import Decoded, decode_batch, images_at, stream
from ._suggestion import Suggestion, suggest
from ._survey import Survey, survey, unseen
from ._textures import texture, textures
from ._views import MOST_PASSES, Views, another_look, centre_view
from ._whole import LONGEST, Shapes
from ._workers import worker_count

__all__ = [
    "AUTO",
    "BUILTIN",
    "CLASS_LIST",
    "COPY_KINDS",
    "FORMATS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "LONGEST",
    "MOST_PASSES",
    "PIXELS",
    "RECIPES",
    "WHOLE",
    "Batch",
    "Channels",
    "CopiedSource",
    "Copying",
    "Decoded",
    "DecodedCache",
    "Fit",
    "Format",
    "ImageSet",
    "JoinedSource",
    "LabelRow",
    "LabelTable",
    "Labelled",
    "Loader",
    "Opening",
    "Picture",
    "PictureSet",
    "Pictures",
    "Pixels",
    "Reading",
    "Shapes",
    "Source",
    "Split",
    "Suggestion",
    "Survey",
    "Taken",
    "TimmTransform",
    "UnreadableImageError",
    "ViewRecipe",
    "Views",
    "White",
    "alike_classes",
    "another_look",
    "as_name",
    "as_picture",
    "as_source",
    "cache_folder",
    "centre_view",
    "channel_statistics",
    "copied",
    "copy_of",
    "copying",
    "decode",
    "decode_batch",
    "describe_formats",
    "digests",
    "dimensions",
    "disk_room",
    "distinct_ends",
    "find_channels",
    "find_white",
    "require_levels",
    "settle_reading",
    "fingerprint",
    "first_of_each",
    "fit_square",
    "ground_of",
    "hex_digest",
    "images_at",
    "images_bytes",
    "is_image_file",
    "is_image_name",
    "is_picture",
    "join_sources",
    "joined",
    "label_places",
    "left_out",
    "linked",
    "load_images",
    "load_pictures",
    "located",
    "match_labels",
    "name_skipped",
    "open_decoded",
    "open_source",
    "part_numbers",
    "parts_of",
    "permutation",
    "picture_reader",
    "pixels",
    "read_images",
    "reason_of",
    "require_pixels",
    "read_label_file",
    "read_pictures",
    "recipe",
    "require_readable",
    "require_there",
    "same_place",
    "set_aside",
    "shown_as",
    "stamps",
    "stratified_split",
    "stream",
    "suggest",
    "texture",
    "survey",
    "textures",
    "to_tensor",
    "unseen",
    "visible",
    "visible_channels",
    "worker_count",
]
