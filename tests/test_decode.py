"""Playing note by note: the reference's greedy notes, rollback, dice, and every constraint."""

import dataclasses
from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import config, golden, mix, model

from jazzd.errors import ModelError
from jazzd.moonbeam import lora
from jazzd.moonbeam.decode import BUCKETS, Decoder, State
from jazzd.moonbeam.model import causal_mask
from jazzd.moonbeam.sampling import Controls, nucleus
from jazzd.moonbeam.tokens import DURATION, FIELDS, INSTRUMENT, OCTAVE, ONSET, PITCH_CLASS, VELOCITY, framed

CHORD = np.array([[10, 200, 4, pitch_class, 4, 70] for pitch_class in (0, 4, 7, 11)])
WILD = Controls(temperature=1.2, top_p=0.98)


@cache
def decoder(styled: bool = False) -> Decoder:
    made = Decoder(model(), 128, (lora.SLIM,) if styled else ())
    made.mix = mix() if styled else None
    return made


def notes(
    state: State, n: int, controls: Controls = WILD, of: Decoder | None = None
) -> tuple[State, np.ndarray]:
    rows = []
    for _ in range(n):
        state, row = (of or decoder()).step(state, controls)
        rows.append(row)
    return state, np.array(rows)


def begun(seed: int = 0, rows: np.ndarray = CHORD, of: Decoder | None = None) -> State:
    return (of or decoder()).prefill((of or decoder()).begin(seed), rows)


@pytest.mark.parametrize(
    ("prompt", "rows", "styled"),
    [
        ("single_prompt", "single_rows_cached", False),
        ("batch_prompt0", "batch_rows0", False),
        ("batch_prompt1", "batch_rows1", False),
        ("lora_prompt", "lora_rows_cached", True),
    ],
)
def test_greedy_notes_are_the_references(prompt: str, rows: str, styled: bool) -> None:
    """The reference found them with its cache and without."""
    given, expected = golden("tiny_greedy")[prompt][1:], golden("tiny_greedy")[rows]
    state = begun(0, given, decoder(styled))
    _, made = notes(state, len(expected) - len(given), Controls(temperature=0.0), decoder(styled))
    np.testing.assert_array_equal(np.concatenate([given, made]), expected)


def test_cached_equals_uncached() -> None:
    """Every greedy note is what one pass over the whole sequence, without a cache, finds likeliest."""
    _, made = notes(begun(), 12, Controls(temperature=0.0))
    rows = framed(np.concatenate([CHORD, made]))[:-1]
    labels = config().vocabulary.labels(rows)[None, -len(made) :]
    batch = jnp.asarray(rows, jnp.int32)[None]
    summaries, _ = model()(batch, causal_mask(batch))
    outputs = model().decoder.outputs(
        summaries[:, -len(made) - 1 : -1], jnp.asarray(labels[..., :-1], jnp.int32)
    )
    logits = np.asarray(model().decoder.logits(outputs))[0]
    vocabulary = config().vocabulary
    for f, (offset, size) in enumerate(zip(vocabulary.offsets, vocabulary.sizes, strict=True)):
        best = logits[:, f, offset : offset + size - 2].argmax(axis=-1) + offset
        np.testing.assert_array_equal(best, labels[0, :, f + 1])


@settings(max_examples=15)
@given(st.integers(0, 2**63), st.integers(1, 10), st.integers(1, 10), st.sampled_from(BUCKETS))
def test_rollback_then_going_on_is_never_having_gone_there(seed: int, n: int, back: int, detour: int) -> None:
    straight, _ = notes(begun(seed), n)
    _, expected = notes(straight, 4)
    state, _ = notes(begun(seed), n)
    state, _ = notes(state, back)
    state = decoder().prefill(state, np.repeat(CHORD[:1], detour, axis=0))
    state = decoder().rollback(state, back + detour)
    _, again = notes(state, 4)
    np.testing.assert_array_equal(again, expected)


def test_prefill_in_parts_is_prefill_in_one() -> None:
    rows = np.array([[7 * i, 20, 4 + i % 3, i % 12, 0, 60 + i] for i in range(75)])
    _, whole = notes(begun(1, rows), 6, Controls(temperature=0.0))
    state = begun(1, rows[:1])
    for start, end in ((1, 3), (3, 20), (20, 75)):
        state = decoder().prefill(state, rows[start:end])
    _, parts = notes(state, 6, Controls(temperature=0.0))
    np.testing.assert_array_equal(whole, parts)


def test_same_seed_same_notes_and_another_seed_others() -> None:
    made = [notes(begun(seed), 10)[1] for seed in (5, 5, 6)]
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


def test_free_time_leaves_rhythm_to_the_model() -> None:
    """At any temperature and top_p the same timeshift is drawn; what is played is bent as ever."""
    bends = [Controls(0.3, 0.2, free_time=True), Controls(1.0, 1.0), Controls(2.0, 0.9, free_time=True)]
    firsts = np.array([[notes(begun(seed), 1, bend)[1][0] for seed in range(12)] for bend in bends])
    for column in (ONSET, DURATION):
        np.testing.assert_array_equal(firsts[0, :, column], firsts[1, :, column])
        np.testing.assert_array_equal(firsts[2, :, column], firsts[1, :, column])
    assert (firsts[0] != firsts[1]).any()
    assert (firsts[2] != firsts[1]).any()
    careful = Controls(temperature=0.0)
    _, greedy = notes(begun(), 6, careful)
    _, again = notes(begun(), 6, dataclasses.replace(careful, free_time=True))
    np.testing.assert_array_equal(greedy, again)


def test_without_constraints_no_special_value_is_drawn() -> None:
    _, made = notes(begun(3), 60, Controls(temperature=2.0))
    values = np.column_stack([np.diff(made[:, ONSET], prepend=10), made[:, 1:]])
    assert (values >= 0).all()
    assert (values < np.array(config().vocabulary.sizes) - 2).all()


@settings(max_examples=25)
@given(
    st.integers(0, 127),
    st.integers(0, 127),
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=12, max_size=12),
    st.integers(0, 400),
    st.integers(0, 50),
    st.sampled_from([-1, 0, 66, 128]),
    st.sampled_from([0.0, 0.7, 1.5]),
)
def test_constraints_hold(
    a: int, b: int, weights: list[float], wait: int, slack: int, program: int, temperature: float
) -> None:
    low, high = min(a, b), max(a, b)
    floor = 10 + wait
    state, made = notes(
        begun(9),
        1,
        Controls(
            temperature=temperature,
            top_p=0.9,
            audible=True,
            program=program,
            low=low,
            high=high,
            floor=floor,
            latest=floor + slack,
            weights=tuple(weights),
        ),
    )
    row = made[0]
    pitch = 12 * row[OCTAVE] + row[PITCH_CLASS]
    assert floor <= row[ONSET] <= floor + slack
    assert low <= pitch <= high
    assert row[DURATION] >= 1
    assert 1 <= row[VELOCITY] <= 127
    assert program in (-1, row[INSTRUMENT])
    if any(weights[p % 12] for p in range(low, high + 1)):
        assert weights[row[PITCH_CLASS]] > 0
    assert int(state.length) == 1 + len(CHORD) + 1


def test_density_moves_onsets_together() -> None:
    spans = [
        notes(begun(2), 40, Controls(temperature=1.0, density=d))[1][-1, ONSET] for d in (-1.0, 0.0, 1.0)
    ]
    assert spans[0] > spans[1] > spans[2]


def test_a_full_window_and_a_wrong_rollback_are_refused() -> None:
    state = begun(0, np.repeat(CHORD, 31, axis=0))
    with pytest.raises(ModelError, match="do not fit"):
        decoder().prefill(state, CHORD)
    state, _ = notes(state, 3)
    with pytest.raises(ModelError, match="full"):
        decoder().step(state, WILD)
    with pytest.raises(ModelError, match="go back"):
        decoder().rollback(state, 128)


@pytest.mark.parametrize(("temperature", "top_p"), [(0.9, 0.95), (0.7, 0.6), (1.0, 0.9)])
def test_nucleus_is_the_distribution_the_reference_draws_from(temperature: float, top_p: float) -> None:
    theirs = golden("tiny_nucleus")
    for f in range(len(FIELDS)):
        ids = np.arange(theirs["logits"].shape[1])
        allowed = (ids >= theirs["allowed_lo"][f]) & (ids < theirs["allowed_hi_exclusive"][f])
        chances = nucleus(jnp.asarray(theirs["logits"][f]), jnp.asarray(allowed), temperature, top_p)
        np.testing.assert_allclose(chances, theirs[f"final_prob_T{temperature}_p{top_p}"][f], atol=1e-6)


def test_a_nucleus_without_an_allowed_value_falls_back_to_the_allowed_ones() -> None:
    logits = jnp.array([10.0, 0.0, 1.0, -2.0])
    chances = nucleus(logits, jnp.array([False, False, True, True]), 1.0, 0.5)
    np.testing.assert_allclose(chances, [0, 0, *np.exp([1, -2]) / np.exp([1, -2]).sum()], atol=1e-6)
