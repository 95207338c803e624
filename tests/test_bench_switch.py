"""What a switch does to the context: the three ways are told apart, and agree where they must."""

from pathlib import Path

import tiny

from jazzd.bench import switch
from jazzd.moonbeam import weights


def test_kept_and_read_again_differ_and_no_switch_is_no_difference(tmp_path: Path) -> None:
    base = tmp_path / "base"
    mark = weights.save(base, tiny.CONFIG, weights.to_tensors(tiny.model()))
    for seed, name in enumerate(("cool", "hot")):
        (tmp_path / "styles").mkdir(exist_ok=True)
        tiny.write_style(tmp_path / "styles" / f"{name}.safetensors", seed, base=mark)
    tiny.write_midi(tmp_path / "midi" / "a.mid", tiny.walk(200), [(0, "Dm7"), (400, "G7")])

    def measured(style: str, old: str) -> tuple[float, float, float]:
        found = switch.measure(tmp_path / "midi", style, old, tmp_path / "styles", str(base))
        assert found["notes"] > 100
        return found["kept"], found["reread"], found["unswitched"]

    kept, reread, unswitched = measured("cool", "hot")
    assert len({kept, reread, unswitched}) == 3
    assert len(set(measured("cool", "cool"))) == 1
    assert measured("cool", "")[1] == reread
