"""The tape: ten minutes, whole timelines, no more than fits; and the files it is written to."""

import asyncio
import base64
import contextlib
import os
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from jazzd import takes
from jazzd.engine.protocol import (
    Beats,
    Begin,
    Key,
    Message,
    Note,
    Ready,
    Revise,
    Style,
    read_by_engine,
    read_by_player,
)
from jazzd.errors import ConfigError, MidiError
from jazzd.music.grid import Grid
from jazzd.music.notes import Seconds
from jazzd.player import tape
from jazzd.player.keeper import Keeper, check_recordable
from jazzd.player.tape import Tape

ON = mido.Message("note_on", note=60)
READY = Ready(base="builtin", device="cpu", dtype="float32", parameters=1, fingerprint="abc")
FROM_THE_START = float("-inf")


class Clock:
    time = 1000.0

    def now(self) -> float:
        return self.time


def revise(epoch: int, **said: object) -> Revise:
    return Revise(epoch=epoch, now=0, floor=0, **said)  # type: ignore[arg-type]


def note(epoch: int, number: int) -> Note:
    return Note(epoch=epoch, number=number, onset=10 * number, duration=5, pitch=60, velocity=80, floor=3)


def read(line: bytes) -> Message:
    """What the tape's line says."""
    return read_by_engine(line) if b'"revise"' in line else read_by_player(line)


def whole(take: takes.Take) -> takes.Log:
    passages = ({"seed": seed, "events": [read(line) for line in lines]} for seed, lines in take.passages)
    return takes.Log(**{**dict(take.log), "passages": tuple(passages)})


@given(st.lists(st.tuples(st.sampled_from(["begin", "revise", "note", "human", "solo"]), st.floats(0, 90))))
def test_the_last_ten_minutes_are_there_and_timelines_are_whole(happenings: list[tuple[str, float]]) -> None:
    clock = Clock()
    recorder = Tape(clock)
    begun: list[list[object]] = []
    last: list[float] = []
    human, solo = [], []
    for what, pause_s in happenings:
        clock.time += pause_s
        if what == "begin":
            recorder.told(Begin(seed=len(begun)))
            begun.append([])
            last.append(clock.time)
        elif what in ("revise", "note") and begun:
            event = revise(len(begun)) if what == "revise" else note(len(begun), 0)
            recorder.told(event) if isinstance(event, Revise) else recorder.made(event)
            begun[-1].append(event)
            last[-1] = clock.time
        elif what == "human":
            recorder.heard(ON, clock.time)
            human.append(clock.time)
        elif what == "solo":
            recorder.sent(ON)
            solo.append(clock.time)
    take = recorder.take(READY, (), FROM_THE_START)
    oldest = clock.time - 600
    assert [[read(line) for line in lines] for _, lines in take.passages] == [
        events for events, at in zip(begun, last, strict=True) if at >= oldest
    ]
    assert take.began == min([at for at in human + solo if at >= oldest], default=oldest)
    assert [at for at, _ in takes.PLAYED.iter_unpack(take.chords)] == [at for at in human if at >= oldest]
    assert [at for at, _ in takes.PLAYED.iter_unpack(take.solo)] == [at for at in solo if at >= oldest]


def test_a_flood_takes_no_more_room_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "MOST_EVENTS", 50)
    recorder = Tape(Clock())
    for seed in range(3):
        recorder.told(Begin(seed=seed))
        for number in range(20):
            recorder.made(note(1, number))
    assert [seed for seed, _ in recorder.take(READY, (), FROM_THE_START).passages] == [1, 2]
    for number in range(100):
        recorder.made(note(1, number))
    assert recorder.take(READY, (), FROM_THE_START).passages == []
    for number in range(2 * tape.MOST_MESSAGES + 7):
        recorder.heard(ON, 500 + number / 1000)
    kept = [at for at, _ in takes.PLAYED.iter_unpack(recorder.take(READY, (), FROM_THE_START).chords)]
    assert kept == [
        500 + number / 1000 for number in range(tape.MOST_MESSAGES + 7, 2 * tape.MOST_MESSAGES + 7)
    ]


def recorded() -> takes.Take:
    clock = Clock()
    recorder = Tape(clock)
    recorder.told(Begin(seed=7))
    recorder.counted(clock.time, Grid(Seconds(clock.time), 0.5))
    recorder.heard(mido.Message("note_on", note=50, velocity=70), clock.time)
    recorder.heard(mido.Message("control_change", control=21, value=70), clock.time)
    keys = (Key(0, 200, 50, 70), Key(5, 10, 72, 70, True))
    recorder.told(revise(1, keys=keys, mix=(("cool", 1.0),), beats=Beats(origin=0, length=100)))
    clock.time += 1
    recorder.made(note(1, 0))
    recorder.sent(ON)
    clock.time += 1
    recorder.sent(mido.Message("note_off", note=60))
    faster = Grid(Seconds(clock.time - 4 * 0.3), 0.3)  # from beat 4 on
    recorder.counted(clock.time, faster)
    recorder.counted(clock.time + 0.3, faster)
    recorder.told(revise(2, beats=Beats(origin=0, length=60)))
    clock.time += 3
    recorder.heard(mido.Message("note_off", note=50), clock.time)
    return recorder.take(READY, (Style(name="cool", status="ready", fingerprint="f"),), FROM_THE_START)


def test_a_take_comes_back_as_it_was(tmp_path: Path) -> None:
    take = recorded()
    takes.write(tmp_path / "new folder" / "take.mid", take)
    assert takes.read(tmp_path / "new folder" / "take.mid") == whole(take)
    assert take.log.styles == {"cool": "f"}
    file = mido.MidiFile(tmp_path / "new folder" / "take.mid")
    assert [track.name for track in file.tracks] == ["jazzd", "chords", "solo"]
    tempi = [round(mido.tempo2bpm(m.tempo)) for m in file.tracks[0] if m.type == "set_tempo"]
    assert tempi == [120, 200]
    at, times = 0.0, {}
    for message in file:
        at += message.time
        if message.type in ("note_on", "note_off"):
            times[message.type, message.note] = round(at, 2)
    assert times == {("note_on", 50): 0, ("note_on", 60): 1, ("note_off", 60): 2, ("note_off", 50): 5}
    assert not list((tmp_path / "new folder").glob(".*"))


def test_a_take_of_a_waltz_says_so(tmp_path: Path) -> None:
    recorder = Tape(Clock())
    recorder.told(Begin(seed=7))
    recorder.heard(ON, 1000.0)
    recorder.counted(1000.0, Grid(Seconds(1000.0), 0.5, bar=3))
    takes.write(tmp_path / "take.mid", recorder.take(READY, (), FROM_THE_START))
    told = {message.type: message for message in mido.MidiFile(tmp_path / "take.mid").tracks[0]}
    assert told["time_signature"].numerator == 3
    assert round(mido.tempo2bpm(told["set_tempo"].tempo)) == 120


def written(path: Path, *texts: str) -> Path:
    track = mido.MidiTrack([mido.MetaMessage("text", text=text) for text in texts])
    mido.MidiFile(tracks=[track]).save(path)
    return path


def packed(data: bytes) -> str:
    return takes.MARK + base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], "holds no take"),
        (["a title"], "holds no take"),
        ([takes.MARK + "??"], "damaged"),
        ([takes.MARK + base64.b64encode(b"no zlib").decode()], "damaged"),
        ([packed(b"{}")[:-8]], "damaged"),
        ([packed(b"no json")], "damaged"),
        ([packed(b'{"version": 9}')], "is of version 9; this jazzd has 1"),
        ([packed(b'{"version": 1, "volume": 3}')], "damaged"),
        ([packed(b'{"passages": [{"seed": -1}]}')], "damaged"),
        ([packed(b"[" * 300_000_000)], "damaged"),
    ],
)
def test_what_is_no_take_is_one_sentence(tmp_path: Path, texts: list[str], words: str) -> None:
    with pytest.raises(MidiError, match=words):
        takes.read(written(tmp_path / "file.mid", *texts))


def test_a_take_that_was_cut_off_is_told_as_such(tmp_path: Path) -> None:
    takes.write(path := tmp_path / "take.mid", recorded())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MidiError, match=r"take\.mid is not a MIDI file that can be read: it ends too early"):
        takes.read(path)


@given(st.binary(max_size=200), st.integers(0, 2000), st.integers(0, 255))
def test_no_damage_is_worse_than_a_sentence(data: bytes, place: int, byte: int) -> None:
    path = Path(os.environ["XDG_RUNTIME_DIR"]) / "take.mid"
    takes.write(path, recorded())
    broken = bytearray(path.read_bytes())
    broken[place % len(broken)] = byte
    for content in (bytes(broken), data):
        path.write_bytes(content)
        with contextlib.suppress(MidiError):
            takes.read(path)


def test_what_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MidiError, match=r"takes\.folder"):
        takes.write(tmp_path / "file" / "take.mid", recorded())


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; sys.path.insert(0, 'tests')\n"
        "from pathlib import Path\nfrom test_tape import recorded\nfrom jazzd import takes\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "takes.write(Path(sys.argv[1]), recorded())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "take.mid")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert "cannot keep the take" in ended.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_takes_of_one_second_have_names_of_their_own_and_a_recording_has_no_gap(tmp_path: Path) -> None:
    clock = Clock()
    recorder = Tape(clock)
    keeper = Keeper(tmp_path, clock, lambda since: recorder.take(READY, (), since))
    for _ in range(3):
        for _ in range(5):
            clock.time += 50
            recorder.sent(ON)
        keeper.write_part()
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    counts = [sum(m.type == "note_on" for m in mido.MidiFile(file).tracks[2]) for file in files]
    assert sum(counts) == 15
    assert recorder.take(READY, (), FROM_THE_START).notes == 13


def test_takes_written_at_once_are_all_there(tmp_path: Path) -> None:
    take = recorded()
    keeper = Keeper(tmp_path, Clock(), lambda since: take)
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(keeper.write, [take] * 4))
    assert sorted(paths) == sorted(set(paths)) == sorted(tmp_path.iterdir())
    assert all(takes.read(path) == whole(take) for path in paths)


def test_a_part_that_could_not_be_written_is_in_the_next(tmp_path: Path) -> None:
    clock = Clock()
    recorder = Tape(clock)
    (tmp_path / "file").touch()
    keeper = Keeper(tmp_path / "file", clock, lambda since: recorder.take(READY, (), since))
    recorder.sent(ON)
    clock.time += 1
    with pytest.raises(MidiError):
        keeper.write_part()
    clock.time += 1
    recorder.sent(ON)
    (tmp_path / "file").unlink()
    track = mido.MidiFile(keeper.write_part()).tracks[2]
    assert sum(message.type == "note_on" for message in track) == 2


def test_a_part_ends_what_it_begins_and_no_more(tmp_path: Path) -> None:
    clock = Clock()
    recorder = Tape(clock)
    keeper = Keeper(tmp_path, clock, lambda since: recorder.take(READY, (), since))
    recorder.heard(mido.Message("note_on", note=50, velocity=70), clock.time)
    recorder.heard(mido.Message("control_change", control=64, value=127), clock.time)
    clock.time += 2
    first = keeper.write_part()
    clock.time += 2
    recorder.heard(mido.Message("note_off", note=50), clock.time)
    recorder.heard(mido.Message("control_change", control=64, value=0), clock.time)
    recorder.heard(mido.Message("note_on", note=52, velocity=70), clock.time)
    clock.time += 1
    second = keeper.write_part()

    def chords(path: Path) -> list[tuple[str, int]]:
        track = mido.MidiFile(path).tracks[1]
        return [(m.type, m.control if m.is_cc() else m.note) for m in track if not m.is_meta]

    pedal = ("control_change", 64)
    assert chords(first) == [("note_on", 50), pedal, ("note_off", 50), pedal]
    assert mido.MidiFile(first).length == pytest.approx(2, abs=0.01)
    assert chords(second) == [("note_on", 52), ("note_off", 52)]


async def test_a_pedal_that_flutters_keeps_one_take(tmp_path: Path) -> None:
    clock = Clock()
    keeper = Keeper(tmp_path, clock, lambda since: recorded())
    for _ in range(5):
        keeper.press()
    clock.time += 2.1
    keeper.press()
    for _ in range(200):
        await asyncio.sleep(0.01)
        if len(await asyncio.to_thread(lambda: list(tmp_path.glob("*.mid")))) == 2:
            break
    assert len(await asyncio.to_thread(lambda: list(tmp_path.iterdir()))) == 2


async def test_a_take_that_cannot_be_kept_is_a_word_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    keeper = Keeper(tmp_path / "file", Clock(), lambda since: recorded())
    with capture_logs() as logged:
        keeper.press()
        for _ in range(200):
            await asyncio.sleep(0.01)
            if logged:
                break
    assert [event["event"] for event in logged] == ["take_not_kept"]


def test_a_folder_that_cannot_be_recorded_into_is_refused_before_the_music(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot record into .*file: File exists; name another"):
        check_recordable(tmp_path / "file")
    check_recordable(tmp_path / "new" / "folder")
