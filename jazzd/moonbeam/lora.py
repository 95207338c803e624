"""Styles on the device: `y = W x + sum_c w_c b_c (a_c . x)`, c over the rank columns of all that sound.

The resident styles' columns stand side by side in pages (`Rack`). Choosing styles copies their pages into a
mix of one of two fixed widths, so whatever comes and goes, nothing is compiled again; blending changes
nothing but the mix's weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jazzd.arrays import Array, Float, Int
from jazzd.errors import StyleError
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.targets import ATTENTION, DECODER, MLP, Adapter, Place, shapes

TARGETS = (*ATTENTION, *MLP, *DECODER)
PAGE = 16
"""Rank columns of a page: a style of rank 16, which jazzd teaches, fills one."""
BLANK = 0
"""The page of zeros, for what a style leaves alone."""


class Pair(NamedTuple):
    """Rank columns of one projection: what each listens to, and what it adds."""

    down: Float[Array, "C D"]
    up: Float[Array, "C F"]


Pairs = dict[str, Pair]
"""Target name -> its columns; targets that are never bent are absent."""


class Dropout(NamedTuple):
    """In training, each number that rank columns listen to is left out with this chance."""

    rate: Float[Array, ""]
    key: Array

    def within(self, part: int) -> "Dropout":
        """For one part of the model: each has dice of its own."""
        return Dropout(self.rate, jax.random.fold_in(self.key, part))

    def heard(self, x: Float[Array, "*any D"]) -> Float[Array, "*any D"]:
        kept = jax.random.bernoulli(self.key, 1 - self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate).astype(x.dtype), 0)


class Bend(NamedTuple):
    """How a mix bends the projections of one layer."""

    weights: Float[Array, "C"]
    pairs: Pairs
    dropout: Dropout | None = None


class Mix(NamedTuple):
    """The styles that sound now: a weight for each rank column, and the columns."""

    weights: Float[Array, "C"]
    layers: tuple[Pairs, ...]
    decoder: Pairs
    dropout: Dropout | None = None

    def layer(self, i: int) -> Bend:
        return Bend(self.weights, self.layers[i], self.dropout and self.dropout.within(i))

    @property
    def spelling(self) -> Bend:
        return Bend(self.weights, self.decoder, self.dropout and self.dropout.within(len(self.layers)))


def bent(
    y: Float[Array, "*any F"], x: Float[Array, "*any D"], target: str, bend: Bend | None
) -> Float[Array, "*any F"]:
    """The projection `y` of `x` with what the mix adds to it."""
    if bend is None or target not in bend.pairs:
        return y
    down, up = bend.pairs[target]
    if bend.dropout:
        x = bend.dropout.within(TARGETS.index(target)).heard(x)
    return y + (jnp.einsum("...d,cd->...c", x, down) * bend.weights) @ up


def bent_row(
    y: Float[Array, "*any D"], ids: Int[Array, "*any"], target: str, bend: Bend | None
) -> Float[Array, "*any D"]:
    """The rows `y` looked up at `ids` with what the mix adds to them: `bent` of one-hot vectors."""
    if bend is None or target not in bend.pairs:
        return y
    down, up = bend.pairs[target]
    return y + (jnp.moveaxis(jnp.take(down, ids, axis=1), 0, -1) * bend.weights) @ up


@dataclass(frozen=True)
class Width:
    """Room of a mix: what a decoder is compiled for."""

    pages: int
    targets: tuple[str, ...]

    @property
    def columns(self) -> int:
        return self.pages * PAGE


TAUGHT = ("q_proj", "v_proj", "o_proj")
"""What jazzd's own styles bend."""
OTHERS = tuple(target for target in TARGETS if target not in TAUGHT)
SLIM = Width(2, TAUGHT)
"""Two styles as jazzd teaches them, 16 columns each."""
FULL = Width(8, (*TAUGHT, *OTHERS))
"""Whatever PEFT adapts, up to rank 128 in all: heavier, and used only where SLIM does not do."""
GROUPS = (TAUGHT, OTHERS)
"""Pools of pages: most styles use the first only, and the second is made for the first one that needs it."""
Pool = dict[Place, Pair]
"""Each place's pages: (pages, PAGE, width)."""


def mix_of(columns: Pool, weights: Any, layers: int) -> Mix:
    """The columns in the tree that the model wants."""
    tree: tuple[Pairs, ...] = tuple({} for _ in range(layers))
    decoder: Pairs = {}
    for (layer, target), pair in columns.items():
        (decoder if layer < 0 else tree[layer])[target] = pair
    return Mix(weights, tree, decoder)


def shape_of(width: Width, config: Config, dtype: Any) -> Mix:
    """A mix of that width as shapes, to compile for."""
    count = width.columns

    def columns(size: int) -> Any:
        return jax.ShapeDtypeStruct((count, size), dtype)

    places = {
        place: Pair(columns(inputs), columns(outputs))
        for place, (inputs, outputs) in shapes(config).items()
        if place[1] in width.targets
    }
    return mix_of(places, jax.ShapeDtypeStruct((count,), dtype), config.layers)


@dataclass(frozen=True)
class _Resident:
    """Where a style's columns are: page k of it is page `pages[g][k]` of group g's pool, BLANK for none."""

    pages: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.pages[0])


class Rack:
    """The styles on the device, `capacity` of rank 16 at most; who was not used for longest leaves first."""

    def __init__(self, config: Config, dtype: Any, capacity: int = 32) -> None:
        self.capacity = capacity
        self._config, self._dtype = config, jnp.dtype(dtype)
        self._pages = (max(capacity, FULL.pages), FULL.pages)
        self._pools: list[Pool | None] = [None] * len(GROUPS)
        self._residents: dict[str, _Resident] = {}
        self._chosen: tuple[Any, Pool] = (None, {})
        self._writers: dict[int, Any] = {}
        self._gatherers: dict[tuple[int, int], Any] = {}

    def warm_up(self) -> None:
        """Compile now what would be compiled at the first use."""
        for group in range(len(GROUPS)):
            self._writer(group)
            self._gatherer(group, FULL)
        self._gatherer(0, SLIM)

    @property
    def names(self) -> tuple[str, ...]:
        """The styles that are here, the longest unused first."""
        return tuple(self._residents)

    @property
    def bytes(self) -> int:
        """What the pages take on the device."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self._pools))

    def put(self, name: str, adapter: Adapter) -> None:
        """Make the style resident, in place of an older one of this name.

        Raises StyleError when it has more columns than can sound.
        """
        self.drop(name)
        count = -(-adapter.rank // PAGE)
        touched = [any(target in group for _, target in adapter.factors) for group in GROUPS]
        if count > FULL.pages:
            raise StyleError(f"{name}: rank {adapter.rank} is more than the {FULL.columns} that can sound")
        while len(self._residents) >= self.capacity:
            self.drop(self.names[0])
        pages = tuple(self._free(g, count) if t else (BLANK,) * count for g, t in enumerate(touched))
        for group, numbers in enumerate(pages):
            for k, number in enumerate(numbers):
                if number != BLANK:
                    page = self._page(group, adapter, k)
                    self._pools[group] = self._writer(group)(self._pool(group), np.int32(number), page)
        self._residents[name] = _Resident(pages)

    def drop(self, name: str) -> None:
        """Let the style go; a mix that was made with it plays on."""
        if self._residents.pop(name, None):
            self._chosen = (None, {})  # its pages will hold something else

    def mix(self, weights: Mapping[str, float]) -> Mix | None:
        """The mix of these resident styles; None, the plain base, when every weight is 0.

        Raises StyleError when they do not all fit one mix.
        """
        wanted = {name: weight for name, weight in weights.items() if weight}
        if not wanted:
            return None
        for name in wanted:  # used now: to the end of the row
            self._residents[name] = self._residents.pop(name)
        residents = [self._residents[name] for name in wanted]
        count = sum(map(len, residents))
        slim = count <= SLIM.pages and all(set(resident.pages[1]) == {BLANK} for resident in residents)
        width = SLIM if slim else FULL
        if count > width.pages:
            raise StyleError(
                f"{', '.join(wanted)}: {count * PAGE} rank columns together, where {width.columns} can sound "
                "at once; mix fewer styles"
            )
        column_weights = np.zeros(width.columns, self._dtype)
        column_weights[: count * PAGE] = np.repeat(
            list(wanted.values()), [len(resident) * PAGE for resident in residents]
        )
        return mix_of(self._columns(width, residents), jax.device_put(column_weights), self._config.layers)

    def _columns(self, width: Width, residents: Sequence[_Resident]) -> Pool:
        """The residents' columns side by side; the same ones are not copied twice."""
        groups = range(1 if width is SLIM else len(GROUPS))
        pages = [
            np.array([*(p for r in residents for p in r.pages[group]), *[BLANK] * width.pages][: width.pages])
            for group in groups
        ]
        key = (width, *(tuple(numbers) for numbers in pages))
        if key != self._chosen[0]:
            columns: Pool = {}
            for group in groups:
                columns |= self._gatherer(group, width)(self._pool(group), pages[group].astype(np.int32))
            self._chosen = (key, columns)
        return self._chosen[1]

    def _free(self, group: int, count: int) -> tuple[int, ...]:
        """Pages nobody uses; whoever was not used for longest makes room."""
        while True:
            used = {page for resident in self._residents.values() for page in resident.pages[group]}
            free = [page for page in range(1, self._pages[group] + 1) if page not in used]
            if len(free) >= count:
                return tuple(free[:count])
            self.drop(next(n for n, r in self._residents.items() if set(r.pages[group]) != {BLANK}))

    def _pool(self, group: int) -> Pool:
        pool = self._pools[group]
        if pool is None:
            # Not jnp's zeros, which would be compiled.
            pool = jax.tree.map(
                lambda shape: jax.device_put(np.zeros(shape.shape, shape.dtype)),
                self._shape(group, self._pages[group] + 1),
            )
            self._pools[group] = pool
        return pool

    def _shape(self, group: int, *pages: int) -> Pool:
        """So many pages, or a single one, of the group as shapes."""

        def columns(size: int) -> Any:
            return jax.ShapeDtypeStruct((*pages, PAGE, size), self._dtype)

        return {
            place: Pair(columns(inputs), columns(outputs))
            for place, (inputs, outputs) in shapes(self._config).items()
            if place[1] in GROUPS[group]
        }

    def _writer(self, group: int) -> Any:
        """`_written` compiled for the group's pool."""
        if group not in self._writers:
            pool, page = self._shape(group, self._pages[group] + 1), self._shape(group)
            jitted = jax.jit(_written, donate_argnums=0)
            self._writers[group] = jitted.lower(pool, np.int32(0), page).compile()
        return self._writers[group]

    def _gatherer(self, group: int, width: Width) -> Any:
        """`_gathered` compiled for the group's pool and so many pages."""
        key = group, width.pages
        if key not in self._gatherers:
            pool, numbers = self._shape(group, self._pages[group] + 1), np.zeros(width.pages, np.int32)
            self._gatherers[key] = jax.jit(_gathered).lower(pool, numbers).compile()
        return self._gatherers[key]

    def _page(self, group: int, adapter: Adapter, k: int) -> Pool:
        """The adapter's columns from k pages on, with zeros for what it does not touch."""
        columns = slice(k * PAGE, (k + 1) * PAGE)
        page: Pool = {}
        for place, sizes in shapes(self._config).items():
            if place[1] in GROUPS[group]:
                halves = [np.zeros((PAGE, size), self._dtype) for size in sizes]
                if place in adapter.factors:
                    down, up = adapter.factors[place]
                    for half, factor in zip(halves, (down.T[columns], up[columns]), strict=True):
                        half[: len(factor)] = factor
                page[place] = Pair(*halves)  # type: ignore[arg-type]  # on their way to the device
        return page


# No indices in brackets: they take longer to trace, at every start.
def _written(pool: Pool, number: Int[Array, ""], page: Pool) -> Pool:
    def with_one(pages: Array, one: Array) -> Array:
        changed: Array = jax.lax.dynamic_update_index_in_dim(pages, one, number, axis=0)
        return changed

    written: Pool = jax.tree.map(with_one, pool, page)
    return written


def _gathered(pool: Pool, numbers: Int[Array, "P"]) -> Pool:
    def side_by_side(pages: Array) -> Array:
        return jnp.take(pages, numbers, axis=0, mode="clip").reshape(-1, pages.shape[-1])

    columns: Pool = jax.tree.map(side_by_side, pool)
    return columns
