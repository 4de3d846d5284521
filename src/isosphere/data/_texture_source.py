"""Procedural textures as a source of images, kept on disk between runs."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from isosphere.errors import UsageError, nearest

from ._arrays import ArraySource
from ._cache import cache_folder, keep
from ._source import Split
from ._textures import FAMILIES, MIN_SIZE, VERSION, textures

_DEFAULTS = {"count": 2000, "test": 1000, "val": 0, "size": 72, "seed": 0}
_MANY = (1, 1_000_000)
_LIMITS = {"count": _MANY, "test": _MANY, "val": _MANY, "size": (MIN_SIZE, 1024), "seed": (0, 2**63)}


class TextureSource(ArraySource):
    """Textures of one family, each image its own instance, or of all four, labelled by family."""


def open_textures(spec: str, *, split: Split = None) -> TextureSource:
    """Open ``FAMILY[?count=N&test=N&val=N&size=PIXELS&seed=N]``, FAMILY one of cloud, disk, flake, wood, or all of
    them.

    ``count`` training and ``test`` test images of each family, from independent random numbers; with ``val`` so many
    validation images, a third part of its own numbers, in place of the test images.

    Raises: UsageError for an unknown family or option, or a value out of range.
    """
    family, _, query = spec.partition("?")
    if family not in (*FAMILIES, "all"):
        known = [f"textures:{name}" for name in (*FAMILIES, "all")]
        raise UsageError(
            f"textures:{family} is unknown; expected one of {', '.join(known)}."
            + nearest(f"textures:{family}", known)
        )
    options = _options(query)
    families = list(FAMILIES) if family == "all" else [family]
    asked = "val" if options["val"] else "test"
    parts = [part for part in ("train", asked) if split is None or (part == "train") == (split == "train")]
    images, paths, labels = [], [], []
    for part in parts:
        count = options["count" if part == "train" else part]
        for label, each in enumerate(families):
            images.append(_cached(each, part, count, options["size"], options["seed"]))
            paths += [f"{each}/{part}/{i}" for i in range(count)]
            labels += [label if family == "all" else -1] * count
    return TextureSource(
        np.concatenate(images) if len(images) > 1 else images[0],
        name=f"textures:{family}",
        labels=np.array(labels, dtype=np.int64),
        class_names=families if family == "all" else [],
        paths=paths,
        has_test_split=True,
    )


def _options(query: str) -> dict[str, int]:
    options, given = dict(_DEFAULTS), set[str]()
    for item in filter(None, query.split("&")):
        key, _, value = item.partition("=")
        if key not in options:
            raise UsageError(
                f"textures has no option {key!r}; expected {', '.join(options)}, as in "
                f"textures:wood?count=2000&size=72.{nearest(key, options)}"
            )
        low, high = _LIMITS[key]
        if not value.isascii() or not value.isdecimal() or not low <= int(value) <= high:
            raise UsageError(
                f"textures option {key} is {value!r}; expected an integer from {low} to {high}, as in "
                f"{key}={_DEFAULTS[key]}."
            )
        options[key] = int(value)
        given.add(key)
    if {"test", "val"} <= given:
        raise UsageError(
            "textures has either test or validation images: give test=N or val=N, as in "
            "textures:wood?count=2000&val=500."
        )
    return options


def _cached(family: str, split: str, count: int, size: int, seed: int) -> NDArray[np.uint8]:
    """Images from the cache, or generated and put there; a cache that cannot be used is only slower."""
    file = cache_folder() / "textures" / f"v{VERSION}-{family}-{split}-{count}x{size}px-seed{seed}.npy"
    try:
        images = np.load(file, allow_pickle=False)
        if images.shape == (count, size, size) and images.dtype == np.uint8:
            return images
    except (OSError, ValueError, EOFError):
        pass
    images = _generate(family, split, count, size, seed)
    keep(file, lambda stream: np.save(stream, images, allow_pickle=False))
    return images


def _generate(family: str, split: str, count: int, size: int, seed: int) -> NDArray[np.uint8]:
    chunk = max(1, min(64, (1 << 19) // size**2))
    starts = range(0, count, chunk)
    images = np.empty((count, size, size), np.uint8)

    def draw(start: int) -> None:
        index = torch.arange(start, min(start + chunk, count))
        images[start : start + chunk] = textures(family, index, seed=seed, size=size, split=split).numpy()

    with ThreadPoolExecutor(max(1, min(len(starts), os.cpu_count() or 1))) as pool:
        list(pool.map(draw, starts))
    return images
