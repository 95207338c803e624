"""The commands. Whatever needs the model is imported inside its command, so that the rest starts at once."""

import errno
import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from jazzd.cli import asking, base, bench, learning, measuring, playing, service, styles
from jazzd.errors import ConfigError, JazzdError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk is: Python does not say which file was to be written."""

STDERR = 2

app = typer.Typer(
    name="jazzd",
    help="Play chords into one MIDI port; an improvised jazz solo comes out of another.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # a usage error in plain lines, not in a box
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.add_typer(playing.app)
app.add_typer(asking.app)
app.add_typer(learning.app)
app.add_typer(measuring.app)
app.add_typer(bench.app, name="bench")
app.add_typer(base.app, name="base")
app.add_typer(styles.app, name="styles")
app.add_typer(service.app, name="service")


def _version(asked: bool) -> None:
    if asked:
        print(f"jazzd {version('jazzd')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which jazzd this is.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs a command. Exit code 0 done, 1 could not, 2 wrong usage; a traceback is a bug."""
    _open_what_is_closed()
    try:
        app(prog_name="jazzd")
    except ConfigError as error:
        sys.exit(_complain(error, 2))
    except JazzdError as error:
        sys.exit(_complain(error, 1))
    except OSError as error:
        if error.filename is None and error.errno not in FULL:  # not about a file that the user named
            raise
        sys.exit(_complain(f"{error.filename or 'what it prints'}: {error.strerror}", 1))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _out_of_memory(error):
            raise
        sys.exit(_complain("out of memory: close what else uses it, or take a smaller base", 1))


def _open_what_is_closed() -> None:
    """Who starts us may have closed stdin, stdout or stderr: the next file opened would be taken for it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115  (until the end)


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether JAX's allocator gave up: known by its words, since only some commands import JAX."""
    return type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error)


def _complain(error: object, code: int) -> int:
    sentence = str(error)
    print(sentence if sentence.startswith("jazzd ") else f"jazzd: {sentence}", file=sys.stderr)
    return code
