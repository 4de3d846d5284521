"""Images that a program has at hand: paths, arrays, pictures, a data set of torch."""

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch.utils import data as torch_data

from isosphere.addresses import is_address
from isosphere.errors import UsageError, plural

from ._about import About
from ._arrays import ArraySource, as_bytes, channel_axis, is_one_picture, require_images
from ._decode import about, about_picture, decode, numbers, undecoded, upright
from ._folder import is_image_file
from ._home import expanded
from ._images import ImageSet
from ._joined import joined
from ._labels import class_positions, one_label_each, positions_of
from ._layout import is_image_name, no_test_part
from ._limits import UnreadableImageError, read_file
from ._listed import FileSource
from ._numbers import Numbers
from ._opening import USUAL, Opening
from ._picture import Channels, taken
from ._pixels import Picture, Reading
from ._source import Source, Split
from ._sources import as_text, is_builtin, open_source

_PICTURE = "a PIL image, a uint8 array (h, w) or (h, w, channels), or a uint8 tensor (channels, h, w)"
_DATA = (
    "a folder or another source by its name, a list of paths, an array of shape (n, h, w) or (n, h, w, 3), a tensor "
    "(n, 3, h, w), a list of PIL images or arrays, or a map-style data set of torch (with __len__ and __getitem__)"
)


def as_source(
    data: Any,
    *,
    labels: ArrayLike | None = None,
    name: str | None = None,
    split: Split = None,
    what: str = "data",
) -> Source:
    """A source of whatever holds images.

    Args:
        data: what `open_source` opens; a `Source` or an `ImageSet`; a list of paths; an array ``(n, h, w)``,
            ``(n, h, w, c)`` or ``(n, c, h, w)`` or a tensor of such a shape, uint8 or as `ArraySource` takes it; a list
            of PIL images and uint8 arrays of any sizes; or a map-style data set of torch whose items are such images,
            tuples that begin with one, or mappings with an ``"image"``. A data set must give the same image each time:
            leave out random transforms. What it raises surfaces as it is; `UnreadableImageError` passes over an image.
        labels: one integer (negative for none) or word for each image. If None, those of the source; of a data set its
            ``targets`` or ``labels`` with its ``classes``, where it has them, for no item is read to learn its label.
        name: how messages call the images.
        split: as for `open_source`; images at hand are one part, and have no test part.
        what: how messages call the argument, where it is at fault.

    Raises: UsageError that says what was got and what was expected.
    """
    data = as_name(data)
    if isinstance(data, str | os.PathLike):
        source = open_source(as_text(data), split=split)
    else:
        source = _at_hand(data, what)
        if split == "test":
            raise no_test_part(name or source.name)
    if name is not None:
        source = copy.copy(source)
        source.name = name
    return source if labels is None else _labelled(source, labels)


def as_name(data: Any) -> Any:
    """A list of folders, archives and other sources by name as the one name of them together, ``A + B``; anything else,
    a list of image files too, as it is. A path that is spelt like a built-in name becomes a text that is not.
    """
    if isinstance(data, str) or (isinstance(data, os.PathLike) and is_builtin(os.fspath(data))):
        return as_text(data)
    if not isinstance(data, list | tuple) or not all(isinstance(item, str | os.PathLike) for item in data):
        return data
    names = [as_text(item) for item in data]
    return joined(names) if any(map(_names_several, names)) else data


def _names_several(name: str) -> bool:
    try:
        path = expanded(name)
        return (
            path.is_dir()
            or (path.is_file() and not is_image_name(name) and not is_image_file(path))
            or is_builtin(name)
            or is_address(name)
        )
    except (OSError, ValueError, RuntimeError):
        return False


def as_picture(
    item: Any,
    what: str = "the image",
    *,
    at_least: int | None = None,
    white: float | None = None,
    opening: Opening = USUAL,
    channels: Channels | None = None,
) -> Picture:
    """An image at hand, or a file, as an upright picture, as `decode` makes it; ``what`` names it in messages.

    Raises: UsageError if it is no image, or one of other numbers; UnreadableImageError if PIL cannot decode it.
    """
    if isinstance(item, Image.Image):
        if 0 in item.size:
            raise UsageError(f"{what} has no pixels: its size is {item.width} x {item.height}.")
        return upright(item, at_least=at_least, white=white, opening=opening, channels=channels)
    if isinstance(item, str | os.PathLike):
        item = read_file(expanded(item))
    if isinstance(item, bytes):
        return decode(item, at_least=at_least, white=white, opening=opening, channels=channels)
    if not isinstance(item, np.ndarray | torch.Tensor):
        raise UsageError(f"{what} is of type {type(item).__name__}; expected {_PICTURE}.")
    array = _numpy(item)
    if array.dtype.kind not in "bu" and white is None:
        hint = " Leave out ToTensor and Normalize." if array.dtype.kind == "f" else ""
        raise UsageError(
            f"{what} holds {array.dtype}, shape {tuple(item.shape)}; expected {_PICTURE}, values 0 to 255.{hint}"
        )
    picture = _channels_last(item)
    try:
        require_images(what, picture[None].shape, picture.dtype)
    except ValueError:
        raise UsageError(f"{what} has shape {tuple(item.shape)}; expected {_PICTURE}.") from None
    try:
        return taken(as_bytes(picture[None], white=white)[0], channels, opening.ground)
    except ValueError as error:
        raise UnreadableImageError(str(error)) from error


def _channels_last(item: Any) -> NDArray:
    """One picture at hand as (h, w, channels): where it cannot be told which they are, those of torch stand first."""
    array = _numpy(item)
    if array.ndim != 3:
        return array[..., None] if array.ndim == 2 else array
    torch_alike = isinstance(item, torch.Tensor)
    if torch_alike and array.shape[0] in (1, 3, 4):
        return np.moveaxis(array, 0, 2)
    axis = channel_axis(array.shape)
    return np.moveaxis(array, 0, 2) if axis == 0 or (axis is None and torch_alike) else array


def numbers_of(item: Any) -> Numbers:
    """What an image at hand, or a file, is stored as. Raises: UsageError or UnreadableImageError."""
    if isinstance(item, str | os.PathLike):
        item = read_file(expanded(item))
    if isinstance(item, bytes):
        return numbers(item)
    if not isinstance(item, Image.Image | np.ndarray | torch.Tensor):
        raise UsageError(f"the image is of type {type(item).__name__}; expected {_PICTURE}.")
    return Numbers.of(item if isinstance(item, Image.Image) else _channels_last(item))


def is_picture(item: Any, in_chans: int = 3) -> bool:
    """Whether it is one picture at hand, and not a set or a name; an array with ``in_chans`` channels is one."""
    if not isinstance(item, np.ndarray | torch.Tensor):
        return isinstance(item, Image.Image)
    channels = item.shape[0 if isinstance(item, torch.Tensor) else -1] if item.ndim == 3 else 0
    return item.ndim == 2 or channels in (1, 3, 4, in_chans)


class PictureSource(Source):
    """Pictures of any sizes in memory, and files among them."""

    in_memory = True

    def __init__(self, pictures: Sequence[Any], what: str = "data") -> None:
        super().__init__("images", _numbered(len(pictures)))
        # Files of their own: decoding would else depend on whether a picture had been looked at.
        self._pictures, self._what = [_file_of(picture) or picture for picture in pictures], what
        self._broken: dict[int, str] = {}
        for i, picture in enumerate(self._pictures):
            try:  # now: worker processes would share the position in an open file
                as_picture(picture, f"{what}[{i}]", white=_own_white(picture))
            except UnreadableImageError as error:
                self._broken[i] = str(error)

    def image(self, i: int, *, at_least: int | None = None) -> Picture:
        if i in self._broken:
            raise UnreadableImageError(self._broken[i])
        return _as_read(self._pictures[i], f"{self._what}[{i}]", at_least, self.reading)

    def about(self, i: int) -> About:
        picture = self._pictures[i]
        if isinstance(picture, Image.Image):
            return about_picture(picture)
        return about(picture, self.reading.opening) if isinstance(picture, bytes) else super().about(i)

    def numbers(self, i: int) -> Numbers:
        return numbers_of(self._pictures[i])


class DatasetSource(Source):
    """The images of a map-style data set of torch, read item by item."""

    thread_safe = False  # a data set is written for processes

    def __init__(self, dataset: Any) -> None:
        labels, class_names = _stated_labels(dataset)
        super().__init__(
            _dataset_name(dataset), _numbered(len(dataset)), labels=labels, class_names=class_names
        )
        self._dataset = dataset

    def numbers(self, i: int) -> Numbers:
        return numbers_of(self._item(i))

    def _item(self, i: int) -> Any:
        item = self._dataset[i]
        if isinstance(item, tuple | list) and item:
            return item[0]
        return item["image"] if isinstance(item, Mapping) and "image" in item else item

    def image(self, i: int, *, at_least: int | None = None) -> Picture:
        return _as_read(self._item(i), f"item {i} of {self.name}", at_least, self.reading)


def _as_read(item: Any, what: str, at_least: int | None, made: Reading) -> Picture:
    return as_picture(
        item, what, at_least=at_least, white=made.white, opening=made.opening, channels=made.channels
    )


def _own_white(picture: Any) -> float | None:
    """The largest of numbers that are no bytes, for which of them is white is told of the set; None where they are no
    picture's as they are, such as normalised ones.
    """
    if isinstance(picture, Image.Image) and 0 not in picture.size and picture.mode[:1] in ("I", "F"):
        picture = np.asarray(picture)
    if not isinstance(picture, np.ndarray | torch.Tensor) or picture.ndim == 0 or 0 in picture.shape:
        return None
    values = _numpy(picture)
    if values.dtype.kind not in "if":
        return None
    low, high = float(values.min()), float(values.max())
    return max(high, 1.0) if low >= -0.1 * max(high, 1.0) else None


def _file_of(picture: Any) -> bytes | None:
    return undecoded(picture) if isinstance(picture, Image.Image) else None


def _at_hand(data: Any, what: str) -> Source:
    if isinstance(data, Source):
        return data
    if isinstance(data, ImageSet):
        pixels = data.images.cpu().permute(0, 2, 3, 1).numpy()
        return ArraySource(
            pixels,
            name=data.name,
            labels=data.labels,
            class_names=data.class_names,
            paths=data.paths,
            unreadable=data.skipped,
        )
    if isinstance(data, np.ndarray | torch.Tensor) and (data.ndim != 1 or isinstance(data, torch.Tensor)):
        return _of_array(data, what)
    if not isinstance(data, list | tuple) and hasattr(data, "tolist"):  # a column of paths
        data = data.tolist()
    if isinstance(data, list | tuple):
        return _of_list(data, what)
    by_position = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    if not by_position or isinstance(data, (torch_data.IterableDataset, Mapping)):
        hint = " Give the loader's data set." if isinstance(data, torch_data.DataLoader) else ""
        raise UsageError(f"{what} is of type {type(data).__name__}; expected {_DATA}.{hint}")
    if len(data) == 0:
        raise UsageError(f"{what} is a {type(data).__name__} without items; expected at least one image.")
    return DatasetSource(data)


def _of_array(images: NDArray | torch.Tensor, what: str) -> Source:
    shape = tuple(images.shape)
    if is_one_picture(shape) or (len(shape) == 3 and shape[-1] in (3, 4)):
        raise UsageError(
            f"{what} is one picture of shape {shape}; expected several, (n, h, w, {shape[-1]}): {what}[None] makes one "
            "of it."
        )
    try:
        return ArraySource(_numpy(images), name="images", paths=_numbered(shape[0] if shape else 0))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{what} cannot be used: {str(error).rstrip('.')}.") from error


def _of_list(items: Sequence[Any], what: str) -> Source:
    if not items:
        raise UsageError(f"{what} is an empty list; expected at least one image.")
    paths = [isinstance(item, str | os.PathLike) for item in items]
    if not all(paths):
        return PictureSource(items, what)
    files = [os.fspath(item) for item in items]
    if all(map(_missing, files)):
        others = f", nor {'does' if len(files) == 2 else 'do'} {plural(len(files) - 1, 'other')}" * (
            len(files) > 1
        )
        raise UsageError(f"the file {files[0]} does not exist{others}: expected paths of image files.")
    return FileSource(files, folders=False)


def _missing(file: str) -> bool:
    """Whether there is no such file; one that may not be looked at is none of these."""
    try:
        expanded(file).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except ValueError:  # a null byte
        return True
    except (OSError, RuntimeError):
        return False
    return False


def _stated_labels(dataset: Any) -> tuple[NDArray[np.int64] | None, list[str]]:
    """The labels that a data set of torch states without being read, and its class names."""
    if isinstance(dataset, torch_data.Subset):
        labels, class_names = _stated_labels(dataset.dataset)
        return (None if labels is None else labels[np.asarray(dataset.indices)]), class_names
    found = getattr(dataset, "targets", None)
    found = getattr(dataset, "labels", None) if found is None else found
    names = getattr(dataset, "classes", None)
    classes = [str(c[0] if isinstance(c, tuple) else c) for c in names] if isinstance(names, list) else []
    try:
        values = one_label_each("labels", _numpy(found), len(dataset))
        return (None, []) if values is None else _positions(values, np.array(classes) if classes else None)
    except ValueError:  # none, or something else than classes: boxes, masks, captions
        return None, []


def _labelled(source: Source, labels: ArrayLike) -> Source:
    try:
        if isinstance(labels, torch.Tensor) and labels.is_floating_point():
            labels = labels.double()  # NumPy has no bfloat16
        values = one_label_each("labels", _numpy(labels), len(source))
        if values is None:
            raise ValueError(f"labels has shape {np.shape(labels)}; expected ({len(source)},)")
        positions, class_names = _positions(values, None)
    except ValueError as error:
        raise UsageError(f"{error}.") from error
    source = copy.copy(source)
    source.labels, source.class_names = positions, class_names
    return source


def _positions(labels: NDArray, stated: NDArray | None) -> tuple[NDArray[np.int64], list[str]]:
    table, class_names = class_positions([labels], stated)
    return positions_of(labels, table, len(labels)), class_names


def _numpy(values: Any) -> NDArray:
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    if values.is_meta:
        raise UsageError("a tensor on the device meta holds no numbers: give one on cpu or cuda.")
    return values.detach().cpu().numpy()


def _numbered(count: int) -> list[str]:
    return [f"image {i}" for i in range(count)]


def _dataset_name(dataset: Any) -> str:
    inner = dataset.dataset if isinstance(dataset, torch_data.Subset) else dataset
    return type(inner).__name__
