import os
import stat
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from jazzd import config
from jazzd.config import load, read_token, remember_controls, socket_path
from jazzd.errors import ConfigError, JazzdError
from jazzd.settings import Settings

SHIPPED = Path(__file__).parent.parent / "daemon.toml"


@pytest.fixture(autouse=True)
def _empty_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.toml"
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    settings = load()
    assert settings.midi.input == "loopMIDI Port 1"
    assert (settings.solo.low, settings.solo.high) == (48, 96)
    assert settings.styles.folder == tmp_path / "styles"


def test_the_shipped_file_lists_every_key_with_its_default() -> None:
    shipped = tomllib.loads(SHIPPED.read_text())
    assert shipped == Settings().model_dump(mode="json", exclude={"scene"})  # which has no default
    assert load(SHIPPED).styles.folder == SHIPPED.parent / "styles"


def test_the_working_folder_comes_before_the_users(tmp_path: Path, private_user: Path) -> None:
    (private_user / "config" / "jazzd").mkdir()
    (private_user / "config" / "jazzd" / "daemon.toml").write_text("[solo]\nlow = 50\n")
    assert load().solo.low == 50
    (tmp_path / "daemon.toml").write_text("[solo]\nlow = 51\n")
    assert load().solo.low == 51


def test_command_line_beats_variable_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "[solo]\ntemperature = 0.5\nlow = 40\n")
    monkeypatch.setenv("JAZZD_SOLO__TEMPERATURE", "0.6")
    assert load(path).solo.temperature == 0.6
    assert load(path).solo.low == 40
    assert load(path, {"solo": {"temperature": 0.7}}).solo.temperature == 0.7


def test_a_scene_and_the_rest_of_the_file_leave_room_for_every_pitch_class(tmp_path: Path) -> None:
    scene = '[[scene]]\nname = "lead"\nlow = 90\n'
    with pytest.raises(
        ConfigError, match=r"the scene lead plays from 90 to 96 where .* at least 11 semitones"
    ):
        load(written(tmp_path, scene))
    assert load(written(tmp_path, "[solo]\nhigh = 101\n" + scene)).scene[0].low == 90


def test_the_styles_folder_is_relative_to_who_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set").mkdir()
    path = written(tmp_path / "set", '[styles]\nfolder = "mine"\n')
    assert load(path).styles.folder == tmp_path / "set" / "mine"
    monkeypatch.setenv("JAZZD_STYLES__FOLDER", "theirs")
    assert load(path).styles.folder == tmp_path / "theirs"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[midi]\ninptu = 'x'", "midi.inptu: there is no such key; allowed are backend, input"),
        ("[mid]\n", "mid: there is no such key; allowed are midi, engine"),
        ("midi = 3", "midi: 3 is not allowed: it must be a section"),
        ("[solo]\nlow = 'c'", "solo.low: 'c' is not allowed: it must be a whole number"),
        ("[solo]\nlow = 50.5", "solo.low: 50.5 is not allowed: it must be a whole number"),
        ("[solo]\nmode = 'x'", "solo.mode: 'x' is not allowed: it must be 'follow' or 'trade'"),
        ("[midi]\ninput = 3", "midi.input: 3 is not allowed: it must be a text in quotes"),
        ("[midi]\ninput = ''", "midi.input: '' is not allowed: it must have at least 1 character"),
        ("[styles]\nfolder = 3", "styles.folder: 3 is not allowed: it must be a path in quotes"),
        ("[solo]\ntemperature = 5", "solo.temperature: 5 is not allowed"),
        ("[solo]\nchannel = true", "solo.channel: True is not allowed: true and false are no numbers"),
        ("[solo]\ntemperature = nan", "solo.temperature: nan is not allowed: it must be a number"),
        ("[solo]\nlow = 60\nhigh = 64", "solo: high must be at least 11 semitones above low"),
        ("[control]\nstyle = 64", "control.style: 64 is not allowed: MIDI keeps CC 64"),
        ("[control]\nstyle = 21", "control: style and temperature both have CC 21"),
        ("[midi]\nbackend = 'tcp'", 'midi: backend "tcp" needs midi.tcp_listen'),
        (
            "[midi]\ntcp_listen = '9080'",
            "midi.tcp_listen: '9080' is not allowed: it is written \"HOST:PORT\"",
        ),
        *(
            (f"[midi]\ntcp_listen = '{place}:9080'", "midi.tcp_listen: ")
            for place in ("0.0.0.0", "[::]", "192.168.1.2", "example.org")
        ),
        *(
            (f"[engine]\naddress = '{address}'", "engine.address: ")
            for address in (
                "http://x:1",
                "tcp://",
                "tcp://x",
                "tcp://:9",
                "tcp://x:99999",
                "tcp:x:9",
                "unix:",
            )
        ),
        ("[solo\n", "is not a TOML file"),
    ],
)
def test_a_wrong_file_is_one_sentence_with_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAZZD_TEMPO__BPM", "fast")
    with pytest.raises(ConfigError, match=r"JAZZD_TEMPO__BPM: tempo\.bpm: 'fast' is not allowed"):
        load()


def test_a_variable_of_no_section_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAZZD_MIDIS__INPUT", "Keystation")
    with pytest.raises(ConfigError, match=r"JAZZD_MIDIS__INPUT: there is no section midis; there are midi,"):
        load()


def test_a_variable_that_is_no_section_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAZZD_TEMPO", "fast")
    with pytest.raises(ConfigError, match="JAZZD_SECTION__KEY"):
        load()


@pytest.mark.parametrize("text", [b"\xff\xfe", None])
def test_an_unreadable_file_is_refused(tmp_path: Path, text: bytes | None) -> None:
    path = tmp_path / "some.toml"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(ConfigError, match=r"some\.toml"):
        load(path)


@pytest.mark.parametrize("bracket", ["[", "{a="])
def test_a_file_without_end_in_depth_is_refused(tmp_path: Path, bracket: str) -> None:
    file = written(tmp_path, f"a={100_000 * bracket}")
    with pytest.raises(ConfigError, match=r"some\.toml"):
        load(file)
    with pytest.raises(ConfigError, match=r"some\.toml"):
        remember_controls(file, {"style": 90})


def test_a_folder_in_place_of_a_file_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it is a folder"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (Path.mkdir, "it is a folder"),
        (os.mkfifo, "it is no file"),
        (lambda path: path.symlink_to("nowhere"), "a link that leads to none"),
    ],
)
def test_what_has_the_file_s_name_and_is_none_is_told(
    tmp_path: Path, made: Callable[[Path], None], said: str
) -> None:
    """It is somebody's mistake, and not the same as no file."""
    made(tmp_path / "daemon.toml")
    with pytest.raises(ConfigError, match=said):
        load()


def test_a_file_that_is_a_link_stays_one(tmp_path: Path) -> None:
    """Many keep all their settings in one repository."""
    link, file = tmp_path / "daemon.toml", written(tmp_path, "")
    link.symlink_to(file)
    assert remember_controls(link, {"style": 90}) == link
    assert link.is_symlink()
    assert "style = 90" in file.read_text()


def test_the_runtime_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = socket_path()
    assert path == tmp_path / "jazzd" / "control.sock"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.parent.chmod(0o755)
    with pytest.raises(JazzdError, match="private"):
        socket_path()


def test_who_does_not_know_the_session_s_folder_looks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As cron and su do: else they would take the user's daemon for none, and start a second one."""
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    there = list[Path]()
    monkeypatch.setattr(os, "access", lambda path, mode: there.append(path) or True)
    assert config._runtime_folder() == Path(f"/run/user/{os.getuid()}/jazzd")
    assert there == [Path(f"/run/user/{os.getuid()}")]
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert config._runtime_folder() == Path(tempfile.gettempdir()) / f"jazzd-{os.getuid()}"


def test_a_runtime_folder_that_cannot_be_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", sys.executable)
    with pytest.raises(JazzdError, match="set JAZZD_SOCKET"):
        socket_path()


def test_the_socket_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAZZD_SOCKET", "here.sock")
    assert socket_path() == tmp_path / "here.sock"


def test_learnt_controls_are_written_between_the_comments(tmp_path: Path) -> None:
    file = tmp_path / "daemon.toml"
    file.write_text("# mine\n[solo]\nlow = 50  # not lower\n\n[control]\n# the big knob\nstyle = 20 # left\n")
    numbers = load(file).control.model_dump() | {"style": 74, "mode": 75}
    assert remember_controls(file, numbers) == file
    text = file.read_text()
    assert all(comment in text for comment in ("# mine", "# not lower", "# the big knob", "# left"))
    assert text.splitlines()[6] == "style = 74 # left"
    assert "temperature" not in text, "what is as it was by default is left out"
    again = load(file)
    assert (again.control.style, again.control.mode, again.solo.low) == (74, 75, 50)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    file = tmp_path / "daemon.toml"
    file.touch()
    (tmp_path / "blocked").touch()
    with pytest.raises(ConfigError, match=r"put into its \[control\]: swing = 33"):
        remember_controls(tmp_path / "blocked" / "daemon.toml", {"swing": 33})


@pytest.mark.parametrize("key", ["engine.token_file", "solo.chart", "styles.folder", "midi.input"])
def test_no_name_has_a_nul_in_it(tmp_path: Path, key: str) -> None:
    section, name = key.split(".")
    file = tmp_path / "daemon.toml"
    file.write_text(f'[{section}]\n{name} = "a\\u0000b"\n')
    with pytest.raises(ConfigError, match="NUL") as caught:
        load(file)
    assert key in str(caught.value)


def test_learnt_controls_without_a_file_go_to_the_users_own() -> None:
    file = remember_controls(None, {"style": 74})
    assert load().control.style == 74
    assert file.read_text() == "[control]\nstyle = 74\n"


def test_a_token_is_its_users_secret(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(file)
    file.write_text("open sesame, twice\n")
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_token(file)
    file.chmod(0o600)
    assert read_token(file) == "open sesame, twice"
    file.write_text("short")
    with pytest.raises(ConfigError, match="16 to 1024"):
        read_token(file)
