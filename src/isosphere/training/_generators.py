"""The random generators of the process, which a training seeds: put back afterwards, drawn from by one at a time."""

import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from isosphere.devices import accelerators, generator_states, set_generator_states
from isosphere.errors import RunError

_CPU = torch.device("cpu")

drawing = threading.RLock()
"""Held by what seeds or advances the global generators: a step of a training, a network as it is built. A run that is
opened in another thread so changes no bit of a training.
"""

_training = threading.RLock()


@contextmanager
def only_training() -> Iterator[None]:
    """Within the block no other thread of this process trains. Raises: RunError if one does already."""
    if not _training.acquire(blocking=False):
        raise RunError(
            "another thread of this process is training, and both would draw from the process's random numbers: wait "
            "for its end, or train in a process of its own."
        )
    try:
        yield
    finally:
        _training.release()


@contextmanager
def all_generators_kept() -> Iterator[None]:
    """Put the global generators of torch, numpy and Python back afterwards: a training seeds its own."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)


def random_state() -> dict[str, Any]:
    """States of the global generators of torch (CPU and every accelerator), numpy and Python."""
    places = accelerators()
    states = generator_states(*places)
    kind, keys, place, has_gauss, gauss = np.random.get_state()  # noqa: NPY002  (the global one is what is saved)
    version, words, following = random.getstate()
    return {
        "torch": states[_CPU],
        **({places[0].type: [states[place] for place in places]} if places else {}),
        "numpy": [
            str(kind),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(place),
            int(has_gauss),
            float(gauss),
        ],
        "python": [version, list(words), following],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put the global generators back into the states of `random_state`."""
    places = accelerators()
    theirs = state.get(places[0].type, []) if places else []
    set_generator_states({_CPU: state["torch"], **dict(zip(places, theirs, strict=False))})
    kind, keys, place, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), place, has_gauss, gauss))  # noqa: NPY002
    version, words, following = state["python"]
    random.setstate((version, tuple(words), following))
