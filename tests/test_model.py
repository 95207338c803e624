"""Up the tower against the reference, from the embedding to the loss, and what must hold of any weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference import TOLERANCE, config, golden, mix, model

from jazzd.moonbeam import frequencies
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.model import Moonbeam, causal_mask, packed_mask, token_nll
from jazzd.moonbeam.tokens import FIELDS

POSITION_NAMES = ("onset", "dur", "octave", "pitch", "velocity")
BASES = dict(zip(POSITION_NAMES, [f.base for f in FIELDS if f.base], strict=True))


def rows(case: str) -> jax.Array:
    return jnp.asarray(golden("tiny_inputs")[f"{case}_input_ids"], jnp.int32)


def labels(case: str) -> jax.Array:
    return jnp.asarray(golden("tiny_inputs")[f"{case}_labels"], jnp.int32)


def mask(case: str) -> jax.Array:
    """Case A is plainly causal, case B packed."""
    return (
        packed_mask(jnp.asarray(golden("tiny_inputs")["B_attention_mask"]))
        if case == "B"
        else causal_mask(rows(case))
    )


def close(ours: jax.Array | np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("case", ["A", "B"])
def test_embeddings(case: str) -> None:
    close(model().embedding.concatenated(rows(case)), golden("tiny_outputs")[f"{case}_embed_concat"])
    close(model().embedding(rows(case)), golden("tiny_outputs")[f"{case}_embeddings"])


@pytest.mark.parametrize("case", ["A", "B"])
def test_every_layer_the_norm_and_the_summary(case: str) -> None:
    x, rotation = model().embedding(rows(case)), model().rotation(rows(case))
    for i, block in enumerate(model().blocks):
        x, _ = block(x, rotation, mask(case))
        close(x, golden("tiny_outputs")[f"{case}_layer{i}"])
    close(model().norm(x), golden("tiny_outputs")[f"{case}_final_hidden"])
    close(model()(rows(case), mask(case))[0], golden("tiny_outputs")[f"{case}_summary"])


@pytest.mark.parametrize("case", ["A", "B"])
def test_note_decoder_and_logits(case: str) -> None:
    theirs, decoder = golden("tiny_outputs"), model().decoder
    summaries = model()(rows(case), mask(case))[0][:, :-1]
    outputs = decoder.outputs(summaries, labels(case)[:, 1:, :-1])
    close(outputs, theirs[f"{case}_gru_out"])
    logits = decoder.logits(outputs)
    close(logits[:, theirs[f"{case}_logits_pos"]], theirs[f"{case}_logits_at_pos"])
    close(jax.nn.logsumexp(logits, axis=-1), theirs[f"{case}_logits_logsumexp"])
    np.testing.assert_array_equal(jnp.argmax(logits, axis=-1), theirs[f"{case}_logits_argmax"])


def test_one_step_of_the_note_decoder_is_its_unrolled_self() -> None:
    decoder = model().decoder
    summaries, inputs = model()(rows("A"), mask("A"))[0], labels("A")[..., :-1]
    hidden, stepped = decoder.start(summaries), []
    for f in range(len(FIELDS)):
        output, hidden = decoder.step(inputs[..., f], hidden)
        stepped.append(output)
    close(jnp.stack(stepped, axis=-2), np.asarray(decoder.outputs(summaries, inputs)))


def test_a_fields_logits_are_its_slice_of_all() -> None:
    decoder, vocabulary = model().decoder, config().vocabulary
    x = jax.random.normal(jax.random.key(0), (3, config().gru_hidden))
    everything = decoder.logits(x)
    for offset, size in zip(vocabulary.offsets, vocabulary.sizes, strict=True):
        close(decoder.field_logits(x, offset, size), np.asarray(everything[:, offset : offset + size]))


@pytest.mark.parametrize("case", ["A", "B"])
def test_loss(case: str) -> None:
    nll = token_nll(model(), rows(case), labels(case), mask(case))
    close(nll, golden("tiny_outputs")[f"{case}_token_nll"])
    assert float(nll.mean()) == pytest.approx(float(golden("tiny_outputs")[f"{case}_loss"]), abs=TOLERANCE)


@pytest.mark.parametrize("case", ["A", "B"])
def test_lora(case: str) -> None:
    nll = token_nll(model(), rows(case), labels(case), mask(case), mix())
    close(nll, golden("tiny_lora_outputs")[f"{case}_token_nll"])


def test_a_style_of_weight_zero_is_the_plain_base_to_the_bit() -> None:
    assert mix(0.0) is None
    styles = mix()
    assert styles
    styles = styles._replace(weights=jnp.zeros_like(styles.weights))
    plain = token_nll(model(), rows("A"), labels("A"), mask("A"))
    np.testing.assert_array_equal(token_nll(model(), rows("A"), labels("A"), mask("A"), styles), plain)


@pytest.mark.parametrize(
    ("size", "of"), [("tiny", config()), ("309M", Config.small()), ("839M", Config.medium())]
)
@pytest.mark.parametrize("name", POSITION_NAMES)
def test_frequency_tables_are_torchs(size: str, of: Config, name: str) -> None:
    theirs = golden("freq_tables")
    np.testing.assert_array_equal(
        frequencies.rope(BASES[name], of.head), theirs[f"rope_inv_freq_{size}_{name}"]
    )
    np.testing.assert_array_equal(
        frequencies.fme(BASES[name], of.embedding), theirs[f"fme_angles_{size}_{name}"]
    )


def test_no_summary_depends_on_a_later_row() -> None:
    """The gradient of row t's summary is nought in every embedding after t."""
    graph, state = nnx.split(model())

    def summary_at(t: int, noise: jax.Array) -> jax.Array:
        probed = nnx.merge(graph, state)
        x, rotation = probed.embedding(rows("A")[:1]) + noise, probed.rotation(rows("A")[:1])
        for block in probed.blocks:
            x, _ = block(x, rotation, mask("A")[:1])
        return jnp.sum(jnp.square(probed.norm(x)[0, t]))

    for t in (0, 7, 30):
        by_row = jnp.abs(
            jax.grad(lambda noise, t=t: summary_at(t, noise))(jnp.zeros((1, 48, config().hidden)))
        ).max(-1)[0]
        assert float(by_row[: t + 1].min()) > 0
        assert float(by_row[t + 1 :].max()) == 0


def test_published_sizes_count_as_published() -> None:
    for of, parameters in ((Config.medium(), 838_847_744), (Config.small(), 309_424_128)):
        state = nnx.state(nnx.eval_shape(lambda of=of: Moonbeam(of, nnx.Rngs(0))), nnx.Param)
        assert sum(leaf.size for leaf in jax.tree.leaves(state)) == parameters
