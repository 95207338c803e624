"""What can be chosen about a training run. Imports nothing, so that the command line can show it at once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How a base is trained; written beside the weights as `recipe.json`."""

    steps: int = 700
    batch_size: int = 8
    length: int = 256
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    decay_share: float = 0.4
    """The last part of the steps, in which the learning rate falls to nothing."""
    weight_decay: float = 0.05
    clip: float = 1.0
    chord_share: float = 0.35
    validate_every: int = 100
    validation_batches: int = 8
    seed: int = 0
