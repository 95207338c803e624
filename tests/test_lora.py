"""Styles on the device: mixes against weights merged by hand, and who is resident."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import config, golden, mix, model, tensors

from jazzd.errors import StyleError
from jazzd.moonbeam import lora, weights
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.decode import Decoder
from jazzd.moonbeam.model import Moonbeam, causal_mask, token_nll
from jazzd.moonbeam.sampling import Controls
from jazzd.moonbeam.targets import ATTENTION, DECODER, MLP, Adapter, shapes

CHORD = np.array([[10, 200, 4, pitch_class, 4, 70] for pitch_class in (0, 4, 7, 11)])
GREEDY = Controls(temperature=0.0)


@cache
def scored() -> Any:
    """`token_nll` of the golden rows, compiled once for each width of mix."""
    rows = jnp.asarray(golden("tiny_inputs")["A_input_ids"][:, :24], jnp.int32)
    labels = jnp.asarray(golden("tiny_inputs")["A_labels"][:, :24], jnp.int32)
    graph, _ = nnx.split(model())
    return jax.jit(
        lambda weights, styles: token_nll(nnx.merge(graph, weights), rows, labels, causal_mask(rows), styles)
    )


def nll(styles: lora.Mix | None, of: Moonbeam | None = None) -> np.ndarray:
    return np.asarray(scored()(nnx.split(of or model())[1], styles))


def random_adapter(rank: int, seed: int, targets: tuple[str, ...], size: float = 0.1) -> Adapter:
    rng = np.random.default_rng(seed)
    return Adapter(
        rank,
        {
            place: (
                rng.normal(0, size, (inputs, rank)).astype(np.float32),
                rng.normal(0, size, (rank, outputs)).astype(np.float32),
            )
            for place, (inputs, outputs) in shapes(config()).items()
            if place[1] in targets
        },
    )


def merged(adapter: Adapter, weight: float = 1.0) -> Moonbeam:
    """The model with the adapter added to its weights."""
    changed = dict(tensors())
    for (layer, target), (down, up) in adapter.factors.items():
        if layer < 0:
            name = f"{'decoder.' if target == 'fc_out' else ''}{target}.weight"
        else:
            name = f"model.layers.{layer}.{'mlp' if target in MLP else 'self_attn'}.{target}.weight"
        delta = weight * down @ up
        changed[name] = changed[name] + (delta if target == "decoder_embedding" else delta.T)
    return weights.from_tensors(config(), changed, "merged")


@pytest.mark.parametrize(
    ("rank", "targets"),
    [(5, ("q_proj", "v_proj")), (16, ATTENTION), (24, ATTENTION), (40, ("gate_proj",)), (8, MLP)]
    + [(8, (target,)) for target in DECODER]
    + [(64, (*ATTENTION, *MLP, *DECODER))],
)
def test_a_style_among_others_is_that_style_merged_into_the_weights(
    rank: int, targets: tuple[str, ...]
) -> None:
    rack = lora.Rack(config(), jnp.float32)
    style = random_adapter(rank, 1, targets, 0.05)
    rack.put("other", random_adapter(9, 2, ATTENTION))
    rack.put("style", style)
    rack.put("third", random_adapter(16, 3, (*MLP, *DECODER)))
    np.testing.assert_allclose(
        nll(rack.mix({"other": 0.0, "style": 1.0})), nll(None, merged(style)), atol=1e-4
    )


def test_blends_add_up() -> None:
    a, b = random_adapter(4, 3, ("q_proj",)), random_adapter(20, 4, ("q_proj", "lm_head"))
    halves = {
        place: (
            np.hstack([a.factors[place][0], b.factors[place][0]]),
            np.vstack([0.3 * a.factors[place][1], 0.7 * b.factors[place][1]]),
        )
        for place in a.factors
    }
    both = Adapter(24, halves | {place: (d, 0.7 * u) for place, (d, u) in b.factors.items() if place[0] < 0})
    rack = lora.Rack(config(), jnp.float32)
    rack.put("a", a)
    rack.put("b", b)
    np.testing.assert_allclose(nll(rack.mix({"a": 0.3, "b": 0.7})), nll(None, merged(both)), atol=1e-4)


@cache
def decoder() -> Decoder:
    return Decoder(model(), 128, (lora.SLIM, lora.FULL))


def greedy(of: Decoder, n: int = 8) -> np.ndarray:
    state, rows = of.prefill(of.begin(0), CHORD), []
    for _ in range(n):
        state, row = of.step(state, GREEDY)
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("targets", [ATTENTION, DECODER])
def test_played_it_is_the_merged_model(targets: tuple[str, ...]) -> None:
    """The decoder's own path: folded products for what styles leave alone, none where they do not."""
    style = random_adapter(12, 5, targets)
    made = decoder()
    made.mix = mix(style=style)
    bent = greedy(made)
    made.mix = None
    np.testing.assert_array_equal(bent, greedy(Decoder(merged(style), 128)))
    assert (bent != greedy(made)).any()


def test_an_adapter_of_zeros_plays_the_plain_base() -> None:
    made = decoder()
    made.mix = None
    plain = greedy(made)
    made.mix = mix(style=random_adapter(12, 5, (*ATTENTION, *MLP, *DECODER), 0.0))
    np.testing.assert_array_equal(greedy(made), plain)
    made.mix = None


def test_who_was_not_used_for_longest_leaves_and_a_mix_outlives_it() -> None:
    rack = lora.Rack(config(), jnp.float32, capacity=3)
    styles = {name: random_adapter(16, seed, ("q_proj",)) for seed, name in enumerate("abcd")}
    for name in "abc":
        rack.put(name, styles[name])
    playing = rack.mix({"b": 1.0})
    rack.mix({"a": 1.0})
    rack.put("d", styles["d"])
    assert set(rack.names) == {"a", "b", "d"}
    rack.put("e", random_adapter(64, 9, ("q_proj",)))
    rack.put("f", random_adapter(64, 9, ("q_proj",)))
    assert rack.names == ("e", "f"), "eight pages, and room for three styles"
    np.testing.assert_allclose(nll(playing), nll(None, merged(styles["b"])), atol=1e-4)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 3), st.booleans()), max_size=12))
def test_whoever_is_in_the_rack_is_whole(history: list[tuple[str, int, bool]]) -> None:
    rack = lora.Rack(SMALL, jnp.float32, capacity=4)
    latest: dict[str, Adapter] = {}
    for seed, (name, pages, leaves) in enumerate(history):
        if leaves:
            rack.drop(name)
            latest.pop(name, None)
            continue
        latest[name] = Adapter(
            pages * lora.PAGE,
            {
                (0, "q_proj"): (
                    np.full((SMALL.hidden, pages * lora.PAGE), seed + 1, np.float32),
                    np.ones((pages * lora.PAGE, SMALL.hidden), np.float32),
                )
            },
        )
        rack.put(name, latest[name])
        for resident in rack.names:
            chosen = rack.mix({resident: 0.5})
            assert chosen
            down = np.asarray(chosen.layers[0]["q_proj"].down)
            rank = latest[resident].rank
            np.testing.assert_array_equal(down[:rank].T, latest[resident].factors[0, "q_proj"][0])
            assert np.asarray(chosen.weights).sum() == rank / 2


SMALL = Config(hidden=24, intermediate=24, layers=1, times=10, gru_hidden=4, gru_layers=1)


def test_more_than_fits_is_one_sentence() -> None:
    rack = lora.Rack(SMALL, jnp.float32, capacity=20)
    wide = {(0, "q_proj"): (np.zeros((24, 64), np.float32), np.zeros((64, 24), np.float32))}
    for name in "abc":
        rack.put(name, Adapter(64, wide))
    with pytest.raises(StyleError, match="mix fewer"):
        rack.mix(dict.fromkeys("abc", 0.3))
    with pytest.raises(StyleError, match="more than the 128"):
        rack.put("d", Adapter(129, wide))


def test_nothing_is_compiled_after_the_start() -> None:
    """Styles come and go, switch and blend, slim and full."""
    rack, made = lora.Rack(config(), jnp.float32, capacity=3), decoder()
    rack.warm_up()
    greedy(made, 2)
    compiled: list[str] = []

    def count(event: str, duration_secs: float, **_: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(count)
    for seed, targets in enumerate([lora.TAUGHT, ATTENTION, (*MLP, *DECODER), lora.TAUGHT, ("lm_head",)] * 2):
        rack.put(str(seed), random_adapter(4 + 9 * (seed % 5), seed, targets))
        for shares in ({name: 1.0} for name in rack.names):
            made.mix = rack.mix(shares)
            greedy(made, 2)
        made.mix = rack.mix({rack.names[0]: 0.25, str(seed): 0.75})
        greedy(made, 2)
    made.mix = None
    greedy(made, 2)
    assert not compiled
    jax.jit(lambda x: x + seed)(1.0)
    assert compiled, "the counter counts"
