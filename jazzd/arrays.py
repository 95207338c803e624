"""The names for shapes of arrays, from jaxtyping; where that is not installed, words without meaning.

The model and its bench are to run with nothing but jax, flax, numpy and safetensors.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Float32, Int, UInt32
else:

    class _Unchecked:
        def __class_getitem__(cls, item: Any) -> Any:
            return Any

    try:
        from jaxtyping import Bool, Float, Float32, Int, UInt32
    except ImportError:
        Bool = Float = Float32 = Int = UInt32 = _Unchecked

    def __getattr__(name: str) -> Any:
        # Not before it is asked for: jaxtyping's Array loads jax, and styles are checked without it.
        if name != "Array":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            from jaxtyping import Array
        except ImportError:
            return _Unchecked
        return Array


__all__ = ["Array", "Bool", "Float", "Float32", "Int", "UInt32"]
