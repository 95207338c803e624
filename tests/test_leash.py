"""An engine that is tied to its player ends with it, at whatever it is."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

TIED = """
import sys, time
from jazzd.engine import leash
leash.tie(sys.argv[1])
print("tied", flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def tied(listen: str, *inherited: int) -> "Iterator[subprocess.Popen[bytes]]":
    command = [sys.executable, "-c", TIED, listen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=inherited) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"tied\n"
        try:
            yield child
        finally:
            child.kill()


def stays(child: "subprocess.Popen[bytes]") -> bool:
    try:
        child.wait(0.3)
    except subprocess.TimeoutExpired:
        return True
    return False


@pytest.mark.parametrize("unread", [b"", b"something that nobody reads\n"])
def test_it_ends_when_the_other_end_is_gone(unread: bytes) -> None:
    ours, theirs = socket.socketpair()
    with tied(f"fd:{theirs.fileno()}", theirs.fileno()) as child:
        theirs.close()
        ours.sendall(unread)
        assert stays(child)
        ours.close()
        assert child.wait(5) == 0


@pytest.mark.parametrize("listen", ["fd:987", "fd:x", "fd:-1", "unix:/tmp/engine.sock", "tcp://127.0.0.1:1"])
def test_what_is_no_inherited_socket_ties_nobody(listen: str) -> None:
    with tied(listen) as child:
        assert stays(child)


def test_an_engine_ends_while_it_still_imports() -> None:
    ours, theirs = socket.socketpair()
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "jazzd",
        "engine",
        "--listen",
        f"fd:{theirs.fileno()}",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, pass_fds=[theirs.fileno()]) as child:
        theirs.close()
        assert child.stderr is not None
        while b" jazzd.engine.leash" not in child.stderr.readline():
            pass
        ours.close()
        said = child.communicate(timeout=20)[1]
    assert child.returncode == 0
    assert b" jazzd.engine.server" not in said
