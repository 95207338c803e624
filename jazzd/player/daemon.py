"""The player process: opens its parts from top to bottom, plays, closes them in reverse."""

import asyncio
import contextlib
import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mido
import structlog

from jazzd.config import read_token, socket_path
from jazzd.engine.protocol import Note
from jazzd.errors import ConfigError, MidiError
from jazzd.music.notes import Seconds
from jazzd.player import control, setup
from jazzd.player.clock import Clock, MonotonicClock
from jazzd.player.commands import Answer, Commands
from jazzd.player.drivers import end_orphans
from jazzd.player.echo import EchoGuard
from jazzd.player.keeper import Keeper, check_recordable
from jazzd.player.ledger import Ledger
from jazzd.player.link import ableton_link
from jazzd.player.ports import Output, Ports, open_ports
from jazzd.player.pulse import Pulse
from jazzd.player.scheduler import Scheduler
from jazzd.player.session import Session
from jazzd.player.signals import heed_hang_up, stop_signals
from jazzd.player.status import status
from jazzd.player.supervisor import Callbacks, Supervisor
from jazzd.player.tape import Tape, TapedLink
from jazzd.player.tcp import TcpServer
from jazzd.player.thru import THRU, Thru
from jazzd.service.notify import Notifier
from jazzd.settings import Settings

LOOK_S = 0.1
"""How often the ports are looked at: one that is back is in use within a second, and one that went and came
back under its name between two looks would be taken for one that stayed. A look costs 0.2 ms."""
STILL_S = 0.75
"""A pause of the loop that takes so long means that the process, or the computer, stood still."""
AGAIN_S = 1.0
"""The first note-offs on a new port are sent again after this: they count more than any others."""
TELL_S, HEALTHY_S = 1.0, 0.1
"""How often the service manager is told of us, and how long the sending of one note may take."""
UNREACHABLE = (
    "nobody can play: no MIDI system is in use and midi.tcp_listen is empty; start ALSA or JACK, which jazzd "
    "waits for, or set midi.tcp_listen to an address such as 127.0.0.1:9080 and start jazzd again"
)


def run(
    settings: Settings,
    numerics: str | None = None,
    engine_command: Sequence[str] = (),
    file: Path | None = None,
    again: Callable[[], Settings] | None = None,
    record: bool = False,
) -> None:
    """Plays until SIGTERM or Ctrl-C, and returns with every note off.

    `engine_command` starts an engine, if it is not to be our own; `file` is where the settings came from, and
    `again` reads them anew (it raises ConfigError for a file that is wrong). `record` writes all that is
    played into the folder of the takes. Raises JazzdError if a part cannot start.
    """
    if sys.platform == "win32" and not settings.engine.address and not engine_command:
        raise ConfigError(
            "on Windows the engine runs in WSL2 or on another machine: start `jazzd engine --listen "
            "tcp://127.0.0.1:9090` there and set engine.address to that (docs/fl-studio.md)"
        )
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        structlog.get_logger().warning(
            "runs_as_root", reason="jazzd needs no rights of root; run it as a user"
        )
    # The scheduler's thread must not wait 5 ms (Python's default) for the loop's thread to let it run, nor
    # for the garbage collector to look once more at all that was imported.
    sys.setswitchinterval(0.0005)
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        command = list(engine_command) or _engine_command(settings, numerics)
        runner.run(_life(settings, command, file, again or (lambda: settings), record))


async def _life(
    settings: Settings,
    engine_command: list[str],
    file: Path | None,
    again: Callable[[], Settings],
    record: bool,
) -> None:
    clock, loop, log = MonotonicClock(), asyncio.get_running_loop(), structlog.get_logger()
    midi, path, notifier = settings.midi, socket_path(), Notifier.of(os.environ)

    # For any thread. The ports come before the session that hears them: it is there when the loop delivers.
    def hear(message: mido.Message, at: float) -> None:
        if echo.heard(message, at):
            return
        tape.heard(message, at)
        loop.call_soon_threadsafe(lambda: pulse.do(session.on_message, message, Seconds(at)))

    def reach(message: mido.Message) -> None:
        if ports.backend == "none" and not tcp.address:
            raise MidiError("nobody is there to hear it")

    def taped(message: mido.Message) -> None:
        """What is passed on is on the tape already, as the human's."""
        if "note" in message.type and ledger.owner(message.channel, message.note) != THRU:
            tape.sent(message)

    def sent(note_id: int, due: float, sent_at: float) -> None:
        loop.call_soon_threadsafe(lambda: pulse.do(session.on_sent, note_id, due, sent_at))

    def lost(names: Sequence[str]) -> None:
        log.warning("ports_lost", ports=names)
        pulse.do(session.silence, "ports_lost")

    def release() -> None:
        down = [*ledger.sounding, *left]
        if scheduler.release_all() and ports.backend != "none" and not _stands_in("output", settings, ports):
            ledger.let_go()
        loop.call_later(AGAIN_S, pulse.do, _lift_again, ledger, down)

    def found(names: Sequence[str]) -> None:
        release()  # what could not be released when they went
        _choose_program(settings, output)
        log.info("ports_found", ports=names)

    def output_failed(error: Exception) -> None:
        log.error("output_failed", reason=str(error))

    takes = Path(settings.takes.folder)
    if record:
        check_recordable(takes)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(control.only_daemon(path))
        stop = stack.enter_context(stop_signals(loop))

        token = settings.engine.token_file and read_token(Path(settings.engine.token_file))
        engine = Supervisor(engine_command, settings.engine.address, token)
        stack.push_async_callback(engine.end)
        await engine.prepare()

        tape, echo = Tape(clock), EchoGuard(clock)
        tcp = TcpServer(hear, clock)
        stack.push_async_callback(tcp.close)
        ports = open_ports(midi.backend, midi.input, midi.output, hear, clock)
        stack.callback(ports.close)
        output = Output(reach, echo.sent, ports.send, tcp.send, taped)

        ledger = Ledger(output.send, path.with_name(f"{path.name}.ledger"))
        stack.callback(ledger.close)
        left = ledger.sounding  # by an earlier run
        scheduler = Scheduler(ledger, clock, sent, output_failed)
        stack.callback(scheduler.close)

        link = stack.enter_context(ableton_link(settings.tempo.source, settings.tempo.bpm, clock))
        session = setup.session(settings, TapedLink(engine, tape), scheduler, clock, link)
        thru = Thru(ledger, scheduler.owe)
        thru.on, session.thru = settings.input.thru, thru.pass_on
        pulse = Pulse(session, clock)
        if midi.tcp_listen:
            tcp.greeting = tuple(mido.Message("note_off", channel=c, note=pitch) for c, pitch in left)
            if midi.backend in ("tcp", "none"):  # there is nobody else to be told
                tcp.on_greeted = ledger.let_go
            await tcp.listen(midi.tcp_listen)

        keeper = Keeper(
            takes,
            clock,
            lambda since: tape.take(engine.ready, session.styling.records, since),
        )
        session.keep, session.counted = keeper.press, tape.counted
        if record:
            await stack.enter_async_context(keeper.recording())

        keeping = asyncio.create_task(engine.run(_callbacks(pulse, session, tape)))
        keeping.add_done_callback(lambda _: stop.set())
        stack.push_async_callback(_end, keeping)
        stack.callback(pulse.stop)

        await _settled(ports, clock)
        release()  # what an earlier run left sounding, before anything else is sent
        _choose_program(settings, output)
        scheduler.start()
        looking = asyncio.create_task(_look_after(ports, clock, found, lost))
        stack.push_async_callback(_end, looking)
        staying = asyncio.create_task(_notice_stand_stills(ports))
        stack.push_async_callback(_end, staying)

        report = partial(status, settings, engine, session, scheduler, ports, tcp, file)
        reload = _reloading(session, thru, settings, again)
        commands = Commands(session, report, reload, keeper.keep, file)

        def answer(request: dict[str, Any]) -> Answer:
            return pulse.do(commands.answer, request) or {}

        await stack.enter_async_context(control.listening(path, answer))
        heed_hang_up(loop, partial(pulse.do, reload))
        _warn(settings, ports, tcp)
        log.info("started", **report()["midi"])

        stack.callback(notifier.stopping)
        telling = asyncio.create_task(_tell_system(notifier, engine, session, scheduler))
        stack.push_async_callback(_end, telling)

        await stop.wait()
        if keeping.done():
            keeping.result()
    log.info("stopped")


def _callbacks(pulse: Pulse, session: Session, tape: Tape) -> Callbacks:
    def note(made: Note) -> None:
        tape.made(made)
        pulse.do(session.on_note, made)

    return Callbacks(
        ready=lambda: pulse.do(session.on_engine_ready),
        lost=lambda: pulse.do(session.on_engine_lost),
        note=note,
        styles=lambda styles: pulse.do(session.on_styles, styles),
    )


def _reloading(
    session: Session, thru: Thru, settings: Settings, again: Callable[[], Settings]
) -> Callable[[], dict[str, Any]]:
    """What applies the settings anew, and says which keys hold now and which with the next start.

    An invalid file raises ConfigError and changes nothing.
    """
    log, held = structlog.get_logger(), settings

    def reload() -> dict[str, Any]:
        nonlocal held
        after = again()
        applied, later = setup.change(session, held, after), setup.pending(settings, after)
        thru.on, held = after.input.thru, after
        log.info("settings_reloaded", applied=applied, at_next_start=later)
        missing = [
            {"scene": scene, "style": name, "reason": reason}
            for (scene, name), reason in session.scenes.missing.items()
        ]
        return {"applied": applied, "at_next_start": later, "missing": missing}

    return reload


async def _tell_system(
    notifier: Notifier, engine: Supervisor, session: Session, scheduler: Scheduler
) -> None:
    """Tells the service manager that the daemon is ready, how it is, and that it lives: from the loop, and
    only while notes can go out."""
    ready, told, every_s = False, "", min(TELL_S, (notifier.watchdog_s or TELL_S) / 2)
    while True:
        if engine.state == "ready" and not ready:
            ready = True
            notifier.ready()
        style, p99 = session.styling.style or "plain", session.latency.summary()["p99"]
        base = engine.ready.base if engine.ready else "no base yet"
        status = f"{engine.state}: {base}, style {style}" + (f", p99 {p99:.0f} ms" if p99 else "")
        if status != told:
            told = status
            notifier.status(status)
        if scheduler.healthy(HEALTHY_S):
            notifier.alive()
        await asyncio.sleep(every_s)


async def _look_after(
    ports: Ports,
    clock: Clock,
    found: Callable[[Sequence[str]], None],
    lost: Callable[[Sequence[str]], None],
) -> None:
    """Tells when ports go, and when they are back and may be played to."""
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            change = await asyncio.to_thread(ports.look)  # a driver that hangs must not hang the loop
            end_orphans()
            if change.lost:
                lost(change.lost)
            if change.found:
                await _settled(ports, clock)
                found(change.found)
        except Exception:  # whatever a driver does: the next look may find it well again
            structlog.get_logger().exception("ports_not_looked_at")


async def _notice_stand_stills(ports: Ports) -> None:
    """Keys that went up while nobody was there to hear it would be held for ever.

    A task of its own: a look at the ports may take its time.
    """
    before = _awake_or_asleep_s()
    while True:
        await asyncio.sleep(LOOK_S)
        now = _awake_or_asleep_s()
        if now - before > STILL_S:
            structlog.get_logger().warning("stood_still", seconds=round(now - before, 1))
            ports.let_go()
        before = now


def _awake_or_asleep_s() -> float:
    """A clock that also counts while the computer sleeps, where there is one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


async def _settled(ports: Ports, clock: Clock) -> None:
    """Returns when what is sent arrives; uvloop's timers may come a millisecond early."""
    await asyncio.sleep(ports.ready_at - clock.now() + 0.002)


def _lift_again(ledger: Ledger, keys: Sequence[tuple[int, int]]) -> None:
    with contextlib.suppress(MidiError):  # the output is away again: what sounds is told when it is back
        ledger.lift_again(keys)


def _choose_program(settings: Settings, output: Output) -> None:
    solo = settings.solo
    if solo.program:  # 0 is where synthesizers begin, and where a musician's own choice should stay
        with contextlib.suppress(MidiError):  # the output is away: it is told when it comes
            output.send(mido.Message("program_change", channel=solo.channel - 1, program=solo.program))


def _warn(settings: Settings, ports: Ports, tcp: TcpServer) -> None:
    log, midi = structlog.get_logger(), settings.midi
    if ports.backend == "none" and not tcp.address:
        log.error(UNREACHABLE, reason=ports.reason)
    elif ports.backend == "none" and midi.backend != "tcp":
        log.warning("no_midi_ports", reason=ports.reason, instead=tcp.address)
    elif ports.reason and midi.backend != "tcp":
        log.warning("port_not_there", reason=ports.reason, until="it comes")
    for key in ("input", "output"):
        if _stands_in(key, settings, ports):
            name, instead = getattr(midi, key), getattr(ports, key)
            log.warning("port_not_there", wanted=name, instead=instead, until="it comes")
    if not settings.engine.address and not settings.styles.folder.is_dir():
        log.warning("no_styles_folder", folder=str(settings.styles.folder), until="it comes")


def _stands_in(key: str, settings: Settings, ports: Ports) -> bool:
    """Whether our own port, `input` or `output`, is there for somebody else's that is not."""
    usual = type(settings.midi).model_fields[key].default
    return getattr(settings.midi, key) != usual and getattr(ports, key) in ports.made


def _engine_command(settings: Settings, numerics: str | None) -> list[str]:
    engine = settings.engine
    command = [sys.executable, "-m", "jazzd", "engine", "--base", engine.base]
    command += ["--dtype", engine.dtype, "--device", engine.device]
    command += ["--styles", str(settings.styles.folder), "--max-resident", str(settings.styles.max_resident)]
    return [*command, "--numerics", numerics] if numerics else command


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
