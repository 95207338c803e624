"""Training a style: only its factors learn, and what the file then plays is what the trainer measured."""

import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import disk
import jax
import jax.numpy as jnp
import mido
import numpy as np
import pytest
import tiny
from rich.console import Console

from jazzd.errors import ConfigError, MidiError, ModelError
from jazzd.moonbeam import lora, storage, targets, weights
from jazzd.styles import style
from jazzd.styles.style import BaseFacts
from jazzd.styles.wardrobe import Wardrobe
from jazzd.teach import corpus, loss, tune
from jazzd.teach.dataset import Batch, Dataset
from jazzd.teach.evaluate import evaluate
from jazzd.teach.recipe import Recipe, StyleRecipe, chosen, resumed, save
from jazzd.teach.trainer import Trainer
from jazzd.teach.tune import Result, subject, train_style

CHANGES = [(0, "Dm7"), (400, "G7"), (800, "Cmaj7")]
CONSOLE = Console(quiet=True)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    weights.save(folder, tiny.CONFIG, weights.to_tensors(tiny.model()))
    return folder


@pytest.fixture(scope="module")
def midi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pieces over chords, one without, and drums."""
    folder = tmp_path_factory.mktemp("midi")
    for n in range(6):
        tiny.write_midi(folder / f"tune {n}.mid", tiny.walk(70, first=58 + n, turn=n), CHANGES)
    tiny.write_midi(folder / "plain.mid", tiny.walk(60, every=25, first=48), program=33)
    write_drums(folder / "drums.mid")
    return folder


def write_drums(path: Path) -> Path:
    tiny.write_midi(path, tiny.walk(30))
    file = mido.MidiFile(path)
    for message in file.tracks[0]:
        if not message.is_meta:
            message.channel = 9
    file.save(path)
    return path


@pytest.fixture(scope="module")
def recipe(base: Path) -> StyleRecipe:
    return StyleRecipe(
        base=str(base),
        rank=4,
        alpha=8.0,
        epochs=2,
        batch_size=4,
        grad_accumulation=2,
        warmup_steps=2,
        learning_rate=2e-2,
        title="Walking",
        license="CC0",
        program=7,
        temperature=0.75,
    )


@dataclass
class Learned:
    run: Path
    result: Result
    trainer: Trainer
    """As it was in the end."""

    def figures(self) -> list[dict[str, Any]]:
        """Without the times of day."""
        lines = (self.run / "history.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


def learn(
    midi: Path, folder: Path, recipe: StyleRecipe, resume: bool = False, console: Console = CONSOLE
) -> Learned:
    jax.devices()  # JAX has begun: the training takes no more devices for itself
    trainers: list[Trainer] = []

    class Watched(Trainer):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            trainers.append(self)

    # optax mixes dtypes.
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(tune, "Trainer", Watched)
        run, target = folder / "run", folder / "styles" / "walking.safetensors"
        return Learned(run, train_style(midi, run, target, recipe, console, resume), trainers[0])


@pytest.fixture(scope="module")
def learned(midi: Path, recipe: StyleRecipe, tmp_path_factory: pytest.TempPathFactory) -> Learned:
    return learn(midi, tmp_path_factory.mktemp("learned"), recipe)


def facts(base: Path) -> BaseFacts:
    config, fingerprint = weights.identify(base)
    return BaseFacts(fingerprint, config, lambda: weights.tensors(base))


def test_it_learns_and_says_by_how_much(learned: Learned, base: Path) -> None:
    figures = learned.figures()
    assert [entry["step"] for entry in figures] == [0, 20, 30]
    assert min(entry["held_out"] for entry in figures[1:]) < figures[0]["held_out"] - 2
    assert learned.result.style < learned.result.base - 2
    assert (learned.run / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("liked", "kept"), [(5.0, 1.0), (0.8, 0.75), (0.55, 0.5), (0.0, 0.25)])
def test_what_is_too_much_of_a_good_thing_is_weakened(liked: float, kept: float) -> None:
    """To what the pieces that it was stopped by like best."""

    class Judged(Trainer):
        def __init__(self) -> None:
            self.weights: Any = {"q": {"down": np.ones(3, np.float32), "up": np.full(3, 2, np.float32)}}

        def validate(self, batches: Sequence[Batch]) -> float:
            return abs(float(self.weights["q"]["up"][0]) / 2 - liked)

    judged = Judged()
    assert tune._temper(judged, []) == kept
    assert judged.weights["q"]["up"].tolist() == [2 * kept] * 3
    assert judged.weights["q"]["down"].tolist() == [1, 1, 1]


def test_what_was_learned_can_be_heard(learned: Learned, midi: Path) -> None:
    """Over the chords of the one piece that was held out, whose file states no tempo."""
    assert len(held_out(learned, midi)) == 1
    files = {path.name: mido.MidiFile(path) for path in (learned.run / "audition").iterdir()}
    assert sorted(files) == ["after_1.mid", "before_1.mid"]
    before, after = files["before_1.mid"], files["after_1.mid"]
    assert [m.text for m in before.tracks[0] if m.type == "marker"] == [symbol for _, symbol in CHANGES]
    assert before.tracks[1] == after.tracks[1]
    assert before.tracks[2] != after.tracks[2]


def test_only_the_factors_learn(learned: Learned, recipe: StyleRecipe, midi: Path) -> None:
    shapes = {
        targets.module(place): sizes
        for place, sizes in targets.shapes(tiny.CONFIG).items()
        if place[1] in recipe.targets
    }
    trained = learned.trainer.weights
    assert {name: (pair["down"].shape, pair["up"].shape) for name, pair in trained.items()} == {
        name: ((4, inputs), (4, outputs)) for name, (inputs, outputs) in shapes.items()
    }
    assert all(np.abs(pair["up"]).max() > 0 for pair in trained.values())
    pieces = [corpus.read(path, path.name) for path in held_out(learned, midi)]
    batches = tune._batches(pieces, tiny.CONFIG, replace(recipe, length=tiny.CONFIG.window))
    assert learned.trainer.validate(batches) < learned.result.base - 2
    learned.trainer.weights = jax.tree.map(jnp.zeros_like, trained)
    assert learned.trainer.validate(batches) == pytest.approx(learned.result.base)
    learned.trainer.weights = trained


def held_out(learned: Learned, midi: Path) -> list[Path]:
    pieces = corpus.load(learned.run / "corpus.npz")
    return [midi / piece.name for piece in pieces if piece.side == "test"]


def test_the_file_plays_as_well_as_the_trainer_measured(
    learned: Learned, midi: Path, base: Path, tmp_path: Path
) -> None:
    for path in held_out(learned, midi):
        shutil.copy(path, tmp_path)
    loaded = weights.load(base)
    wardrobe = Wardrobe.open(learned.result.path.parent, loaded)
    wardrobe.registry.rescan()
    for mix, expected in (
        (None, learned.result.base),
        (wardrobe.mix({"walking": 1.0}), learned.result.style),
    ):
        figures = evaluate(loaded.model, tmp_path, mix=mix)
        assert figures["nll_per_note"] == pytest.approx(expected, rel=1e-5)


def test_the_file_says_what_it_is(learned: Learned, base: Path) -> None:
    manifest = style.read(learned.result.path, facts(base)).manifest
    assert (manifest.rank, manifest.alpha, manifest.targets) == (4, 8, ("q_proj", "v_proj", "o_proj"))
    assert (manifest.title, manifest.license, manifest.author, manifest.program) == ("Walking", "CC0", "", 7)
    assert manifest.settings == {"temperature": 0.75}
    told = json.loads(manifest.training)
    assert (told["pieces"], told["held_out"]["pieces"], told["epochs"]) == (5, 1, 2.0)
    assert told["strength"] == learned.result.strength
    assert told["held_out"]["style_nats"] == pytest.approx(learned.result.style, abs=1e-4)
    assert told["held_out"]["base_nats"] == pytest.approx(learned.result.base, abs=1e-4)


def test_a_killed_run_comes_to_the_same_factors(
    midi: Path, recipe: StyleRecipe, learned: Learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two updates, with half of the next one's gradients gathered, and in a step."""
    draw = Dataset.batch

    def batch(self: Dataset, size: int, seed: int, step: int) -> Batch:
        if step == 29:
            raise KeyboardInterrupt
        return draw(self, size, seed, step)

    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "batch", batch)
        with pytest.raises(KeyboardInterrupt):
            learn(midi, tmp_path, recipe)
    assert not (tmp_path / "styles").exists()
    resumed = learn(midi, tmp_path, recipe, resume=True)
    for again, entry in zip(resumed.figures(), learned.figures(), strict=True):
        assert again == pytest.approx(entry)
    one, other = (storage.read(each.result.path)[0] for each in (resumed, learned))
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-6)


def test_a_run_does_not_go_on_upon_another_base(
    midi: Path, recipe: StyleRecipe, learned: Learned, tmp_path: Path
) -> None:
    tensors = weights.to_tensors(tiny.model())
    weights.save(tmp_path / "other", tiny.CONFIG, tensors | {"lm_head.weight": tensors["lm_head.weight"] + 1})
    with pytest.raises(ModelError, match="was begun on the base"):
        learn(midi, learned.run.parent, replace(recipe, base=str(tmp_path / "other")), resume=True)


def test_it_ends_when_nothing_becomes_better(
    midi: Path, recipe: StyleRecipe, learned: Learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the best one stays: not the last, and not the base, which was better than all."""
    course, strengths = [1.0, 4.0, 3.0, 3.1, 3.2], [3.0, 2.9, 3.1, 3.2]
    nats = iter([0.5, *course, *strengths, 2.5])  # the first and the last are what it is judged by
    steps = itertools.count(1)

    def step(self: Trainer, number: int, batch: Batch) -> jax.Array:
        self.weights = jax.tree.map(lambda factor: jnp.full_like(factor, next(steps) // 21), self.weights)
        return jnp.float32(5.0)

    (tmp_path / "run").mkdir()
    shutil.copy(learned.run / "corpus.npz", tmp_path / "run")
    monkeypatch.setattr(Trainer, "validate", lambda self, batches: next(nats))
    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr(Dataset, "batch", lambda *_: None)
    stopped = learn(midi, tmp_path, replace(recipe, epochs=50, patience=2), resume=True)
    assert [entry["held_out"] for entry in stopped.figures()] == course
    assert stopped.result == Result(stopped.result.path, 0.5, 2.5, strength=0.75)


@pytest.fixture
def batch(midi: Path) -> loss.Arrays:
    piece = corpus.read(midi / "tune 0.mid", "tune 0.mid")
    found = Dataset([piece], tiny.CONFIG.vocabulary, 96, 1.0, keys=True).batch(2, 0, 0)
    return tuple(map(jnp.asarray, (found.rows, found.labels, found.blocks, found.counted)))


def heard(recipe: StyleRecipe, batch: loss.Arrays, seed: int) -> tuple[float, Any, float]:
    """The training loss of some factors with its gradient, and what a validation tells of them."""
    taught = subject(tiny.model(), recipe, 10)
    factors = jax.tree.map(lambda factor: jnp.asarray(factor) + 0.05, taught.weights)

    @jax.jit
    def figures(factors: Any, frozen: Any, key: jax.Array) -> Any:
        value, gradient = jax.value_and_grad(lambda f: taught.loss(f, frozen, batch, key)[0])(factors)
        return value, gradient, taught.score(factors, frozen, batch)[0]

    value, gradient, measured = figures(factors, taught.frozen, jax.random.key(seed))
    return float(value), gradient, float(measured)


def test_dropout_is_for_training_only(
    recipe: StyleRecipe, batch: loss.Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "LEAK_STRIDE", 1)
    deaf, _, measured = heard(replace(recipe, dropout=0.5), batch, 0)
    again, _, _ = heard(replace(recipe, dropout=0.5), batch, 0)
    other, _, _ = heard(replace(recipe, dropout=0.5), batch, 1)
    assert deaf == again
    assert len({deaf, other, measured}) == 3
    plain, _, same = heard(replace(recipe, dropout=0.0), batch, 0)
    assert plain == pytest.approx(same, rel=1e-5)
    assert same == measured


def test_what_is_dropped_is_made_up_for() -> None:
    dropout = lora.Dropout(jnp.float32(0.25), jax.random.key(0))
    heard = np.asarray(dropout.heard(jnp.full((100, 100), 3.0)))
    assert set(np.unique(heard)) == {0.0, 4.0}
    assert heard.mean() == pytest.approx(3.0, abs=0.1)
    assert (heard != np.asarray(dropout.within(1).heard(jnp.full((100, 100), 3.0)))).any()


def test_computing_blocks_twice_changes_nothing(
    recipe: StyleRecipe, batch: loss.Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, gradient, _ = heard(recipe, batch, 0)
    monkeypatch.setattr(loss, "RECOMPUTED_FROM", 0)
    twice, same, _ = heard(recipe, batch, 0)
    assert twice == pytest.approx(once, rel=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3), gradient, same)


def test_gradients_are_gathered_before_an_update(recipe: StyleRecipe, midi: Path) -> None:
    piece = corpus.read(midi / "tune 0.mid", "tune 0.mid")
    data = Dataset([piece], tiny.CONFIG.vocabulary, 96, 1.0, keys=True)
    with jax.numpy_dtype_promotion("standard"):
        trainer = Trainer(subject(tiny.model(), replace(recipe, warmup_steps=0), 8), 2, 0)
        moved = []
        for step in range(4):
            before = jax.device_get(trainer.weights)
            trainer.step(step, data.batch(2, 0, step))
            after = jax.device_get(trainer.weights)
            moved.append(any(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), before, after))))
    assert moved == [False, True, False, True]


def test_a_recipe_takes_only_what_its_kind_has(tmp_path: Path) -> None:
    assert chosen(StyleRecipe, {"rank": 8}) == StyleRecipe(rank=8)
    with pytest.raises(ConfigError, match="--rank means nothing"):
        chosen(Recipe, {"rank": 8})
    with pytest.raises(ConfigError, match="--chord-share means nothing"):
        chosen(StyleRecipe, {"chord_share": 0.5})


def test_a_run_goes_on_with_its_own_recipe(tmp_path: Path) -> None:
    begun = StyleRecipe(base="mine", rank=8, epochs=10, targets=("k_proj", "lm_head"))
    assert resumed(tmp_path, StyleRecipe, {"rank": 4}, {"base": "usual"}) == StyleRecipe(base="usual", rank=4)
    save(tmp_path, begun)
    assert resumed(tmp_path, StyleRecipe, {}, {"base": "usual"}) == begun
    assert resumed(tmp_path, StyleRecipe, {"epochs": 20, "rank": 8}) == replace(begun, epochs=20)
    with pytest.raises(ConfigError, match="another --rank"):
        resumed(tmp_path, StyleRecipe, {"rank": 4})
    with pytest.raises(ConfigError, match="another kind"):
        resumed(tmp_path, Recipe, {})


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--name", "no name"], 2, "'no name' cannot be a style's name"),
        (["--full", "--rank", "4"], 2, "--rank means nothing in training a whole base"),
        (["--full", "--styles", "mine"], 2, "--styles means nothing"),
        (["--steps", "4"], 2, "--steps means nothing in training a style"),
        (["--low", "60"], 2, "--low, --high: low and high go together"),
        (["--low", "60", "--high", "65"], 2, "at least 11 semitones"),
        (["--targets", "q_proj,nose"], 2, "--targets: only q_proj"),
        (["--title", "two\nlines"], 2, "--title: "),
        (["--base", "nowhere"], 1, "nowhere/config.json: cannot be read"),
        (["--name", "there"], 1, "styles/there is a style already"),
        (["--out", "earlier"], 1, "earlier holds an earlier run; go on with --resume"),
        ([], 1, "music: there is no such folder"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    words: list[str], code: int, said: str, jazzd: Run, tiny_base: Path
) -> None:
    Path("styles/there").mkdir(parents=True)
    Path("styles/there/adapter_config.json").touch()
    Path("earlier").mkdir()
    Path("earlier/recipe.json").touch()
    words = [*([] if "--name" in words else ["--name", "new"]), *words]
    if not {"--base", "--full"} & set(words):
        words += ["--base", str(tiny_base)]
    got, out, err = jazzd("finetune", "music", *words)
    assert (got, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1
    assert not Path("runs").exists()


def test_a_style_of_that_name_is_put_aside(
    learned: Learned, midi: Path, recipe: StyleRecipe, tmp_path: Path
) -> None:
    assert learned.result.replaced is None
    before = tmp_path / "styles" / "walking.safetensors"
    before.parent.mkdir()
    before.write_bytes(b"another style")
    again = learn(midi, tmp_path, replace(recipe, epochs=1))
    assert again.result.path == before
    assert before.read_bytes() != b"another style"
    assert again.result.replaced is not None
    assert again.result.replaced.read_bytes() == b"another style"


def test_too_little_music_is_one_sentence(midi: Path, recipe: StyleRecipe, tmp_path: Path) -> None:
    for name, write, said in (
        ("none", lambda folder: folder.mkdir(), "no .mid or .midi file in it"),
        ("one", lambda folder: tiny.write_midi(folder / "one.mid", tiny.walk(20)), "32 notes at least"),
        ("drums", lambda folder: write_drums(folder / "drums.mid"), "only drums"),
    ):
        write(tmp_path / name)
        with pytest.raises(MidiError, match=said):
            train_style(tmp_path / name, tmp_path / "run", tmp_path / "style.safetensors", recipe, CONSOLE)
    assert not (tmp_path / "run").exists()


def test_one_tune_alone_is_stopped_by_its_own_end(
    recipe: StyleRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_midi(tmp_path / "midi" / "one.mid", tiny.walk(100), CHANGES)
    learned = learn(tmp_path / "midi", tmp_path, replace(recipe, epochs=3), console=Console(stderr=True))
    said = " ".join(capsys.readouterr().err.split())
    assert "learning from 1 piece (80 notes) stopping by 1 piece (20 notes)" in said
    assert "nothing is held out to judge by; add more tunes" in said
    assert not learned.result.held_out
    assert learned.result.style != learned.result.base
    taught, last = corpus.load(learned.run / "corpus.npz")
    assert (taught.chords, last.chords) == (tuple(CHANGES), ((1600, "Cmaj7"),))


def test_a_style_that_does_not_fit_the_disk_is_written_later(
    midi: Path, learned: Learned, recipe: StyleRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write = learned.result.path.read_bytes(), style.write

    def cramped(path: Path, found: style.Style) -> None:
        with disk.full(1000):
            write(path, found)

    monkeypatch.setattr(style, "write", cramped)
    with pytest.raises(ModelError, match=r"walking\.safetensors: cannot be written \(File.*--resume"):
        learn(midi, learned.run.parent, recipe, resume=True)
    assert [path.name for path in learned.result.path.parent.iterdir()] == ["walking.safetensors"]
    assert learned.result.path.read_bytes() == before


def test_the_command_prints_both_figures_and_where_the_style_is(
    jazzd: Run, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def train(*arguments: Any) -> Result:
        asked.extend(arguments)
        return Result(arguments[2], 8.125, 7.25)

    monkeypatch.setattr(tune, "train_style", train)
    words = ["--name", "coltrane", "--rank", "8", "--targets", "q_proj, lm_head", "--base", str(tiny_base)]
    code, out, _ = jazzd("finetune", "music", *words)
    path = Path.cwd() / "styles" / "coltrane.safetensors"
    assert code == 0
    assert out.splitlines() == [
        "held-out pieces, nats per note: 8.125 for the base, 7.250 with coltrane",
        f"coltrane is in {path}: a running daemon has it at once",
    ]
    wanted = StyleRecipe(base=str(tiny_base), rank=8, targets=("q_proj", "lm_head"))
    assert (asked[0], asked[1], asked[2], asked[3]) == (Path("music"), Path("runs/coltrane"), path, wanted)
