"""The commands. Whatever needs the model is imported inside its command, so that the rest starts at once."""

import sys

import typer

from jazzd.cli import learning, playing
from jazzd.errors import ConfigError, JazzdError

app = typer.Typer(
    name="jazzd",
    help="Play chords into one MIDI port; an improvised jazz solo comes out of another.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # a usage error in plain lines, not in a box
    pretty_exceptions_enable=False,
)
app.add_typer(playing.app)
app.add_typer(learning.app)


def main() -> None:
    """Runs a command. Exit code 0 done, 1 could not, 2 wrong usage; a traceback is a bug."""
    try:
        app(prog_name="jazzd")
    except ConfigError as error:
        sys.exit(_complain(error, 2))
    except JazzdError as error:
        sys.exit(_complain(error, 1))
    except OSError as error:
        if error.filename is None:  # not about a file that the user named
            raise
        sys.exit(_complain(f"{error.filename}: {error.strerror}", 1))


def _complain(sentence: object, code: int) -> int:
    print(f"jazzd: {sentence}", file=sys.stderr)
    return code
