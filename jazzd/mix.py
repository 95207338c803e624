"""How a user writes a mix of styles."""

import math

from jazzd.errors import ConfigError


def shares(style: str) -> dict[str, float]:
    """The styles in "NAME" or "NAME:SHARE,NAME:SHARE", and how much of each; none for "".

    Raises ConfigError when it is not written so, and when every share is 0.
    """
    mix: dict[str, float] = {}
    for part in style.split(",") if style else ():
        name, colon, share = part.strip().partition(":")
        try:
            mix[name] = float(share) if colon else 1.0
        except ValueError:
            mix[name] = math.nan
        if not name or not 0 <= mix[name] <= 1:
            raise ConfigError(f"{style!r}: write NAME, or NAME:SHARE,NAME:SHARE with shares from 0 to 1")
    if mix and not any(mix.values()):
        raise ConfigError(f'{style!r}: no style has a share; "" is the plain base')
    return mix
