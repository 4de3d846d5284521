"""Seeds of the random streams that are not the user's own."""

__all__ = ["mixed_seed"]


def mixed_seed(seed: int, draw: int) -> int:
    """A seed below 2^63 for the ``draw``-th use of a generator, one that nobody types.

    From ``torch.manual_seed(0)`` come people's data and networks: directions or noise of the same stream would lie
    along them.

    Reference:
        Steele, Lea and Flood, OOPSLA 2014, the mixing function of splitmix64.
    """
    mask = (1 << 64) - 1
    x = (seed * 0xD1342543DE82EF95 + (draw + 1) * 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return (x ^ (x >> 31)) >> 1
