"""Freed memory is kept for what is allocated next."""

import ctypes
import os
import platform

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep what is freed instead of giving it back to the system, unless ``MALLOC_*`` says otherwise.

    The outputs of a network's layers are of many megabytes, and glibc maps each anew: the system then clears every page
    of it, which takes longer than some convolutions. At its peak a process takes about a fifth more memory.
    """
    if platform.libc_ver()[0] == "glibc" and not any(name.startswith("MALLOC_") for name in os.environ):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _NEVER)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)
