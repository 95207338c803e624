"""Training a style: the factors of an adapter on a frozen base (`jazzd finetune`)."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from pydantic import ValidationError
from rich.console import Console

from jazzd.engine.protocol import Sampling
from jazzd.errors import ConfigError, MidiError, plain
from jazzd.moonbeam import decode, lora, resident, targets, weights
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.model import Moonbeam
from jazzd.moonbeam.targets import Adapter, Place
from jazzd.moonbeam.tokens import ONSET, Vocabulary
from jazzd.styles import style
from jazzd.styles.container import replacing
from jazzd.styles.manifest import Manifest
from jazzd.styles.style import BaseFacts, Style
from jazzd.teach import audition, line, loss, train
from jazzd.teach.corpus import Piece
from jazzd.teach.dataset import PADDING_BLOCK, Batch, Dataset
from jazzd.teach.evaluate import padded, piece_windows
from jazzd.teach.history import History
from jazzd.teach.prepare import prepare
from jazzd.teach.recipe import StyleRecipe
from jazzd.teach.train import Course
from jazzd.teach.trainer import Subject, Team, Trainer, Tree, leads, set_up

KEYS = 12
LEARNING_RATE, AT_WIDTH = 2e-4, 1920
"""What suits the 839M model; others have the more the narrower they are: 1e-3 for the built-in base."""
SHORTEST_EPOCH, LONGEST_EPOCH = 20, 100
"""Steps from one validation to the next: an epoch's, within these bounds."""
MOST_WINDOWS = 64
"""A validation looks at no more windows, taken evenly from all that there are."""
TAUGHT_PART = 0.8
"""Of a lone tune: its end is what the training is stopped by."""
FEWEST_NOTES = 32
"""A lone piece with fewer is not cut: neither part would tell anything."""
STRENGTHS = (1.0, 0.75, 0.5, 0.25)
"""How much of what was learned may be kept. What a few pieces teach is too much of a good thing for others:
three quarters of it foretold the validation pieces of all three players in the box best."""
HELD_OUT = "held_out"
BEST, REPLACED = "best.safetensors", "replaced.safetensors"


@dataclass(frozen=True)
class Result:
    """A finished style, and the nats per note of the pieces that were held out, without it and with it."""

    path: Path
    base: float
    style: float
    strength: float = 1.0
    """How much of what was learned is in the style."""
    held_out: bool = True
    """Otherwise there was one tune alone, and these are of its end, which the training was stopped by."""
    replaced: Path | None = None
    """Where the style is that `path` was before."""


def train_style(
    source: Path,
    run: Path,
    target: Path,
    choices: StyleRecipe,
    console: Console,
    resume: bool = False,
    team: Team | None = None,
) -> Result:
    """Learn a style from a dataset, or from the MIDI files below `source`, and write its file to `target`.

    One tune alone is stopped by its own end.

    Raises MidiError for a folder with too little music or a run that exists and is not to be resumed,
    ModelError for a base that cannot be used, StyleError when `target` cannot be written, and what
    `train.train` raises.
    """
    set_up(team)
    if not resume:
        train.check_new(run)
    config, mark = weights.identify(choices.base)
    manifest = _manifest(choices, mark)
    decode.use_compile_cache()
    pieces = _stoppable(train.read(source, run, console, prepare), source)
    _tell(pieces, console)
    base = weights.load(choices.base, resident.element_type(choices.dtype), choices.numerics)
    train.begin(run, choices, pieces)
    if not resume and leads():
        _put_aside(target, run / REPLACED)
    course = _course(pieces, run, target.stem, choices, config, manifest)
    trainer = Trainer(subject(base.model, choices, course.steps), choices.batch_size, choices.seed)
    history, judging = History.load(run, writes=leads()), _batches(_judging(pieces), config, choices)
    plain = trainer.validate(judging)
    train.train(trainer, course, history, run, console)
    facts = BaseFacts(mark, config, partial(weights.tensors, choices.base))
    trainer.weights = _factors(style.read(run / BEST, facts).adapter, manifest)
    strength = _temper(trainer, course.validation[HELD_OUT])
    best = _adapter(trainer.weights, manifest, config)
    replaced = run / REPLACED if (run / REPLACED).exists() else None
    result = Result(target, plain, trainer.validate(judging), strength, not _alone(pieces), replaced)
    told = json.dumps(_summary(choices, history, pieces, result))
    if leads():
        with train.writing(run):
            style.write(target, Style(manifest.model_copy(update={"training": told}), best))
        charts = [line.of_piece(piece) for piece in _judging(pieces)]
        _audition(run, base, Style(manifest, best), charts, console)
    return result


def _put_aside(target: Path, aside: Path) -> None:
    """Copies the style that is there before this run, if one is. Raises StyleError."""
    if target.is_file():
        with replacing(aside) as partial:
            shutil.copyfile(target, partial)


def _stoppable(pieces: Sequence[Piece], source: Path) -> list[Piece]:
    """The pieces, and some to stop by: if there are none, the last part of each. Raises MidiError."""
    found = list(pieces)
    if not train.on_side(found, "validation"):
        found = [part for piece in found for part in _cut(piece)]
    if not all(train.on_side(found, side) for side in ("train", "validation")):
        raise MidiError(f"{source}: too little music: {FEWEST_NOTES} notes at least; add more files")
    return found


def _cut(piece: Piece) -> list[Piece]:
    """The piece in two: most of it to learn from, and its end to stop by."""
    onsets = piece.rows[:, ONSET]
    at = int(onsets[int(TAUGHT_PART * len(onsets))])
    late = onsets >= at
    if len(onsets) < FEWEST_NOTES or late.all():
        return [piece]
    before = tuple(change for change in piece.chords if change[0] < at)
    sounding = [(at, symbol) for _, symbol in before[-1:]]
    after = dict([*sounding, *piece.chords[len(before) :]])
    return [
        replace(piece, rows=piece.rows[~late], chords=before),
        replace(piece, rows=piece.rows[late], chords=tuple(after.items()), side="validation"),
    ]


def _alone(pieces: Sequence[Piece]) -> bool:
    """Whether what it is stopped by is the end of what it learns from."""
    return bool({p.name for p in pieces if p.side == "train"} & {p.name for p in pieces if p.side != "train"})


def _course(
    pieces: Sequence[Piece], run: Path, name: str, choices: StyleRecipe, config: Config, manifest: Manifest
) -> Course:
    length, epoch = _length(config, choices), _epoch(pieces, choices)
    taught = _dataset(train.on_side(pieces, "train"), config.vocabulary, length, choices)
    return Course(
        title=f"Training of {name}",
        steps=choices.epochs * epoch,
        validate_every=min(max(epoch, SHORTEST_EPOCH), LONGEST_EPOCH),
        patience=choices.patience,
        draw=partial(taught.batch, choices.batch_size, choices.seed),
        validation={HELD_OUT: _batches(train.on_side(pieces, "validation"), config, choices)},
        keep=lambda factors: style.write(run / BEST, Style(manifest, _adapter(factors, manifest, config))),
        base=choices.base,
        mark=manifest.base,
    )


def _length(config: Config, choices: StyleRecipe) -> int:
    """Rows of a window: no more than the base plays with."""
    return min(choices.length, resident.LONGEST_WINDOW, config.window)


def _audition(
    run: Path, base: weights.Base, learned: Style, charts: Sequence[line.Line], console: Console
) -> None:
    """Let the base and the style play over the chords of these pieces, to be heard side by side."""
    rack = lora.Rack(base.model.config, base.dtype)
    rack.put("learned", learned.adapter)
    sampling = Sampling.model_validate(learned.manifest.settings)
    after, folder = audition.Player("learned", rack.mix({"learned": 1.0}), sampling), run / "audition"
    with train.writing(run):
        audition.before_and_after(folder, base.model, audition.Player(), after, charts)
    console.print(f"{folder} has what the base plays, and what it plays now", highlight=False, soft_wrap=True)


def _epoch(pieces: Sequence[Piece], choices: StyleRecipe) -> int:
    """Steps in which each piece comes in every key once, on average."""
    return -(-KEYS * len(train.on_side(pieces, "train")) // choices.batch_size)


def _judging(pieces: Sequence[Piece]) -> list[Piece]:
    """Neither learned from nor stopped by; where there are too few tunes for that, those it is stopped by."""
    return train.on_side(pieces, "test") or train.on_side(pieces, "validation")


def subject(model: Moonbeam, choices: StyleRecipe, steps: int) -> Subject:
    """New factors, which change nothing yet."""
    graph, frozen = nnx.split(model)
    config, dtype = model.config, model.norm.scale[...].dtype

    def nats(factors: Tree, frozen: Tree, batch: loss.Arrays, key: jax.Array) -> loss.Nats:
        mix = _mix(factors, choices, config, dtype)
        if choices.dropout:
            mix = mix._replace(dropout=lora.Dropout(jnp.float32(choices.dropout), key))
        return loss.nats(nnx.merge(graph, frozen), batch, mix)

    def score(factors: Tree, frozen: Tree, batch: loss.Arrays) -> loss.Nats:
        return loss.exact_nats(nnx.merge(graph, frozen), batch, _mix(factors, choices, config, dtype))

    return Subject(
        _fresh(config, choices), nnx.to_pure_dict(frozen), nats, score, _optimizer(config, choices, steps)
    )


def _fresh(config: Config, choices: StyleRecipe) -> Tree:
    """What each column listens to is random, and what it adds is nothing."""
    dice, factors = np.random.default_rng(choices.seed), {}
    for place, (inputs, outputs) in targets.shapes(config).items():
        if place[1] in choices.targets:
            # As PEFT draws them; a row that is looked up is one input that is 1.
            bound = 1.0 if place[1] == "decoder_embedding" else inputs**-0.5
            factors[targets.module(place)] = {
                "down": dice.uniform(-bound, bound, (choices.rank, inputs)).astype(np.float32),
                "up": np.zeros((choices.rank, outputs), np.float32),
            }
    return factors


def _places(factors: Tree, config: Config) -> dict[Place, Tree]:
    """The factors by their places."""
    modules = {targets.module(place): place for place in targets.shapes(config)}
    return {modules[name]: pair for name, pair in factors.items()}


def _mix(factors: Tree, choices: StyleRecipe, config: Config, dtype: Any) -> lora.Mix:
    pairs = {
        place: lora.Pair(pair["down"].astype(dtype), pair["up"].astype(dtype))
        for place, pair in _places(factors, config).items()
    }
    column_weights = jnp.full(choices.rank, choices.alpha / choices.rank, dtype)
    return lora.mix_of(pairs, column_weights, config.layers)


def _adapter(factors: Tree, manifest: Manifest, config: Config) -> Adapter:
    """The factors as a style has them."""
    return Adapter(
        manifest.rank,
        {
            place: (np.asarray(pair["down"]).T, np.asarray(pair["up"]) * np.float32(manifest.scale))
            for place, pair in _places(factors, config).items()
        },
    )


def _factors(adapter: Adapter, manifest: Manifest) -> Tree:
    """The other way round."""
    return {
        targets.module(place): {"down": np.asarray(down).T, "up": np.asarray(up) / np.float32(manifest.scale)}
        for place, (down, up) in adapter.factors.items()
    }


def _temper(trainer: Trainer, batches: Sequence[Batch]) -> float:
    """Weaken the factors to the strength that foretells these batches best; returns it."""
    learned, nats = trainer.weights, {}
    for strength in STRENGTHS:
        trainer.weights = _weakened(learned, strength)
        nats[strength] = trainer.validate(batches)
    best = min(STRENGTHS, key=lambda strength: nats[strength])
    trainer.weights = _weakened(learned, best)
    return best


def _weakened(factors: Tree, strength: float) -> Tree:
    return {name: pair | {"up": pair["up"] * np.float32(strength)} for name, pair in factors.items()}


def _optimizer(config: Config, choices: StyleRecipe, steps: int) -> optax.GradientTransformation:
    updates = max(1, steps // choices.grad_accumulation)
    rate = choices.learning_rate or LEARNING_RATE * AT_WIDTH / config.hidden
    warmup = min(choices.warmup_steps, updates // 4)
    schedule = optax.warmup_cosine_decay_schedule(0.0 if warmup else rate, rate, warmup, updates)
    optimizer = optax.chain(
        optax.clip_by_global_norm(choices.clip), optax.adamw(schedule, weight_decay=choices.weight_decay)
    )
    if choices.grad_accumulation == 1:
        return optimizer
    return optax.MultiSteps(optimizer, choices.grad_accumulation).gradient_transformation()


def _manifest(choices: StyleRecipe, mark: str) -> Manifest:
    """What the style's file will say. Raises ConfigError for what it cannot."""
    said = ("rank", "alpha", "targets", "title", "license", "author", "program", "temperature", "low", "high")
    try:
        return Manifest(base=mark, **{name: getattr(choices, name) for name in said})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = "--" + str(first["loc"][0]) if first["loc"] else "--low, --high"
        raise ConfigError(f"{option}: {plain(first)}") from None


def _tell(pieces: Sequence[Piece], console: Console) -> None:
    """What is learned from and what is not."""
    for side, words in (("train", "learning from"), ("validation", "stopping by"), ("test", "judging by")):
        if found := [piece for piece in pieces if piece.side == side]:
            word = "piece" if len(found) == 1 else "pieces"
            notes = sum(len(piece.rows) for piece in found)
            console.print(f"{words} {len(found)} {word} ({notes:,} notes)", highlight=False, soft_wrap=True)
    if _alone(pieces):
        console.print(
            "that is one tune alone, stopped by its own end: nothing is held out to judge by; add more tunes",
            highlight=False,
            soft_wrap=True,
        )


def _dataset(pieces: Sequence[Piece], vocabulary: Vocabulary, length: int, choices: StyleRecipe) -> Dataset:
    """In all keys, and a long piece no more often than a short one: a style is what they have in common."""
    over_chords = sum(bool(piece.chords) for piece in pieces) / len(pieces)
    return Dataset(
        pieces,
        vocabulary,
        length,
        over_chords,
        keys=True,
        every_key=True,
        tempo=choices.tempo,
        velocity=choices.velocity,
        even=True,
    )


def _batches(pieces: Sequence[Piece], config: Config, choices: StyleRecipe) -> list[Batch]:
    """What `jazzd evaluate` would measure."""
    vocabulary, length, size = config.vocabulary, _length(config, choices), choices.batch_size
    windows = [window for piece in pieces for window in piece_windows(piece, vocabulary, length)]
    windows = windows[:: -(-len(windows) // MOST_WINDOWS)]
    batches = []
    for start in range(0, len(windows), size):
        part = windows[start : start + size]
        rows = padded([window.rows for window in part], size, length)
        counted = np.zeros(rows.shape[:2], bool)
        for i, window in enumerate(part):
            counted[i, : len(window.scored)] = window.scored
        labels = np.stack([vocabulary.labels(sequence) for sequence in rows])
        batches.append(Batch(rows, labels, np.full(rows.shape[:2], PADDING_BLOCK), counted))
    return batches


def _summary(
    choices: StyleRecipe, history: History, pieces: Sequence[Piece], result: Result
) -> dict[str, Any]:
    """Of the training, for the style's file."""
    taught, judging = train.on_side(pieces, "train"), _judging(pieces)
    return {
        "pieces": len(taught),
        "notes": sum(len(piece.rows) for piece in taught),
        "epochs": round(history.best["step"] / _epoch(pieces, choices), 1),
        "strength": result.strength,
        "held_out": {
            "pieces": len(judging) if result.held_out else 0,
            "notes": sum(len(piece.rows) for piece in judging),
            "base_nats": round(result.base, 4),
            "style_nats": round(result.style, 4),
        },
        "seed": choices.seed,
    }
