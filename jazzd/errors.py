"""What can go wrong, one class per part. The user sees the one sentence; a traceback is a bug."""


class JazzdError(Exception):
    """Could not do it: the message says what, where, and what to do. Exit code 1."""


class ConfigError(JazzdError):
    """A setting, a command-line value or daemon.toml is wrong. Exit code 2."""


class MidiError(JazzdError):
    """A MIDI port, transport or file cannot be used."""


class StyleError(JazzdError):
    """A style file is not one, or does not fit the base."""


class ModelError(JazzdError):
    """A checkpoint, a base folder or a device cannot be used."""


class EngineError(JazzdError):
    """The engine process cannot be reached, or spoke out of turn."""
