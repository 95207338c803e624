"""A disk that is full, for real: no file can grow beyond a size."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def full(size: int) -> Iterator[None]:
    """Writing more than so many bytes to a file fails with `File too large`."""
    import resource  # not on Windows

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
