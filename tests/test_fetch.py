"""Downloads from a hub in this process: cut off, resumed, damaged, away."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import published
import pytest
import tiny
from huggingface_hub import constants, file_download

from jazzd.errors import ModelError
from jazzd.moonbeam import fetch, weights
from jazzd.moonbeam.config import Config

PATH = f"/{fetch.REPOSITORY}/resolve/main/moonbeam_309M.pt"
CDN = "/somewhere/else"


@dataclass
class Hub:
    """Serves one file as the hub does: its facts at one address, its bytes at another."""

    content: bytes
    announced: str = ""
    """The hash that it says; if not given, the right one."""
    breaks: list[int] = field(default_factory=list)
    """After how many bytes the next answers end too early."""
    away: bool = False
    """Does not find the file."""
    asked: list[str] = field(default_factory=list)
    """The ranges of the bytes asked for."""
    tokens: list[str] = field(default_factory=list)

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer()

            def do_GET(self) -> None:
                self.answer()

            def answer(self) -> None:
                hub.tokens += self.headers.get_all("Authorization", [])
                if hub.away or self.path not in (PATH, CDN):
                    self.send_error(404)
                elif self.path == PATH and self.command == "HEAD":
                    self.send_response(200)
                    self.send_header("X-Repo-Commit", "0" * 40)
                    self.send_header("X-Linked-Size", str(len(hub.content)))
                    announced = hub.announced or hashlib.sha256(hub.content).hexdigest()
                    self.send_header("X-Linked-Etag", f'"{announced}"')
                    self.end_headers()
                elif self.path == PATH:
                    self.send_response(302)
                    self.send_header("Location", CDN)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self.send_bytes()

            def send_bytes(self) -> None:
                asked = self.headers.get("Range", "")
                hub.asked.append(asked)
                begin = int(asked.removeprefix("bytes=").rstrip("-") or 0)
                self.send_response(206 if asked else 200)
                self.send_header("Content-Length", str(len(hub.content) - begin))
                if asked:
                    last = len(hub.content) - 1
                    self.send_header("Content-Range", f"bytes {begin}-{last}/{last + 1}")
                self.end_headers()
                end = begin + hub.breaks.pop(0) if hub.breaks else len(hub.content)
                self.wfile.write(hub.content[begin:end])

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is published is tiny today."""
    monkeypatch.setattr(Config, "small", lambda: tiny.CONFIG)
    return published.write(tmp_path / "published.pt", published.tensors(tiny.CONFIG))


@pytest.fixture
def hub(checkpoint: Path, private_user: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub(checkpoint.read_bytes())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), hub.handler())
    point_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what is less is lost when the line breaks
    monkeypatch.setenv("XDG_CACHE_HOME", str(private_user / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(private_user / "data"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()


def point_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_ENDPOINT would, which the hub's package reads once."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )


def downloads(private_user: Path) -> list[Path]:
    return list((private_user / "cache" / "jazzd" / "downloads").iterdir())


def test_a_checkpoint_becomes_a_base(
    hub: Hub, checkpoint: Path, private_user: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    target = fetch.folder("moonbeam-309m")
    assert target == private_user / "data" / "jazzd" / "bases" / "moonbeam-309m"
    fingerprint = fetch.fetch("moonbeam-309m", target)
    assert fingerprint == weights.convert(checkpoint, tmp_path / "converted")
    config, named = weights.identify(target)
    assert (config.numerics, named) == ("rounded", fingerprint)
    assert weights.describe(target)["intact"]
    assert (hub.asked, hub.tokens, downloads(private_user)) == ([""], [], [])


def test_a_bad_line_is_waited_for(hub: Hub, tmp_path: Path) -> None:
    hub.breaks = [1000, 0, 5000]
    fetch.fetch("moonbeam-309m", tmp_path / "base")
    assert hub.asked == ["", "bytes=1000-", "bytes=1000-", "bytes=6000-"]


def test_what_was_cut_off_is_gone_on_with(hub: Hub, private_user: Path, tmp_path: Path) -> None:
    hub.breaks = [70_000, *[0] * 5]
    with pytest.raises(ModelError, match=r"moonbeam_309M\.pt cannot be fetched .*try again"):
        fetch.fetch("moonbeam-309m", tmp_path / "base")
    assert not (tmp_path / "base").exists()
    (partial,) = downloads(private_user)
    assert partial.read_bytes() == hub.content[:70_000]
    hub.asked.clear()
    fetch.fetch("moonbeam-309m", tmp_path / "base")
    assert (hub.asked, downloads(private_user)) == (["bytes=70000-"], [])


def test_what_is_whole_is_not_fetched_again(
    hub: Hub, private_user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a conversion that failed for a reason of its own."""

    def refuse(*_: object) -> str:
        raise ModelError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(weights, "convert", refuse)
        with pytest.raises(ModelError, match="no room"):
            fetch.fetch("moonbeam-309m", tmp_path / "base")
    assert len(downloads(private_user)) == 1
    fetch.fetch("moonbeam-309m", tmp_path / "base")
    assert (hub.asked, downloads(private_user)) == ([""], [])


def test_a_file_with_another_hash_is_refused(hub: Hub, private_user: Path, tmp_path: Path) -> None:
    hub.announced = "0" * 64
    with pytest.raises(ModelError, match=r"moonbeam_309M\.pt came damaged"):
        fetch.fetch("moonbeam-309m", tmp_path / "base")
    assert not (tmp_path / "base").exists()
    assert downloads(private_user) == []


def test_the_command_asks_the_endpoint_of_the_environment(hub: Hub, tmp_path: Path) -> None:
    hub.announced = "0" * 64
    command = [sys.executable, "-m", "jazzd", "base", "fetch", "moonbeam-309m", str(tmp_path / "base")]
    environment = os.environ | {"HF_ENDPOINT": constants.ENDPOINT, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"jazzd: {constants.ENDPOINT}{PATH} came damaged")
    assert done.stderr.count("\n") == 1
    assert hub.asked == [""]


def test_a_file_without_a_hash_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.announced = "a-git-hash"
    with pytest.raises(ModelError, match="does not tell its size and hash"):
        fetch.fetch("moonbeam-309m", tmp_path / "base")
    assert hub.asked == []


def test_a_base_that_is_there_is_not_fetched(hub: Hub, tmp_path: Path) -> None:
    weights.save(tmp_path / "base", tiny.CONFIG, published.tensors(tiny.CONFIG))
    with pytest.raises(ModelError, match="already"):
        fetch.fetch("moonbeam-309m", tmp_path / "base")
    assert hub.asked == []


def test_a_hub_without_the_file_or_without_a_hub_is_one_sentence(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.away = True
    with pytest.raises(ModelError, match="HTTP status 404") as error:
        fetch.fetch("moonbeam-309m", tmp_path / "base")
    assert "\n" not in str(error.value)
    for endpoint in ("http://127.0.0.1:9", "http://nowhere.invalid"):
        point_at(endpoint, monkeypatch)
        with pytest.raises(ModelError, match=rf"{endpoint}.* cannot be fetched") as error:
            fetch.fetch("moonbeam-309m", tmp_path / "base")
        assert "\n" not in str(error.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError) as error:
        fetch.fetch("moonbeam-309m", tmp_path / "base")
    assert "\n" not in str(error.value)


def test_no_room_for_the_download_is_one_sentence(hub: Hub, private_user: Path, tmp_path: Path) -> None:
    (private_user / "cache").write_text("a file where a folder should be")
    with pytest.raises(ModelError, match="could not be stored"):
        fetch.fetch("moonbeam-309m", tmp_path / "base")
