"""How the C library handles the memory of tensors."""

import ctypes
import sys

# In glibc's malloc.h: the size from which blocks are the system's own, and how much freed memory is kept.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Have the C library keep the memory of freed tensors for the next ones.

    By itself glibc gives large blocks back to the system and fetches them anew, page by page, which takes a
    tenth of the time of updates and of scores on a CPU (`benchmarks/allocator.py`). Where there is no glibc,
    nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        largest = 2**31 - 1
        if not mallopt(_M_MMAP_THRESHOLD, largest):  # an older glibc takes 32 MiB at most
            mallopt(_M_MMAP_THRESHOLD, 2**25)
        mallopt(_M_TRIM_THRESHOLD, largest)
