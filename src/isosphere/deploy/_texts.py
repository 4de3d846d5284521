"""Texts in arrays of numbers: numpy's own give each as much room as the longest takes."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def pack_texts(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All texts in UTF-8, one after another, and where each ends."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def unpack_texts(packed: NDArray[np.uint8], ends: NDArray[np.int64]) -> list[str]:
    """What `pack_texts` packed. Raises: ValueError for bytes that are no UTF-8."""
    whole = packed.tobytes()
    pairs = itertools.pairwise([0, *ends.tolist()])
    return [whole[start:end].decode("utf-8", "surrogatepass") for start, end in pairs]
