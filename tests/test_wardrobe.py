"""The styles that can be played, while their files come, go and change."""

from pathlib import Path

import numpy as np
import pytest
import tiny

from jazzd.errors import StyleError
from jazzd.styles.wardrobe import News, Wardrobe


@pytest.fixture
def wardrobe(tmp_path: Path) -> Wardrobe:
    return tiny.loaded(tmp_path)[2]


def news(wardrobe: Wardrobe) -> News:
    found = wardrobe.look()
    assert found
    wardrobe.take(found)
    return found


def first_column(wardrobe: Wardrobe, name: str) -> np.ndarray:
    mix = wardrobe.mix({name: 1.0})
    assert mix
    return np.asarray(mix.layers[0]["q_proj"].down[0])


def test_a_new_file_is_on_the_device_and_a_lost_one_is_not(wardrobe: Wardrobe, tmp_path: Path) -> None:
    assert wardrobe.look() is None
    path = tiny.write_style(tmp_path / "cool.safetensors", temperature=0.4)
    assert news(wardrobe).fresh.keys() == {"cool"}
    assert wardrobe.look() is None
    assert (wardrobe.playable, wardrobe.settings("cool")) == ({"cool"}, {"temperature": 0.4})
    assert wardrobe.mix({"cool": 0.0}) is None
    path.unlink()
    assert news(wardrobe).lost == {"cool"}
    with pytest.raises(StyleError, match="cool"):
        wardrobe.mix({"cool": 1.0})


def test_a_style_that_is_overwritten_plays_until_the_new_one_is_whole(
    wardrobe: Wardrobe, tmp_path: Path
) -> None:
    path = tiny.write_style(tmp_path / "cool.safetensors", 1)
    news(wardrobe)
    old = first_column(wardrobe, "cool")
    whole = tiny.write_style(tmp_path / "new", 2).read_bytes()
    path.write_bytes(whole[:1000])
    assert not news(wardrobe).lost
    assert wardrobe.playable == {"cool"}
    np.testing.assert_array_equal(first_column(wardrobe, "cool"), old)
    path.write_bytes(b"no style at all" * 100)
    wardrobe.look()
    wardrobe.look()
    assert wardrobe.registry.records[0].status == "rejected"
    assert wardrobe.playable == {"cool"}
    path.write_bytes(whole)
    assert news(wardrobe).fresh.keys() == {"cool"}
    assert (first_column(wardrobe, "cool") != old).any()


def test_what_is_said_of_a_style_changes_without_the_style(wardrobe: Wardrobe, tmp_path: Path) -> None:
    tiny.write_style(tmp_path / "hot.safetensors", 1, program=7)
    news(wardrobe)
    tiny.write_style(tmp_path / "cool.safetensors", 2, program=7)
    found = news(wardrobe)
    assert {record.name for record in found.records} == {"cool", "hot"}
    assert found.fresh.keys() == {"cool"}


def test_what_finds_no_room_is_loaded_when_it_is_first_used(tmp_path: Path) -> None:
    for seed in range(4):
        tiny.write_style(tmp_path / f"style{seed}.safetensors", seed)
    wardrobe = Wardrobe.open(tmp_path, tiny.base(), capacity=2)
    found = news(wardrobe)
    assert [name for name, adapter in found.fresh.items() if adapter] == ["style0", "style1"]
    columns = {f"style{seed}": first_column(wardrobe, f"style{seed}").tobytes() for seed in (3, 0, 2, 1, 3)}
    assert len(set(columns.values())) == 4
