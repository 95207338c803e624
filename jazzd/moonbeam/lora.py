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


class Bend(NamedTuple):
    """How a mix bends the projections of one layer."""

    weights: Float[Array, "C"]
    pairs: Pairs


class Mix(NamedTuple):
    """The styles that sound now: a weight for each rank column, and the columns."""

    weights: Float[Array, "C"]
    layers: tuple[Pairs, ...]
    decoder: Pairs

    def layer(self, i: int) -> Bend:
        return Bend(self.weights, self.layers[i])

    @property
    def spelling(self) -> Bend:
        return Bend(self.weights, self.decoder)


def bent(
    y: Float[Array, "*any F"], x: Float[Array, "*any D"], target: str, bend: Bend | None
) -> Float[Array, "*any F"]:
    """The projection `y` of `x` with what the mix adds to it."""
    if bend is None or target not in bend.pairs:
        return y
    down, up = bend.pairs[target]
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


SLIM = Width(2, ATTENTION)
"""Two styles as jazzd teaches them: 16 columns each, in the attention only."""
FULL = Width(8, (*ATTENTION, *MLP, *DECODER))
"""Whatever PEFT adapts, up to rank 128 in all: heavier, and used only where SLIM does not do."""


GROUPS = (ATTENTION, (*MLP, *DECODER))
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

    def columns(size: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, size), dtype)

    places = {
        place: Pair(columns(inputs), columns(outputs))  # type: ignore[arg-type]  # shapes stand for arrays
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
    """The styles that are on the device, `capacity` of rank 16; who was not used for longest leaves first."""

    def __init__(self, config: Config, dtype: Any, capacity: int = 32) -> None:
        self._config, self._dtype = config, jnp.dtype(dtype)
        self._capacities = (capacity, FULL.pages)
        self._pools: list[Pool | None] = [None] * len(GROUPS)
        self._residents: dict[str, _Resident] = {}
        self._chosen: tuple[Any, Pool] = (None, {})
        self._write = [jax.jit(_written, donate_argnums=0) for _ in GROUPS]
        self._gather = jax.jit(_gathered)

    @property
    def names(self) -> tuple[str, ...]:
        """The styles that are here, the longest unused first."""
        return tuple(self._residents)

    def put(self, name: str, adapter: Adapter) -> None:
        """Make the style resident, in place of an older one of this name.

        Raises StyleError when it has more columns than there is room for.
        """
        self.drop(name)
        count = -(-adapter.rank // PAGE)
        touched = [any(target in group for _, target in adapter.factors) for group in GROUPS]
        for group, size in enumerate(self._capacities):
            if touched[group] and count > size:
                raise StyleError(f"{name}: rank {adapter.rank} is more than all {size * PAGE} columns")
        pages = tuple(self._free(g, count) if t else (BLANK,) * count for g, t in enumerate(touched))
        for group, numbers in enumerate(pages):
            for k, number in enumerate(numbers):
                if number != BLANK:
                    self._pools[group] = self._write[group](
                        self._pool(group), np.int32(number), self._page(group, adapter, k)
                    )
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
        return mix_of(self._columns(width, residents), jnp.asarray(column_weights), self._config.layers)

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
                columns |= self._gather(self._pool(group), pages[group].astype(np.int32))
            self._chosen = (key, columns)
        return self._chosen[1]

    def _free(self, group: int, count: int) -> tuple[int, ...]:
        """Pages nobody uses; whoever was not used for longest makes room."""
        while True:
            used = {page for resident in self._residents.values() for page in resident.pages[group]}
            free = [page for page in range(1, self._capacities[group] + 1) if page not in used]
            if len(free) >= count:
                return tuple(free[:count])
            self.drop(next(n for n, r in self._residents.items() if set(r.pages[group]) != {BLANK}))

    def _pool(self, group: int) -> Pool:
        pool = self._pools[group]
        if pool is None:
            pages = self._capacities[group] + 1
            pool = self._pools[group] = {
                place: Pair(*(jnp.zeros((pages, PAGE, size), self._dtype) for size in sizes))
                for place, sizes in shapes(self._config).items()
                if place[1] in GROUPS[group]
            }
        return pool

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


def _written(pool: Pool, number: Int[Array, ""], page: Pool) -> Pool:
    written: Pool = jax.tree.map(lambda all_pages, one: all_pages.at[number].set(one), pool, page)
    return written


def _gathered(pool: Pool, numbers: Int[Array, "P"]) -> Pool:
    columns: Pool = jax.tree.map(lambda pages: pages[numbers].reshape(-1, pages.shape[-1]), pool)
    return columns
