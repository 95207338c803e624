"""Two hosts with a bad line between them: network namespaces, and a relay of every packet in this process.

The kernel's own way (tc netem) is missing from small kernels; TUN devices are not.
"""

import contextlib
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HOSTS = ("10.77.0.1", "10.77.0.2")
_TUNSETIFF, _TUN, _NO_PACKET_INFO = 0x400454CA, 0x0001, 0x1000


@dataclass(frozen=True)
class Host:
    """`within` stands before a command that is to run there."""

    address: str
    within: tuple[str, ...]


@contextlib.contextmanager
def bad_line(delay_s: float, loss: float, seed: int = 0) -> Iterator[tuple[Host, Host]]:
    """Two hosts; every packet between them takes so long, and so many of them (0..1) never arrive.

    Skips the test where this takes rights that we do not have.
    """
    if os.geteuid() or not Path("/dev/net/tun").exists():
        pytest.skip("network namespaces and /dev/net/tun take root")
    names = [f"jazzd-{os.getpid()}-{side}" for side in "ab"]
    with contextlib.ExitStack() as stack:
        ends = []
        for side, name in enumerate(names):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "delete", name)
            ends.append(_device(f"jazzd{os.getpid() % 10_000}{side}", name, HOSTS[side], HOSTS[1 - side]))
            stack.callback(os.close, ends[-1])
        ended = threading.Event()
        relay = threading.Thread(target=_relay, args=(ends, delay_s, loss, random.Random(seed), ended))
        relay.start()
        stack.callback(relay.join)
        stack.callback(ended.set)
        yield (
            Host(HOSTS[0], ("ip", "netns", "exec", names[0])),
            Host(HOSTS[1], ("ip", "netns", "exec", names[1])),
        )


def _device(device: str, namespace: str, address: str, peer: str) -> int:
    """Our end of a network device in the namespace: its packets are read and written there."""
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", device.encode(), _TUN | _NO_PACKET_INFO))
    _ip("link", "set", device, "netns", namespace)
    _ip("-n", namespace, "address", "add", address, "peer", peer, "dev", device)
    for each in ("lo", device):
        _ip("-n", namespace, "link", "set", each, "up")
    return end


def _relay(ends: list[int], delay_s: float, loss: float, dice: random.Random, ended: threading.Event) -> None:
    under_way: list[tuple[float, int, int, bytes]] = []
    count = 0
    while not ended.is_set():
        wait_s = under_way[0][0] - time.monotonic() if under_way else 0.1
        for end in select.select(ends, [], [], max(0.0, min(wait_s, 0.1)))[0]:
            packet = os.read(end, 65536)
            if dice.random() >= loss:
                count += 1
                other = ends[1 - ends.index(end)]
                heapq.heappush(under_way, (time.monotonic() + delay_s, count, other, packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, end, packet = heapq.heappop(under_way)
            os.write(end, packet)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
