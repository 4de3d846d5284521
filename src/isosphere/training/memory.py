"""Memory of a CPU's training: what one step frees, the next takes again."""

__all__ = ["keep_freed_memory"]

import ctypes
import os
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Parameters of glibc's ``mallopt``, by their numbers in ``malloc.h``."""
_PAD = 2**26
_SETTINGS_OF_ONES_OWN = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, and take large blocks in large pages; True if it will.

    A step allocates and frees the same large tensors again and again. By default glibc gives each of them back to
    Linux, which hands the next one out page by page, each cleared first: a step of ``small-conv`` took an eighth
    longer for it on two threads, nearly half as long again on one. The process then never shrinks; it grows to the
    peak it would have had anyway, and a little beyond. For a process of one's own, at its start; other systems, GPUs
    and results are not affected.

    Nothing is changed where the environment has settings of the allocator (``MALLOC_*``, ``GLIBC_TUNABLES``) or
    brings another (``LD_PRELOAD``), or where there is no glibc.
    """
    if (
        any(name.startswith(_SETTINGS_OF_ONES_OWN) for name in os.environ)
        or platform.libc_ver()[0] != "glibc"
    ):
        return False
    # torch asks for large pages if told so before its first tensor.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    largest = 2**31 - 1
    libc = ctypes.CDLL(None)
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, largest), (_TOP_PAD, _PAD))
    return all(libc.mallopt(parameter, value) == 1 for parameter, value in settings)
