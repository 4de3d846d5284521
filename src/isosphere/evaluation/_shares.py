"""Images divided among the ranks of a process group."""


def share(count: int, *, rank: int, world: int, batch_size: int = 256) -> range:
    """Positions of a rank's share of `count` images: consecutive, whole batches but at the very end.

    The shares of ranks 0, 1, ... follow each other and cover everything; batches are given out evenly, so that
    the last ranks get none where there are fewer batches than ranks. Features computed on such shares come
    from the very batches that one process makes.

    Raises: ValueError if `rank` is not one of `world` ranks, or `batch_size` is below 1.
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank: got {rank}, expected 0 to {world - 1}")
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected 1 or more")
    each, more = divmod(-(-count // batch_size), world)
    first = rank * each + min(rank, more)
    last = first + each + (rank < more)
    return range(min(first * batch_size, count), min(last * batch_size, count))
