"""What ends an engine with its player, whatever the engine is doing: importing, loading, decoding.

Needs nothing of JAX, so that it holds before that is imported.
"""

import os
import select
import threading


def tie(listen: str) -> None:
    """End this process as soon as its player is gone, if `listen` is `fd:N`: a socket inherited from it.

    There is nothing that an engine would have to put in order first.
    """
    kind, _, number = listen.partition(":")
    if kind == "fd" and number.isdecimal():
        threading.Thread(target=_wait, args=(int(number),), name="leash", daemon=True).start()


def _wait(number: int) -> None:
    ends = select.poll()
    ends.register(number, 0)  # nothing but the end, which is told unasked
    if any(event & select.POLLHUP for _, event in ends.poll()):
        os._exit(0)
