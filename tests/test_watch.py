"""Noticing changes in the folder of the styles: when to look, and that nothing is missed."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from styled import BASE, drop
from watchdog.observers.polling import PollingObserver

from jazzd.styles import watch
from jazzd.styles.registry import Registry
from jazzd.styles.watch import AGAIN_S, PATIENCE_S, QUIET_S, Debounce, Watch, is_remote

PATIENCE = 5.0
"""Seconds, for a machine with better things to do; the end state is promised within one."""


def test_the_look_comes_when_it_is_quiet() -> None:
    debounce = Debounce()
    assert debounce.wait(0.0) == float("inf")
    debounce.sign(10.0)
    debounce.sign(10.2)
    assert debounce.wait(10.4) == pytest.approx(QUIET_S - 0.2)
    assert debounce.wait(10.2 + QUIET_S) == pytest.approx(0, abs=1e-9)
    debounce.looked()
    assert debounce.wait(11.0) == float("inf")
    debounce.again(11.0)
    assert debounce.wait(11.0) == pytest.approx(AGAIN_S)


@given(st.lists(st.floats(0, 0.29), min_size=1))
def test_it_comes_though_signs_do_not_end(gaps: list[float]) -> None:
    debounce, now = Debounce(), 100.0
    for gap in gaps:
        debounce.sign(now)
        assert now + debounce.wait(now) <= 100.0 + max(PATIENCE_S, now - 100.0) + 1e-6
        now += gap


def test_second_looks_do_not_put_off_the_first() -> None:
    debounce = Debounce()
    debounce.again(10.0)
    debounce.sign(10.1)
    assert debounce.wait(10.1) == pytest.approx(QUIET_S)


@pytest.mark.parametrize(
    ("folder", "remote"),
    [
        ("/home/me/styles", False),
        ("/mnt/nas/styles", True),
        ("/mnt/nas 2/local/styles", False),
        ("/mnt/nas 2", True),
    ],
)
def test_network_drives_are_known_by_their_mounts(folder: str, remote: bool, tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda1 / ext4 rw 0 0\nnas:/music /mnt/nas nfs4 rw 0 0\n"
        "//nas/x /mnt/nas\\0402 cifs rw 0 0\n/dev/sdb1 /mnt/nas\\0402/local fuseblk rw 0 0\n"
    )
    assert is_remote(Path(folder), mounts) is remote
    assert not is_remote(Path(folder), tmp_path / "nowhere")


class Following:
    """A registry that is kept up to date by a watch."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(folder, BASE)
        self.looks = 0
        self._news = threading.Condition()

    def look(self) -> bool:
        self.registry.rescan()
        with self._news:
            self.looks += 1
            self._news.notify()
        return self.registry.unsettled

    def has(self, *expected: str) -> bool:
        """Whether the records become these: `name status`."""
        with self._news:
            return self._news.wait_for(
                lambda: expected == tuple(f"{r.name} {r.status}" for r in self.registry.records), PATIENCE
            )


def test_every_kind_of_change_is_noticed(tmp_path: Path) -> None:
    folder, other = tmp_path / "deep" / "styles", tmp_path / "other"
    following = Following(folder)
    with Watch(folder, following.look):
        folder.mkdir(parents=True)
        drop(folder / "a.safetensors")
        assert following.has("a ready")
        data = (folder / "a.safetensors").read_bytes()
        (folder / "b.safetensors").write_bytes(data[:-1])
        assert following.has("a ready", "b rejected")
        os.replace(folder / "a.safetensors", folder / "b.safetensors")
        assert following.has("b ready")
        shutil.rmtree(folder)
        assert following.has()
        other.mkdir()
        drop(other / "c.safetensors")
        other.rename(folder)
        assert following.has("c ready")
        drop(folder / "d.safetensors")
        assert following.has("c ready", "d ready")
        shutil.rmtree(folder)
        folder.mkdir()  # often with the same inode
        assert following.has()
        drop(folder / "e.safetensors")
        assert following.has("e ready")


def test_the_first_look_is_at_once_and_the_next_only_after_a_change(tmp_path: Path) -> None:
    drop(tmp_path / "a.safetensors")
    following, began = Following(tmp_path), time.monotonic()
    with Watch(tmp_path, following.look) as watching:
        assert following.has("a ready")
        assert time.monotonic() - began < QUIET_S
        drop(tmp_path / "b.safetensors")
        assert following.has("a ready", "b ready")
        time.sleep(2 * QUIET_S)
        looks = following.looks
        time.sleep(2 * QUIET_S)
        assert following.looks == looks, "looking is no change"
        watching.touch()
    assert looks <= 4


def no_inotify() -> None:
    raise OSError(24, "inotify instance limit reached")


@pytest.mark.parametrize("why", ["a network drive", "no watches left"])
def test_where_the_system_does_not_tell_it_is_looked_again_and_again(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    polling: list[PollingObserver] = []

    class Polling(PollingObserver):
        def start(self) -> None:
            polling.append(self)
            super().start()

    class Broken(PollingObserver):
        start: Callable[..., None] = staticmethod(no_inotify)  # type: ignore[assignment]

    monkeypatch.setattr(watch, "PollingObserver", Polling)
    if why == "a network drive":
        monkeypatch.setattr(watch, "is_remote", lambda folder: True)
    else:
        monkeypatch.setattr(watch, "Observer", Broken)
    following = Following(tmp_path)
    drop(tmp_path / "a.safetensors")
    with Watch(tmp_path, following.look):
        assert following.has("a ready")
        drop(tmp_path / "b.safetensors")
        assert following.has("a ready", "b ready")
    assert len(polling) == 1
    assert not polling[0].is_alive()
