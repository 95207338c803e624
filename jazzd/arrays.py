"""The names for shapes of arrays, from jaxtyping; where that is not installed, words without meaning.

The model and its bench are to run with nothing but jax, flax, numpy and safetensors.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Float32, Int, UInt32
else:
    try:
        from jaxtyping import Array, Bool, Float, Float32, Int, UInt32
    except ImportError:

        class _Unchecked:
            def __class_getitem__(cls, item: Any) -> Any:
                return Any

        Array = Bool = Float = Float32 = Int = UInt32 = _Unchecked

__all__ = ["Array", "Bool", "Float", "Float32", "Int", "UInt32"]
