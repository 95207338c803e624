"""Moonbeam: rows of six integers in, a distribution over the next note out (SPEC sections 3 to 6).

Einsum letters: B batch, T time, S cache slots, N query heads, K kv heads, G query heads a kv head, H head
width, D model width, V output ids. Nothing here knows a checkpoint's names: see `weights.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jazzd.arrays import Array, Bool, Float, Int
from jazzd.moonbeam import frequencies, halves, lora
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.tokens import DURATION, EOS, FIELDS, INSTRUMENT, OCTAVE, ONSET, PITCH_CLASS, SOS, VELOCITY

POSITIONS = (ONSET, DURATION, OCTAVE, PITCH_CLASS, ONSET, VELOCITY)
"""The column that rotates each of the six groups of heads: the instrument's turns by the onset too."""
EOS_POSITION = 2**15
INIT = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")
"""Keeps the size of what passes through. The reference's 0.02 does so at its widths, not in a small model."""
TABLE_INIT = nnx.initializers.normal(1.0)
FORBIDDEN = float(np.finfo(np.float32).min)
"""Score of a row that must not be looked at."""

Cache = tuple[Float[Array, "B S K H"], Float[Array, "B S K H"]]
"""A layer's rotated keys and its values."""
Rotation = tuple[Float[Array, "B T 6 H"], Float[Array, "B T 6 H"]]
"""Cosines and sines of the six groups."""


class Kernel(nnx.Param[Array]):
    """A matrix that only `product` reads: under a float32 model it may stay in bfloat16, its type on disk."""


def product(x: Float[Array, "*any D"], kernel: Float[Array, "D F"]) -> Float[Array, "*any F"]:
    """`x @ kernel` in the type of `x`."""
    return x @ kernel if kernel.dtype == x.dtype else halves.product(x, kernel)


class FieldEmbedding(nnx.Module):
    """A number as sinusoids of its value, plus a bias, through a linear layer (SPEC 3.1)."""

    def __init__(self, base: int, config: Config, rngs: nnx.Rngs) -> None:
        self.bias = nnx.Param(jnp.zeros((1, config.embedding)))
        self.linear = nnx.Linear(config.embedding, config.embedding, kernel_init=INIT, rngs=rngs)
        self.base, self.rounded = base, config.numerics == "rounded"

    def __call__(self, values: Int[Array, "B T"]) -> Float[Array, "B T E"]:
        dtype = self.bias[...].dtype
        return self.linear((self.sinusoids(values) + self.bias[...].astype(jnp.float32)).astype(dtype))

    def sinusoids(self, values: Int[Array, "B T"]) -> Float[Array, "B T E"]:
        """Sines at even, cosines at odd places; in `rounded` numerics every step passes bfloat16."""
        angles = frequencies.fme(self.base, self.bias.shape[-1])
        even = jnp.arange(self.bias.shape[-1]) % 2 == 0
        if not self.rounded:
            phases = values[..., None].astype(jnp.float32) * angles
            return jnp.where(even, jnp.sin(phases), jnp.cos(phases))
        phases = _through_bf16(_through_bf16(values[..., None]) * frequencies.rounded(angles))
        return _through_bf16(jnp.where(even, jnp.sin(phases), jnp.cos(phases)))


class Table(nnx.Module):
    """A learned vector for each number. Unlike nnx.Embed it answers in the type of its weights."""

    def __init__(self, size: int, width: int, rngs: nnx.Rngs) -> None:
        self.embedding = nnx.Param(TABLE_INIT(rngs.params(), (size, width)))

    def __call__(self, ids: Int[Array, "*any"]) -> Float[Array, "*any E"]:
        return jnp.take(self.embedding[...], ids, axis=0)


class Embedding(nnx.Module):
    """Rows to the input of the first layer (SPEC 3.3)."""

    def __init__(self, config: Config, rngs: nnx.Rngs) -> None:
        self.fields = nnx.List([FieldEmbedding(f.base, config, rngs) for f in FIELDS if f.base is not None])
        self.instrument = Table(FIELDS[INSTRUMENT].size or 0, config.embedding, rngs)
        self.special = Table(2, config.hidden, rngs)
        self.inner = nnx.Linear(config.hidden, config.hidden // 2, kernel_init=INIT, rngs=rngs)
        self.outer = nnx.Linear(config.hidden // 2, config.hidden, kernel_init=INIT, rngs=rngs)

    def __call__(self, rows: Int[Array, "B T 6"]) -> Float[Array, "B T D"]:
        return self.outer(nnx.relu(self.inner(self.concatenated(rows))))

    def concatenated(self, rows: Int[Array, "B T 6"]) -> Float[Array, "B T D"]:
        """The six embeddings side by side; SOS and EOS rows, told by their onset, have one of their own."""
        onset = rows[..., ONSET, None]
        notes = jnp.where(onset < 0, 0, rows)
        numbers = [column for column in range(len(FIELDS)) if column != INSTRUMENT]
        parts = [embed(notes[..., column]) for embed, column in zip(self.fields, numbers, strict=True)]
        parts.insert(INSTRUMENT, self.instrument(notes[..., INSTRUMENT]))
        special = self.special(jnp.where(onset[..., 0] == EOS, 1, 0))
        return jnp.where(onset < 0, special, jnp.concatenate(parts, axis=-1))


class Norm(nnx.Module):
    """Root-mean-square norm, computed in float32."""

    def __init__(self, config: Config) -> None:
        self.scale = nnx.Param(jnp.ones(config.hidden))
        self.eps = config.eps

    def __call__(self, x: Float[Array, "*any D"]) -> Float[Array, "*any D"]:
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.eps)
        return wide.astype(x.dtype) * self.scale[...]


class Projection(nnx.Module):
    """A linear map without bias that styles may bend."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs) -> None:
        self.kernel = Kernel(INIT(rngs.params(), (inputs, outputs)))

    def __call__(
        self, x: Float[Array, "*any D"], name: str = "", bend: lora.Bend | None = None
    ) -> Float[Array, "*any F"]:
        return lora.bent(product(x, self.kernel[...]), x, name, bend)


class Attention(nnx.Module):
    """Multidimensional relative attention: each group of heads turns by another field (SPEC section 4)."""

    def __init__(self, config: Config, rngs: nnx.Rngs) -> None:
        kv = config.kv_heads * config.head
        self.q_proj = Projection(config.hidden, config.hidden, rngs)
        self.k_proj = Projection(config.hidden, kv, rngs)
        self.v_proj = Projection(config.hidden, kv, rngs)
        self.o_proj = Projection(config.hidden, config.hidden, rngs)
        self.head = config.head

    def __call__(
        self,
        x: Float[Array, "B T D"],
        rotation: Rotation,
        mask: Bool[Array, "B T S"],
        cache: Cache | None = None,
        slot: Int[Array, ""] | None = None,
        bend: lora.Bend | None = None,
    ) -> tuple[Float[Array, "B T D"], Cache]:
        """Attends to the cache, when there is one, after writing the T new rows into it from `slot` on."""
        q = _turned(self._heads(self.q_proj(x, "q_proj", bend)), rotation)
        k = _turned(self._heads(self.k_proj(x, "k_proj", bend)), rotation)
        v = self._heads(self.v_proj(x, "v_proj", bend))
        if cache is not None and slot is not None:
            k = jax.lax.dynamic_update_slice_in_dim(cache[0], k, slot, axis=1)
            v = jax.lax.dynamic_update_slice_in_dim(cache[1], v, slot, axis=1)
        kv_heads = k.shape[2]
        q = q.reshape(*q.shape[:2], kv_heads, -1, self.head)
        scores = jnp.einsum("btkgh,bskh->bkgts", q, k).astype(jnp.float32) / self.head**0.5
        scores = jnp.where(mask[:, None, None], scores, FORBIDDEN)
        mixed = jnp.einsum("bkgts,bskh->btkgh", jax.nn.softmax(scores, axis=-1).astype(v.dtype), v)
        return self.o_proj(mixed.reshape(*x.shape[:2], -1), "o_proj", bend), (k, v)

    def _heads(self, x: Float[Array, "B T F"]) -> Float[Array, "B T N H"]:
        return x.reshape(*x.shape[:2], -1, self.head)


class Mlp(nnx.Module):
    def __init__(self, config: Config, rngs: nnx.Rngs) -> None:
        self.gate_proj = Projection(config.hidden, config.intermediate, rngs)
        self.up_proj = Projection(config.hidden, config.intermediate, rngs)
        self.down_proj = Projection(config.intermediate, config.hidden, rngs)

    def __call__(self, x: Float[Array, "B T D"], bend: lora.Bend | None = None) -> Float[Array, "B T D"]:
        gate = nnx.silu(self.gate_proj(x, "gate_proj", bend))
        return self.down_proj(gate * self.up_proj(x, "up_proj", bend), "down_proj", bend)


class Block(nnx.Module):
    def __init__(self, config: Config, rngs: nnx.Rngs) -> None:
        self.attention_norm = Norm(config)
        self.attention = Attention(config, rngs)
        self.mlp_norm = Norm(config)
        self.mlp = Mlp(config, rngs)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        rotation: Rotation,
        mask: Bool[Array, "B T S"],
        cache: Cache | None = None,
        slot: Int[Array, ""] | None = None,
        bend: lora.Bend | None = None,
    ) -> tuple[Float[Array, "B T D"], Cache]:
        attended, cache = self.attention(self.attention_norm(x), rotation, mask, cache, slot, bend)
        x = x + attended
        return x + self.mlp(self.mlp_norm(x), bend), cache


class GruLayer(nnx.Module):
    """torch's GRU cell, gates in the order r, z, n, each side with a bias of its own (SPEC section 6)."""

    def __init__(self, config: Config, rngs: nnx.Rngs) -> None:
        d = config.gru_hidden
        bound = nnx.initializers.uniform(2 / d**0.5)

        def uniform(shape: tuple[int, ...]) -> Array:
            return jnp.asarray(bound(rngs.params(), shape) - 1 / d**0.5)

        self.input_kernel, self.hidden_kernel = Kernel(uniform((d, 3 * d))), Kernel(uniform((d, 3 * d)))
        self.input_bias, self.hidden_bias = nnx.Param(uniform((3 * d,))), nnx.Param(uniform((3 * d,)))

    def __call__(self, x: Float[Array, "*any D"], h: Float[Array, "*any D"]) -> Float[Array, "*any D"]:
        return self.gated(self.projected(x), h)

    def projected(self, x: Float[Array, "*any D"]) -> Float[Array, "*any G"]:
        return product(x, self.input_kernel[...]) + self.input_bias[...]

    def gated(self, projected: Float[Array, "*any G"], h: Float[Array, "*any D"]) -> Float[Array, "*any D"]:
        """The next hidden state, from an input already projected."""
        from_input = jnp.split(projected, 3, axis=-1)
        from_hidden = jnp.split(product(h, self.hidden_kernel[...]) + self.hidden_bias[...], 3, axis=-1)
        r = nnx.sigmoid(from_input[0] + from_hidden[0])
        z = nnx.sigmoid(from_input[1] + from_hidden[1])
        n = jnp.tanh(from_input[2] + r * from_hidden[2])
        return (1 - z) * n + z * h


Hidden = tuple[Float[Array, "*any D"], ...]
"""The note decoder's state, one array a layer."""


class NoteDecoder(nnx.Module):
    """Spells a note's six sub-tokens out of one summary vector (SPEC section 6)."""

    def __init__(self, config: Config, rngs: nnx.Rngs) -> None:
        d, v = config.gru_hidden, config.vocabulary.size
        self.embedding = Table(v, d, rngs)
        self.layers = nnx.List([GruLayer(config, rngs) for _ in range(config.gru_layers)])
        self.fc_out = nnx.Linear(d, d, kernel_init=INIT, rngs=rngs)
        self.lm_head = nnx.Param(INIT(rngs.params(), (d, v)))

    def start(self, summary: Float[Array, "*any D"]) -> Hidden:
        """Every layer starts from the summary."""
        return (summary,) * len(self.layers)

    def step(
        self, previous: Int[Array, "*any"], hidden: Hidden, bend: lora.Bend | None = None
    ) -> tuple[Float[Array, "*any D"], Hidden]:
        """Feed the sub-token before; returns the top layer's output and the new state."""
        return self.step_projected(self.layers[0].projected(self.embedded(previous, bend)), hidden)

    def step_projected(
        self, projected: Float[Array, "*any G"], hidden: Hidden
    ) -> tuple[Float[Array, "*any D"], Hidden]:
        """`step` from the first layer's input already projected."""
        x = self.layers[0].gated(projected, hidden[0])
        new = [x]
        for layer, h in zip(list(self.layers)[1:], hidden[1:], strict=True):
            x = layer(x, h)
            new.append(x)
        return x, tuple(new)

    def embedded(self, ids: Int[Array, "*any"], bend: lora.Bend | None = None) -> Float[Array, "*any D"]:
        return lora.bent_row(self.embedding(ids), ids, "decoder_embedding", bend)

    def outputs(
        self, summary: Float[Array, "*any D"], inputs: Int[Array, "*any 6"], bend: lora.Bend | None = None
    ) -> Float[Array, "*any 6 D"]:
        """The top layer's six outputs under teacher forcing: `inputs` are id 0 and the first five labels."""
        sequence = jnp.moveaxis(self.embedded(inputs, bend), -2, 0)
        for layer in self.layers:
            # Layer by layer, since all inputs are known: one large product instead of six small ones.
            projected = layer.projected(sequence)

            def follow(h: Array, x: Array, layer: GruLayer = layer) -> tuple[Array, Array]:
                h = layer.gated(x, h)
                return h, h

            _, sequence = jax.lax.scan(follow, summary, projected)
        return jnp.moveaxis(sequence, 0, -2)

    def logits(
        self, outputs: Float[Array, "*any D"], bend: lora.Bend | None = None
    ) -> Float[Array, "*any V"]:
        """Float32 logits over the whole vocabulary."""
        return self.field_logits(outputs, 0, self.lm_head.shape[-1], bend)

    def field_logits(
        self, outputs: Float[Array, "*any D"], offset: int, size: int, bend: lora.Bend | None = None
    ) -> Float[Array, "*any W"]:
        """Float32 logits of one field's `size` values, whose ids begin at `offset`."""
        x = lora.bent(self.fc_out(outputs), outputs, "fc_out", bend)
        ids = slice(offset, offset + size)
        if bend and (pair := bend.pairs.get("lm_head")):
            bend = bend._replace(pairs={"lm_head": lora.Pair(pair.down, pair.up[:, ids])})
        return lora.bent(x @ self.lm_head[:, ids], x, "lm_head", bend).astype(jnp.float32)


class Moonbeam(nnx.Module):
    """The trunk over rows and the decoder of notes."""

    def __init__(self, config: Config, rngs: nnx.Rngs) -> None:
        self.config = config
        self.embedding = Embedding(config, rngs)
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.layers)])
        self.norm = Norm(config)
        self.summary = Kernel(INIT(rngs.params(), (config.hidden, config.gru_hidden)))
        self.decoder = NoteDecoder(config, rngs)

    def __call__(
        self,
        rows: Int[Array, "B T 6"],
        mask: Bool[Array, "B T S"],
        cache: tuple[Cache, ...] | None = None,
        slot: Int[Array, ""] | None = None,
        styles: lora.Mix | None = None,
    ) -> tuple[Float[Array, "B T D"], tuple[Cache, ...]]:
        """Summaries of the rows, and every layer's keys and values (the whole cache, if one is given)."""
        x, rotation, caches = self.embedding(rows), self.rotation(rows), []
        for i, block in enumerate(self.blocks):
            bend = styles.layer(i) if styles else None
            x, layer_cache = block(x, rotation, mask, cache[i] if cache else None, slot, bend)
            caches.append(layer_cache)
        x = self.norm(x)
        bend = styles.spelling if styles else None
        return lora.bent(product(x, self.summary[...]), x, "summary_projection", bend), tuple(caches)

    def rotation(self, rows: Int[Array, "B T 6"]) -> Rotation:
        """Cosines and sines of each group's phase, `[f, f]` over the head (SPEC section 4)."""
        onset = rows[..., ONSET, None]
        positions = jnp.where(onset == SOS, 0, jnp.where(onset == EOS, EOS_POSITION, rows))
        tables = [frequencies.rope(FIELDS[column].base or 0, self.config.head) for column in POSITIONS]
        if self.config.numerics == "rounded":
            tables = [frequencies.rounded(table) for table in tables]
        # An elementwise float32 product: a matrix product may round to fewer bits on some devices.
        phases = positions[..., jnp.array(POSITIONS), None].astype(jnp.float32) * jnp.stack(tables)
        phases = jnp.concatenate([phases, phases], axis=-1)
        cos, sin = jnp.cos(phases), jnp.sin(phases)
        if self.config.numerics == "rounded":
            cos, sin = _through_bf16(cos), _through_bf16(sin)
        dtype = self.norm.scale[...].dtype
        return cos.astype(dtype), sin.astype(dtype)


def packed_mask(blocks: Int[Array, "B T"]) -> Bool[Array, "B T T"]:
    """Causal, and within a block of a packed window (SPEC section 8)."""
    t = blocks.shape[1]
    return (blocks[:, :, None] == blocks[:, None, :]) & jnp.tril(jnp.ones((t, t), bool))


def causal_mask(rows: Int[Array, "B T 6"]) -> Bool[Array, "B T T"]:
    return packed_mask(jnp.zeros(rows.shape[:2], jnp.int32))


def token_nll(
    model: Moonbeam,
    rows: Int[Array, "B T 6"],
    labels: Int[Array, "B T 7"],
    mask: Bool[Array, "B T T"],
    styles: lora.Mix | None = None,
) -> Float[Array, "B T-1 6"]:
    """Teacher-forced nats of the rows' sub-tokens from the second row on, over all ids (SPEC section 7)."""
    summaries, _ = model(rows[:, :-1], mask[:, :-1, :-1], styles=styles)
    bend = styles.spelling if styles else None
    logits = model.decoder.logits(model.decoder.outputs(summaries, labels[:, 1:, :-1], bend), bend)
    target = jnp.take_along_axis(logits, labels[:, 1:, 1:, None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - target


def _turned(x: Float[Array, "B T N H"], rotation: Rotation) -> Float[Array, "B T N H"]:
    """Each group of heads rotated by its phase; halves are paired (`rotate half`)."""
    cos, sin = rotation
    groups = x.reshape(*x.shape[:2], len(POSITIONS), -1, x.shape[-1])
    first, second = jnp.split(groups, 2, axis=-1)
    turned = groups * cos[:, :, :, None] + jnp.concatenate([-second, first], axis=-1) * sin[:, :, :, None]
    return turned.reshape(x.shape)


def _through_bf16(x: Array) -> Float[Array, "..."]:
    return x.astype(jnp.bfloat16).astype(jnp.float32)
