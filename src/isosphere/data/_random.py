"""Random numbers as a pure function of what they are for: ``(seed, epoch, image, stream)``.

A number drawn for one image does not depend on which other images share its batch, on the number of workers
or ranks, or on what was drawn before; a run that resumes in the middle of an epoch needs no generator state.
The generator is Philox4x32-10, written in int64 tensor arithmetic so that CPU and GPU give the same bits.
"""

import math

import torch
from torch import Tensor

from isosphere.devices import constant

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

# Streams from here upwards belong to this module; callers use the ones below.
_PERMUTATION_STREAM = 0xFFFFFF00

Word = int | Tensor


def _multiply(a: int, b: Word) -> tuple[Word, Word]:
    """High and low 32 bits of a product of 32-bit words; int64 overflow wraps, so both halves stay right."""
    product = b * a
    return (product >> 32) & _MASK, product & _MASK


def philox(counter: tuple[Word, Word, Word, Word], key: tuple[int, int]) -> tuple[Word, Word, Word, Word]:
    """Encrypt a counter of four 32-bit words under a key of two: Philox4x32 with ten rounds.

    Each word is an int or an int64 tensor holding values in [0, 2^32); words broadcast against each other.

    Reference: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.
    """
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(_MULTIPLIERS[0], x0)
        high1, low1 = _multiply(_MULTIPLIERS[1], x2)
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return x0, x1, x2, x3


def _check(name: str, value: int, bits: int) -> None:
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{name} is {value}; expected an integer in [0, 2^{bits}).")


Stream = int | range


def random_words(seed: int, epoch: int, index: Tensor, stream: Stream, count: int) -> Tensor:
    """Draw ``count`` independent uniform 32-bit words for each image.

    Counter words are (index, epoch, block, stream) and the key is the 64-bit seed. Block b gives columns 4b
    to 4b + 3, so the first columns do not depend on ``count``. Streams from 0xFFFFFF00 upwards are reserved.

    Shape: index (n,) integers in [0, 2^32), result (n, count) int64 in [0, 2^32), on the device of ``index``; of a
    range of streams (streams, n, count).
    Raises: ValueError if seed is outside [0, 2^64), epoch or stream outside [0, 2^32), or count is negative.
    """
    _check("seed", seed, 64)
    _check("epoch", epoch, 32)
    for end in (
        (stream, stream) if isinstance(stream, int) else (stream.start, max(stream.start, stream.stop - 1))
    ):
        _check("stream", end, 32)
    _check("count", count, 32)
    if index.ndim != 1 or index.is_floating_point():
        raise ValueError(
            f"index has shape {tuple(index.shape)} and dtype {index.dtype}; expected (n,) integers."
        )
    block = torch.arange((count + 3) // 4, device=index.device)
    several = isinstance(stream, range)
    streams = constant(tuple(stream), index.device, torch.int64)[:, None, None] if several else stream
    counter = (index.to(torch.int64)[:, None] & _MASK, epoch, block[None, :], streams)
    words = philox(counter, (seed & _MASK, seed >> 32))
    return torch.stack([torch.as_tensor(w) for w in words], dim=-1).flatten(-2)[..., :count]


def uniform(seed: int, epoch: int, index: Tensor, stream: Stream, count: int) -> Tensor:
    """Draw ``count`` uniform numbers in [0, 1) for each image.

    Shape: index (n,) integers, result (n, count) float32 on the device of ``index``; of a range of streams (streams, n,
    count).
    Numerics: multiples of 2^-24, the same bits on every device.
    Raises: as :func:`random_words`.
    """
    return (random_words(seed, epoch, index, stream, count) >> 8).to(torch.float32) * 2.0**-24


def normal(seed: int, epoch: int, index: Tensor, stream: int, count: int) -> Tensor:
    """Draw ``count`` standard normal numbers for each image (Box and Muller, from pairs of uniform numbers).

    Shape: index (n,) integers, result (n, count) float32 on the device of ``index``.
    Numerics: |value| < 5.9; computed in float64 and rounded, so that neither the place in the batch nor the
    device shows (on MPS, which lacks float64, they show in the last bits).
    Raises: as :func:`random_words`.
    """
    pairs = (count + 1) // 2
    u = uniform(seed, epoch, index, stream, 2 * pairs)
    if u.device.type != "mps":  # which has no float64
        u = u.double()
    radius = (-2.0 * torch.log1p(-u[:, 0::2])).sqrt()
    angle = 2.0 * math.pi * u[:, 1::2]
    z = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
    return z.flatten(1)[:, :count].to(torch.float32)


def permutation(n: int, seed: int, epoch: int) -> Tensor:
    """Order the integers 0 to n - 1 at random, as a pure function of (n, seed, epoch).

    Each integer gets an independent 63-bit key and the keys are sorted.

    Shape: result (n,) int64 on the CPU.
    Raises: as :func:`random_words`.
    """
    words = random_words(seed, epoch, torch.arange(n), _PERMUTATION_STREAM, 2)
    return torch.argsort(((words[:, 0] >> 1) << 32) | words[:, 1], stable=True)
