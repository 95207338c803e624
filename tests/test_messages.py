from itertools import pairwise

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mido import Message

from jazzd.player.messages import Decoder, parse


def decode(*chunks: bytes) -> list[Message]:
    decoder = Decoder()
    return [message for chunk in chunks for message in decoder.feed(chunk)]


MESSAGES = [
    Message("note_on", channel=3, note=60, velocity=1),
    Message("note_off", channel=4, note=61, velocity=2),
    Message("polytouch", channel=5, note=62, value=3),
    Message("control_change", channel=6, control=63, value=4),
    Message("program_change", channel=7, program=64),
    Message("aftertouch", channel=8, value=65),
    Message("pitchwheel", channel=9, pitch=-1234),
    Message("quarter_frame", frame_type=1, frame_value=2),
    Message("songpos", pos=1000),
    Message("song_select", song=5),
    Message("tune_request"),
    *(Message(kind) for kind in ("clock", "start", "continue", "stop", "reset")),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.type)
def test_each_message_comes_through_wherever_it_is_cut(message: Message) -> None:
    data = message.bin()
    assert parse(data) == message
    for cut in range(len(data) + 1):
        assert decode(data[:cut], data[cut:]) == [message]


def test_running_status() -> None:
    assert decode(b"\x90\x3c\x40\x3e\x41", b"\x3c", b"\x00") == [
        Message("note_on", note=60, velocity=64),
        Message("note_on", note=62, velocity=65),
        Message("note_on", note=60, velocity=0),
    ]


def test_a_system_common_message_ends_running_status() -> None:
    assert decode(b"\x90\x3c\x40\xf6\x3e\x41") == [Message("note_on", note=60), Message("tune_request")]


def test_real_time_bytes_inside_a_message_take_nothing_from_it() -> None:
    assert decode(b"\x80\xf8\x3c\xfa\x40\xfe\xf9") == [
        Message("clock"),
        Message("start"),
        Message("note_off", note=60),
    ]


@pytest.mark.parametrize("end", [b"\xf7", b""], ids=["closed", "unclosed"])
def test_sysex_is_skipped_and_the_next_message_heard(end: bytes) -> None:
    chunks = [b"\xf0", *[bytes(range(128)) * 8] * 100, end, b"\x90\x3c\x40"]
    assert decode(*chunks) == [Message("note_on", note=60)]


def test_sysex_takes_no_memory() -> None:
    decoder = Decoder()
    assert list(decoder.feed(b"\xf0" + bytes(1 << 20))) == []
    assert len(decoder._data) == 0


def test_a_message_cut_short_by_another_is_dropped() -> None:
    assert decode(b"\x90\x3c\x80\x3c\x40") == [Message("note_off", note=60)]


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_any_bytes_give_valid_messages_and_the_cuts_do_not_matter(chunks: list[bytes]) -> None:
    messages = decode(*chunks)
    assert messages == decode(b"".join(chunks))
    assert all(mido.Message.from_bytes(message.bytes()) == message for message in messages)


@given(st.lists(st.sampled_from(MESSAGES), max_size=20), st.lists(st.integers(0, 60), max_size=5))
def test_any_messages_come_through_any_cuts(messages: list[Message], cuts: list[int]) -> None:
    data = b"".join(message.bin() for message in messages)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert decode(*(data[start:end] for start, end in pairwise(edges))) == messages


@given(st.binary(max_size=6))
def test_parse_takes_whole_messages_only(data: bytes) -> None:
    message = parse(data)
    assert message is None or message.bin() == data


@pytest.mark.parametrize("data", [b"\xf0\x01\xf7", b"\xfe", b"\xf4", b"\x90\x3c", b"\xe0\x00\xff", b"\x3c"])
def test_what_jazzd_does_not_hear(data: bytes) -> None:
    assert parse(data) is None
