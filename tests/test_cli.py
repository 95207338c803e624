"""The commands: exit codes, one sentence for what went wrong, one JSON object on stdout."""

import importlib.metadata
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
from reference import GOLDEN

from jazzd.errors import ConfigError, MidiError
from jazzd.moonbeam import weights
from jazzd.music.notes import Note5D
from jazzd.player import control, drivers
from jazzd.player.drivers import PortList
from jazzd.render import write_midi

Run = Callable[..., tuple[int, str, str]]


def test_help_names_every_command(jazzd: Run) -> None:
    code, out, _ = jazzd("--help")
    assert code == 0
    commands = {line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.strip()}
    assert commands >= {"run", "engine", "demo", "solo", "ports", "status", "panic", "finetune", "evaluate"}
    assert commands >= {"base", "bench"}


@pytest.mark.parametrize(
    "words",
    [
        ["sing"],
        ["run", "--loudly"],
        ["demo", "--seconds", "soon"],
        ["demo", "--seconds", "-1"],
        ["engine"],
        ["run", "--dtype", "float8"],
        ["base", "convert", "only-one"],
    ],
)
def test_wrong_usage_is_exit_code_2(jazzd: Run, words: list[str]) -> None:
    code, out, err = jazzd(*words)
    assert (code, out) == (2, "")
    assert "Error: " in err


@pytest.mark.parametrize(
    "words",
    [
        ["solo", "-o", "out.mid"],
        ["solo", "Dm7", "--midi", "chords.mid", "-o", "out.mid"],
        ["solo", "Dm7 H7", "-o", "out.mid"],
        ["solo", "Dm7", "-o", "out.mid", "--style", "bebop:2"],
        ["demo", "--style", "bebop:x"],
        ["evaluate"],
        ["evaluate", "midi", "--rows", "rows.npz", "-o", "out.npz"],
        ["evaluate", "--rows", "rows.npz"],
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_exit_code_2(jazzd: Run, words: list[str]) -> None:
    code, out, err = jazzd(*words)
    assert (code, out) == (2, "")
    assert one_sentence(err)


@pytest.mark.parametrize(
    "words",
    [
        ["solo", "Dm7", "-o", "out.mid", "--base", "nowhere"],
        ["solo", "--midi", "broken.mid", "-o", "out.mid"],
        ["solo", "--midi", "nowhere.mid", "-o", "out.mid"],
        ["evaluate", "nowhere", "--base", "nowhere"],
        ["base", "info", "--base", "nowhere"],
        ["base", "convert", "nowhere.pt", "base"],
        ["base", "convert", "broken.mid", "base"],
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_1(jazzd: Run, words: list[str]) -> None:
    Path("broken.mid").write_bytes(b"MThd and then nothing of the kind")
    code, out, err = jazzd(*words)
    assert (code, out) == (1, "")
    assert one_sentence(err)


def test_a_solo_is_a_file_with_both_tracks_and_the_chords(jazzd: Run, tiny_base: Path) -> None:
    words = ["solo", "Dm7 G7 | Cmaj7", "-o", "one.mid", "--base", str(tiny_base), "--seed", "7", "--json"]
    code, out, _ = jazzd(*words, "--tempo", "240", "--choruses", "2", "--wav", "one.wav")
    assert code == 0
    told = json.loads(out)
    assert (told["seed"], told["midi"], told["wav"]) == (7, "one.mid", "one.wav")
    assert Path("one.wav").stat().st_size > 100_000
    first = mido.MidiFile("one.mid")
    assert [track.name for track in first.tracks[1:]] == ["chords", "solo"]
    marks = [message.text for message in first.tracks[0] if message.type == "marker"]
    assert marks == ["Dm7", "G7", "Cmaj7"] * 2
    assert sum(message.type == "note_on" for message in first.tracks[2]) == told["solo_notes"]

    words[3] = "two.mid"
    assert jazzd(*words, "--tempo", "240", "--choruses", "2", "--no-chords", "--max-notes", "1")[0] == 0
    second = mido.MidiFile("two.mid")
    assert [track.name for track in second.tracks[1:]] == ["solo"]
    ons = [[m for m in each.tracks[-1] if m.type == "note_on"] for each in (first, second)]
    assert ons[1] == ons[0][:1], "the same seed, the same notes"


def test_a_solo_over_a_waltz(jazzd: Run, tiny_base: Path) -> None:
    Path("waltz.json").write_text('{"time_signature": "3/4", "bars": [[{"beat": 1, "chord": "Dm7"}], []]}')
    words = ["waltz.json", "-o", "out.mid", "--tempo", "60", "--choruses", "2", "--base", str(tiny_base)]
    assert jazzd("solo", *words)[0] == 0
    conductor = mido.MidiFile("out.mid").tracks[0]
    assert [message.numerator for message in conductor if message.type == "time_signature"] == [3]
    times = itertools.accumulate(message.time for message in conductor)
    marks = [at for at, message in zip(times, conductor, strict=True) if message.type == "marker"]
    assert [mark / mido.MidiFile("out.mid").ticks_per_beat for mark in marks] == [0, 6]


def test_nothing_is_written_over_what_it_is_made_from(jazzd: Run) -> None:
    code, _, err = jazzd("solo", "Dm7", "-o", "out.mid", "--wav", "./out.mid")
    assert (code, "cannot be both" in err) == (2, True)
    Path("take.mid").write_bytes(b"a take")
    Path("link.mid").symlink_to("take.mid")
    code, _, err = jazzd("replay", "take.mid", "-o", "link.mid")
    assert (code, "the take itself" in err) == (2, True)
    assert Path("take.mid").read_bytes() == b"a take"


def test_a_solo_over_the_chords_of_a_file(jazzd: Run, tiny_base: Path) -> None:
    comping = [Note5D.from_pitch(bar, 0.9, pitch, 64) for bar in (0.0, 1.0) for pitch in (50, 53, 57, 60)]
    write_midi(Path("chords.mid"), [], comping, [])
    words = ["solo", "--midi", "chords.mid", "--choruses", "2", "-o", "out.mid", "--base", str(tiny_base)]
    assert jazzd(*words)[0] == 0
    marks = [message.text for message in mido.MidiFile("out.mid").tracks[0] if message.type == "marker"]
    assert marks == ["Dm7"] * 4


def test_a_negative_value_is_no_option(jazzd: Run) -> None:
    code, out, err = jazzd("set", "density", "-0.5")
    assert (code, out) == (1, "")
    assert "no jazzd daemon is running" in err
    assert jazzd("set", "density", "-1.5")[0] == 2


def test_base_info_tells_the_sizes(jazzd: Run, tiny_base: Path) -> None:
    code, out, _ = jazzd("base", "info", "--base", str(tiny_base), "--json")
    told = json.loads(out)
    assert (code, told["config"]["hidden"]) == (0, 144)
    assert 400_000 < told["parameters"] < 600_000


def test_base_info_says_when_weights_were_changed(jazzd: Run, tiny_base: Path) -> None:
    shutil.copytree(tiny_base, "changed")
    with Path("changed/model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    code, out, err = jazzd("base", "info", "--base", "changed", "--json")
    assert (code, json.loads(out)["intact"]) == (0, False)
    assert one_sentence(err)
    assert "were changed" in err


def test_a_checkpoint_is_converted_and_told_of(jazzd: Run) -> None:
    source, sizes = str(GOLDEN / "tiny_moonbeam.pt"), str(GOLDEN / "tiny_config.json")
    words = ["base", "convert", source, "mine", "--config", sizes]
    assert jazzd(*words) == (0, "mine is a base now: jazzd run --base mine\n", "")
    out = jazzd("base", "info", "--base", "mine")[1].splitlines()
    assert out[1:4] == ["parameters: 2360880", "bytes: 9443520", "dtype: float32"]
    assert "config numerics: exact" in out
    code, _, err = jazzd(*words)
    assert code == 1
    assert one_sentence(err)


def test_a_hub_out_of_reach_is_one_sentence(jazzd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    )
    code, out, err = jazzd("base", "fetch", "moonbeam-839m", "fetched")
    assert (code, out) == (1, "")
    assert one_sentence(err)
    assert not Path("fetched").exists()


@pytest.mark.parametrize("own", [True, False])
def test_calibrating_sets_a_base_of_the_users_and_no_other(
    jazzd: Run, own: bool, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jazzd.teach import calibrate

    nll = {"exact": 2.0, "rounded": 1.5}
    monkeypatch.setattr(
        calibrate,
        "evaluate",
        lambda model, *_, **__: {"nll_per_note": nll[model.config.numerics], "notes": 7},
    )
    shutil.copytree(tiny_base, "mine")
    base = "mine" if own else "builtin"
    code, out, _ = jazzd("base", "calibrate", "music", "--base", base)
    assert code == 0
    assert "2.0000" in out
    assert "1.5000" in out
    assert out.splitlines()[-1].startswith(
        "mine is set to rounded" if own else "builtin stays as it is, exact"
    )
    assert weights.identify(base)[0].numerics == ("rounded" if own else "exact")
    told = json.loads(jazzd("base", "calibrate", "music", "--base", base, "--json")[1])
    assert (told["best"], told["written"]) == ("rounded", own)


def test_rows_are_scored_one_by_one(jazzd: Run, tiny_base: Path) -> None:
    rows = np.full((2, 4, 6), [0, 20, 5, 2, 0, 80])
    rows[:, :, 0] += np.arange(4) * 10
    rows[:, 0] = -1
    np.savez("rows.npz", rows=rows)
    code, out, _ = jazzd("evaluate", "--rows", "rows.npz", "-o", "scores.npz", "--base", str(tiny_base))
    assert (code, out) == (0, "sequences: 2\ntokens: 36\noutput: scores.npz\n")
    scores = np.load("scores.npz")["token_nll"]
    assert (scores.shape, scores.dtype) == ((2, 3, 6), np.float32)
    assert (scores > 0).all()


def one_sentence(err: str) -> bool:
    return err.startswith("jazzd: ") and err.count("\n") == 1


def test_a_missing_config_is_one_sentence(jazzd: Run) -> None:
    code, out, err = jazzd("run", "--config", "nowhere.toml")
    assert (code, out) == (2, "")
    assert one_sentence(err)
    assert "nowhere.toml" in err


def test_an_unknown_key_is_one_sentence_that_names_it(jazzd: Run) -> None:
    Path("mine.toml").write_text("[midi]\ninptu = 'x'\n")
    code, _, err = jazzd("run", "--config", "mine.toml")
    assert code == 2
    assert one_sentence(err)
    assert "midi.inptu" in err


def test_a_file_in_the_way_is_one_sentence(jazzd: Run) -> None:
    Path("taken").write_text("")
    for words in (["demo", "--out", "taken"], ["base", "convert", "some.pt", "taken"]):
        assert jazzd(*words) == (2, "", "jazzd: taken is a file; name a folder\n")


@pytest.mark.parametrize("value", ["nan", "inf", "500"])
def test_what_is_no_number_is_refused(jazzd: Run, value: str) -> None:
    code, out, err = jazzd("solo", "Dm7", "-o", "out.mid", "--tempo", value)
    assert (code, out) == (2, "")
    assert f"'--tempo': {value} is not a number from 30 to 300." in err


def test_a_daemon_without_its_base_does_not_start(jazzd: Run) -> None:
    code, out, err = jazzd("run", "--base", "nowhere")
    assert (code, out) == (1, "")
    assert one_sentence(err)
    assert "nowhere" in err


def test_no_first_line_of_help_is_cut(jazzd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "..." not in jazzd("--help")[1].partition("Commands:")[2]


def test_scored_rows_are_told_of(jazzd: Run, tiny_base: Path) -> None:
    np.savez("rows.npz", rows=np.array([[[-1] * 6, [0, 10, 5, 0, 0, 80], [9, 10, 5, 2, 0, 80]]]))
    code, out, err = jazzd(
        "evaluate", "--rows", "rows.npz", "-o", "scores", "--base", str(tiny_base), "--json"
    )
    assert (code, err) == (0, "")
    assert json.loads(out) == {"sequences": 1, "tokens": 12, "output": "scores"}
    assert Path("scores").is_file()


def test_files_that_are_left_out_are_named(jazzd: Run, tiny_base: Path) -> None:
    Path("music").mkdir()
    write_midi(Path("music/good.mid"), [Note5D.from_pitch(0.0, 0.5, 60, 64)], None, [])
    Path("music/bad.mid").write_text("not music")
    code, out, err = jazzd("evaluate", "music", "--base", str(tiny_base), "--solos", "0", "--json")
    assert (code, json.loads(out)["refused"]) == (0, 1)
    assert one_sentence(err.replace("left out: ", "jazzd: "))
    assert "bad.mid" in err


def test_out_of_memory_is_one_sentence_and_a_bug_is_not(jazzd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class JaxRuntimeError(RuntimeError):
        pass

    def fail(error: Exception) -> PortList:
        raise error

    for error in (MemoryError(), JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")):
        monkeypatch.setattr(drivers, "list_ports", lambda error=error: fail(error))
        code, _, err = jazzd("ports")
        assert code == 1
        assert one_sentence(err)
    monkeypatch.setattr(drivers, "list_ports", lambda: fail(JaxRuntimeError("INTERNAL: a bug")))
    with pytest.raises(JaxRuntimeError):
        jazzd("ports")


def test_the_ports_of_the_daemon_are_marked(jazzd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = PortList("alsa", ("Keys", "jazzd:Two"), ("jazzd:One", "Synth"))
    monkeypatch.setattr(drivers, "list_ports", lambda: found)
    monkeypatch.setattr(control, "ask", lambda _: {"midi": {"input": "jazzd:One", "output": "jazzd:Two"}})
    assert jazzd("ports")[1].splitlines()[1:] == [
        "inputs: Keys, jazzd:Two (jazzd plays here)",
        "outputs: jazzd:One (jazzd listens here), Synth",
    ]


def test_exit_codes_follow_the_error(jazzd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, expected in ((ConfigError("no such key"), 2), (MidiError("no such port"), 1)):

        def refuse(error: Exception = error) -> PortList:
            raise error

        monkeypatch.setattr(drivers, "list_ports", refuse)
        assert jazzd("ports") == (expected, "", f"jazzd: {error}\n")


def test_ports_without_any_midi_system(jazzd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "list_ports", lambda: PortList("none", (), (), "no ALSA, no JACK"))
    code, out, _ = jazzd("ports", "--json")
    assert code == 0
    assert json.loads(out) == {"backend": "none", "inputs": [], "outputs": [], "reason": "no ALSA, no JACK"}
    assert jazzd("ports")[:2] == (0, "backend: none (no ALSA, no JACK)\ninputs: none\noutputs: none\n")


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["panic"]])
def test_no_daemon_is_one_sentence(jazzd: Run, words: list[str]) -> None:
    code, out, err = jazzd(*words)
    assert (code, out) == (1, "")
    assert one_sentence(err)
    assert "jazzd run" in err


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch, private_user: Path) -> Iterator[list[dict[str, Any]]]:
    """A daemon's control socket that answers everything alike; the requests it got."""
    path, requests = private_user / "control.sock", []
    monkeypatch.setenv("JAZZD_SOCKET", str(path))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                requests.append(json.loads(lines.readline()))
                connection.sendall(
                    b'{"engine": {"state": "ready"}, "chord": "Dm7", "style": "", "harmony": 0.50393}\n'
                )

        thread = threading.Thread(target=serve)
        thread.start()
        yield requests
        thread.join()


def test_status_asks_the_daemon(jazzd: Run, daemon: list[dict[str, Any]]) -> None:
    assert jazzd("status") == (0, "engine state: ready\nchord: Dm7\nharmony: 0.504\n", "")
    assert daemon == [{"do": "status"}]


def test_json_is_one_object_and_nothing_else(jazzd: Run, daemon: list[dict[str, Any]]) -> None:
    code, out, err = jazzd("status", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {"engine": {"state": "ready"}, "chord": "Dm7", "style": "", "harmony": 0.504}


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_watching_goes_on_until_ctrl_c(
    jazzd: Run, monkeypatch: pytest.MonkeyPatch, form: tuple[str, ...]
) -> None:
    answers = iter([{"notes": {"sent": n, "late": 0}, "chord": "Dm7"} for n in range(3)])

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        if answer := next(answers, None):
            return answer
        raise KeyboardInterrupt

    monkeypatch.setattr(control, "ask", ask)
    monkeypatch.setattr("jazzd.cli.asking.WATCH_S", 0)
    code, out, err = jazzd("status", "--watch", *form)
    assert (code, err) == (0, "")
    if form:
        assert [json.loads(line)["notes"]["sent"] for line in out.splitlines()] == [0, 1, 2]
    else:
        assert "notes: sent: 2, late: 0" in out
        assert "chord: Dm7" in out


def test_version_and_short_help(jazzd: Run) -> None:
    assert jazzd("--version") == (0, f"jazzd {importlib.metadata.version('jazzd')}\n", "")
    for words in ((), ("run",), ("service", "print")):
        assert jazzd(*words, "-h") == jazzd(*words, "--help")


def test_panic_asks_the_daemon(jazzd: Run, daemon: list[dict[str, Any]]) -> None:
    assert jazzd("panic") == (0, "", "")
    assert daemon == [{"do": "panic"}]


def test_a_refusal_of_the_daemon_is_one_sentence(jazzd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: dict[str, Any]) -> dict[str, Any]:
        raise MidiError(f"cannot {request['do']} now")

    monkeypatch.setattr(control, "ask", refuse)
    assert jazzd("panic") == (1, "", "jazzd: cannot panic now\n")


def test_what_keeps_it_from_starting_is_in_its_log(tmp_path: Path) -> None:
    """Who starts it at login keeps no stderr."""
    (tmp_path / "daemon.toml").write_text("[solo]\nlow = 200\n")
    command = [sys.executable, "-m", "jazzd", "run", "--log", "jazzd.log"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "solo.low" in ended.stderr
    (said,) = map(json.loads, (tmp_path / "jazzd.log").read_text().splitlines())
    assert (said["level"], said["event"]) == ("error", "ended")
    assert "solo.low" in said["reason"]
