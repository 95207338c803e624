"""Reviews: what is told of a base, of a style beside it and of people, by the command and without it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mido
import pytest
import tiny

from jazzd.engine.protocol import Sampling
from jazzd.errors import MidiError
from jazzd.moonbeam import lora, weights
from jazzd.moonbeam.tokens import NAMES
from jazzd.styles.wardrobe import Wardrobe
from jazzd.teach import audition, corpus, evaluate, gallery, matrix, prepare, review
from jazzd.teach.audition import Player
from jazzd.teach.corpus import Refused
from jazzd.teach.review import Review, Scope

CHANGES = [(0, "Dm7"), (400, "G7"), (800, "Cmaj7")]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    weights.save(folder, tiny.CONFIG, weights.to_tensors(tiny.model()))
    return folder


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three solos over chords at 120 BPM, and a file that is none."""
    folder = tmp_path_factory.mktemp("music")
    for n in range(3):
        timed(tiny.write_midi(folder / f"tune {n}.mid", tiny.walk(60, first=58 + n), CHANGES))
    (folder / "bad.mid").write_text("not music")
    return folder


def timed(path: Path) -> None:
    """Have the file state its tempo."""
    file = mido.MidiFile(path)
    file.tracks[0].insert(0, mido.MetaMessage("set_tempo", tempo=500_000))
    file.save(path)


@pytest.fixture(scope="module")
def mixes(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, lora.Mix | None]:
    folder = tmp_path_factory.mktemp("styles")
    for seed, name in enumerate(("cool", "hot")):
        tiny.write_style(folder / f"{name}.safetensors", seed)
    wardrobe = Wardrobe.open(folder, tiny.base())
    wardrobe.registry.rescan()
    return {name: wardrobe.mix({name: 1.0}) for name in ("cool", "hot")}


@pytest.fixture(scope="module")
def found(music: Path, mixes: dict[str, lora.Mix | None]) -> Review:
    """Of a style and the base, who copy nothing from music that is theirs to learn from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audition, "decoder_of", lambda model: tiny.decoder())
        patch.setattr(review, "decoder_of", lambda model: tiny.decoder())
        players = [Player("cool", mixes["cool"], Sampling(temperature=1.0)), Player()]
        return review.review(tiny.model(), players, Scope(music, training=music, solos=2))


def test_the_first_player_is_on_top_and_the_base_beside_it(
    found: Review, music: Path, mixes: dict[str, lora.Mix | None]
) -> None:
    told = json.loads(json.dumps(found.to_json()))
    for figures, mix in ((told, mixes["cool"]), (told["base"], None)):
        alone = evaluate.evaluate(tiny.model(), music, mix=mix)
        assert figures["nll_per_note"] == pytest.approx(alone["nll_per_note"], rel=1e-5)
        assert (list(figures["nll"]), figures["notes"]) == (list(NAMES), 180)
        assert figures["music"]["solos"] == 2
        assert set(figures["music"]["overlap"]) == set(gallery.TITLES)
        assert figures["music"]["copying"]["longest"] < 60
    assert told["refused"] == 1
    assert told["nll_per_note"] != told["base"]["nll_per_note"]


def test_the_reference_is_measured_as_the_solos_are(found: Review) -> None:
    told = found.to_json()["reference"]
    assert set(told) == set(found.to_json()["music"])
    assert (told["solos"], told["notes"]) == (3, 180)
    assert told["density"]["per_beat"] == pytest.approx(60 / 23.6)
    assert told["copying"]["longest"] == 60, "they are one tune in three keys"
    assert told["overlap"]["interval"] == pytest.approx(1.0)


def test_the_table_has_a_column_for_each(found: Review) -> None:
    table = gallery.table(found)
    assert [column.header for column in table.columns] == ["", "cool", "plain base", "the reference"]
    rows = dict(zip(table.columns[0].cells, table.columns[3].cells, strict=True))
    assert rows["nats per note"] == "-"
    assert rows["notes"] == "180"
    assert rows["notes copied at a stretch, most"] == "60"


def test_a_dataset_knows_its_beats(music: Path, found: Review, tmp_path: Path) -> None:
    """The same is told of it as of the folder that it was made of, even when that is gone."""
    pieces = [replace(p, side="test") for p in prepare.prepare(music).pieces]
    corpus.save(tmp_path / corpus.STORED, pieces)
    scope = Scope(tmp_path, solos=0)
    told = review.review(tiny.model(), [Player()], scope).to_json()["reference"]
    of_folder = review.review(tiny.model(), [Player()], replace(scope, music=music)).to_json()["reference"]
    assert told["density"]["per_beat"] == pytest.approx(60 / 23.6)
    assert told["chord_tones"]["on_strong_beats"] is not None
    assert told["density"] == pytest.approx(of_folder["density"])


def test_drums_are_no_reference(tmp_path: Path) -> None:
    file = mido.MidiFile(tiny.write_midi(tmp_path / "kit.mid", tiny.walk(30)))
    for message in file.tracks[0]:
        if not message.is_meta:
            message.channel = 9
    file.save(tmp_path / "kit.mid")
    with pytest.raises(MidiError, match="only drums in it; name"):
        review.review(tiny.model(), [Player()], Scope(tmp_path))


def test_the_picture_is_one(found: Review, tmp_path: Path) -> None:
    gallery.draw(tmp_path / "drawn", found.portraits)
    assert (tmp_path / "drawn").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_a_piece_is_one_sentence_before_anything_is_played(
    music: Path, tmp_path: Path
) -> None:
    for scope in (Scope(tmp_path), Scope(music, reference=tmp_path), Scope(music, training=tmp_path)):
        with pytest.raises(MidiError, match=r"no \.mid"):
            review.review(tiny.model(), [Player()], scope)


def test_every_style_is_measured_on_every_styles_pieces(
    music: Path, mixes: dict[str, lora.Mix | None], tmp_path: Path
) -> None:
    tiny.write_midi(tmp_path / "other.mid", tiny.walk(40, every=33, first=48))
    left_out: list[Refused] = []
    folders = {"cool": music, "hot": tmp_path}
    told = matrix.matrix(tiny.model(), mixes, folders, left_out=left_out.append)
    assert [refused.name for refused in left_out] == ["bad.mid"]
    nll = evaluate.Likelihood(tiny.model())
    for name, folder in folders.items():
        figures, pieces = told["pieces"][name], evaluate.read(folder)[0]
        expected = {
            player: evaluate.foretold(nll, pieces, mix=mix)["nll_per_note"]
            for player, mix in {"": None, **mixes}.items()
        }
        assert {"": figures["base"], **figures["styles"]} == pytest.approx(expected, rel=1e-5)
        assert figures["best"] == min(expected, key=expected.__getitem__)
        assert figures["notes"] == (180 if name == "cool" else 40)
    assert told["own_best"] == all(told["pieces"][name]["best"] == name for name in folders)


def figures_of(*bests: str) -> dict[str, Any]:
    nats = {"base": 3.0, "styles": {"cool": 2.0, "hot": 2.5}}
    pieces = {
        name: {**nats, "notes": 7, "best": best} for name, best in zip(("cool", "hot"), bests, strict=True)
    }
    return {"pieces": pieces, "own_best": bests == ("cool", "hot")}


def test_the_best_of_each_column_is_marked_and_the_verdict_is_plain() -> None:
    table = matrix.shown(figures_of("cool", "cool"))
    assert [*table.columns[0].cells] == ["plain base", "cool", "hot", "notes"]
    assert [*table.columns[2].cells] == ["3.000 ", "2.000*", "2.500 ", "7 "]
    assert matrix.verdict(figures_of("cool", "cool")).endswith(
        "not every style is best on its own pieces: not hot"
    )
    assert matrix.verdict(figures_of("cool", "hot")) == "every style is best on its own pieces"


def test_the_command_tells_of_a_style_beside_its_base(jazzd: Run, base: Path, music: Path) -> None:
    _, fingerprint = weights.identify(base)
    tiny.write_style(Path("styles/cool.safetensors"), base=fingerprint, temperature=0.7)
    words = [
        "evaluate",
        str(music),
        "--base",
        str(base),
        "--style",
        "cool",
        "--solos",
        "1",
        "--plot",
        "x.png",
    ]
    code, out, err = jazzd(*words, "--json")
    told = json.loads(out)
    assert code == 0
    assert err.count("\n") == 1, "one file is left out"
    assert told["music"]["solos"] == told["base"]["music"]["solos"] == 1
    assert told["music"]["copying"] is None
    assert told["base"]["nll_per_note"] != told["nll_per_note"]
    assert Path("x.png").exists()

    code, out, _ = jazzd("evaluate", str(music), "--base", str(base), "--solos", "0")
    assert code == 0
    assert out.split()[:4] == ["plain", "base", "the", "reference"]
    assert f"{told['base']['nll_per_note']:.3f}" in out


def test_without_solos_nothing_is_played(jazzd: Run, base: Path, music: Path) -> None:
    told = json.loads(jazzd("evaluate", str(music), "--base", str(base), "--solos", "0", "--json")[1])
    assert set(told) == {"nll_per_note", "nll", "notes", "refused", "reference"}


def test_the_command_tells_the_matrix(jazzd: Run, base: Path, music: Path) -> None:
    _, fingerprint = weights.identify(base)
    for seed, name in enumerate(("cool", "hot")):
        tiny.write_style(Path(f"styles/{name}.safetensors"), seed, base=fingerprint)
    words = ["evaluate", "--matrix", f"cool={music}", f"hot={music}", "--base", str(base)]
    code, out, _ = jazzd(*words, "--json")
    told = json.loads(out)
    assert (code, list(told["pieces"]), told["own_best"]) == (0, ["cool", "hot"], False)
    code, out, _ = jazzd(*words)
    assert code == 0
    assert out.splitlines()[-1].startswith("not every style is best on its own pieces: not ")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["one", "two"], 2, "name one MIDI_DIR"),
        (["--matrix"], 2, "say either a folder"),
        (["--matrix", "cool"], 2, "write NAME=MIDI_DIR"),
        (["--matrix", "cool=a", "cool=b"], 2, "each NAME once"),
        (["--matrix", "cool=a", "--style", "cool"], 2, "leave --style"),
        (["--matrix", "cool=a", "--plot", "x.png"], 2, "go with a MIDI_DIR alone"),
        (["--rows", "x.npz", "-o", "y.npz", "--training", "z"], 2, "go with a MIDI_DIR alone"),
        (["one", "--plot", "nowhere/x.png"], 1, "there is no folder nowhere"),
        (["one", "--style", "bebop"], 1, "no style 'bebop' is ready"),
        (["--matrix", "bebop=a"], 1, "no style 'bebop' is ready"),
        (["one", "--style", "bebop:x"], 2, "write NAME"),
        (["one"], 1, "one: there is no such folder"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    jazzd: Run, base: Path, words: list[str], code: int, said: str
) -> None:
    got, out, err = jazzd("evaluate", *words, "--base", str(base))
    assert (got, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1
