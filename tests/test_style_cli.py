"""`jazzd styles`: the list, and what goes into the folder and out of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.filesize import decimal
from styled import a_style, drop, same

from jazzd.engine import protocol
from jazzd.moonbeam import weights
from jazzd.moonbeam.targets import shapes
from jazzd.player import control
from jazzd.styles import peft, style
from jazzd.styles.manifest import Manifest
from jazzd.styles.style import BaseFacts, Style

Run = Callable[..., tuple[int, str, str]]


def facts(base: Path) -> BaseFacts:
    config, fingerprint = weights.identify(base)
    return BaseFacts(fingerprint, config, lambda: weights.tensors(base))


@pytest.fixture
def fitting(tiny_base: Path) -> Style:
    """A style for the tiny base."""
    import numpy as np

    from jazzd.moonbeam.targets import Adapter

    base, dice = facts(tiny_base), np.random.default_rng(0)
    factors = {
        place: (
            dice.normal(0, 0.1, (inputs, 4)).astype(np.float32),
            dice.normal(0, 0.1, (4, outputs)).astype(np.float32),
        )
        for place, (inputs, outputs) in shapes(base.config).items()
        if place[1] in ("q_proj", "lm_head")
    }
    manifest = Manifest(base=base.fingerprint, rank=4, alpha=8, targets=("lm_head", "q_proj"), program=9)
    return Style(manifest, Adapter(4, factors))


def test_a_style_comes_is_listed_goes_out_and_goes(jazzd: Run, tiny_base: Path, fitting: Style) -> None:
    base = ("--base", str(tiny_base))
    assert jazzd("styles", *base) == (
        0, f"there are no styles in {Path.cwd() / 'styles'}; `jazzd styles add PATH` puts one there\n", "",
    )  # fmt: skip
    assert jazzd("styles", "--json", *base)[:2] == (0, "[]\n")
    style.write(Path("late.safetensors"), fitting)
    code, out, err = jazzd("styles", "add", "late.safetensors", *base)
    assert (code, out, err) == (
        0, f"late is in {Path.cwd() / 'styles' / 'late.safetensors'}: a running daemon has it at once\n", "",
    )  # fmt: skip
    assert jazzd("styles", "add", "late.safetensors", "--name", "later", *base)[0] == 0
    code, out, err = jazzd("styles", "--json", *base)
    assert (code, err) == (0, "")
    assert json.loads(out)[1] == {
        "name": "later",
        "status": "ready",
        "reason": "program 9 selects late, which comes first",
        "base": fitting.manifest.base,
        "rank": 4,
        "targets": ["lm_head", "q_proj"],
        "bytes": Path("late.safetensors").stat().st_size,
        "program": 9,
    }
    assert jazzd("styles", "export", "late", "--peft", "out/peft", *base)[0] == 0
    assert same(peft.read(Path("out/peft"), facts(tiny_base)).adapter, fitting.adapter)
    assert jazzd("styles", "remove", "late") == (0, "", "")
    assert jazzd("styles", "add", "out/peft", *base)[0] == 0
    assert [path.name for path in sorted(Path("styles").iterdir())] == [
        "later.safetensors",
        "peft.safetensors",
    ]
    assert same(style.read(Path("styles/peft.safetensors"), facts(tiny_base)).adapter, fitting.adapter)


def test_people_get_a_table(
    jazzd: Run, tiny_base: Path, fitting: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    style.write(Path("mine/late.safetensors"), fitting)
    drop(Path("mine/[red]other.safetensors"))
    Path("mine/cut.safetensors").write_bytes(Path("mine/late.safetensors").read_bytes()[:-1])
    code, out, _ = jazzd("styles", "--styles", "mine", "--base", str(tiny_base))
    assert code == 0
    size = decimal(Path("mine/late.safetensors").stat().st_size)
    assert [" ".join(line.split()) for line in out.splitlines()[:4]] == [
        "name status rank targets size program",
        f"[red]other rejected {decimal(Path('mine/[red]other.safetensors').stat().st_size)}",
        f"cut rejected {size}",
        f"late ready 4 lm_head, q_proj {size} 9",
    ]
    assert out.splitlines()[4].startswith("[red]other: a style's name is")
    assert out.splitlines()[5].startswith("cut: it ends after")
    assert len(out.splitlines()) == 6


def test_the_folder_and_the_base_are_the_daemon_s(jazzd: Run, tiny_base: Path, fitting: Style) -> None:
    Path("daemon.toml").write_text(f'[styles]\nfolder = "ours"\n[engine]\nbase = "{tiny_base}"\n')
    style.write(Path("ours/late.safetensors"), fitting)
    assert [record["name"] for record in json.loads(jazzd("styles", "--json")[1])] == ["late"]


def test_the_styles_of_an_engine_elsewhere_are_those_that_the_daemon_knows(
    jazzd: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("daemon.toml").write_text('[engine]\naddress = "tcp://10.0.0.2:9090"\n')
    assert jazzd("styles", "--json")[0] == 1, "no daemon runs"
    for words in (["add", "late.safetensors"], ["remove", "late"], ["export", "late", "--peft", "out"]):
        code, _, err = jazzd("styles", *words)
        assert (code, "tcp://10.0.0.2:9090" in err, "--styles" in err) == (1, True, True)
    ready = protocol.Style(name="far", status="ready", program=3).model_dump()
    broken = protocol.Style(name="torn", status="rejected", reason="it is cut").model_dump()
    monkeypatch.setattr(control, "ask", lambda request: {"styles": [ready, broken]})
    told = json.loads(jazzd("styles", "--json")[1])
    assert [(style["name"], style["status"], style["program"]) for style in told] == [
        ("far", "ready", 3),
        ("torn", "rejected", None),
    ]
    assert "torn: it is cut" in jazzd("styles")[1]
    monkeypatch.setattr(control, "ask", lambda request: {"styles": []})
    assert jazzd("styles")[1] == "the engine at tcp://10.0.0.2:9090 has no styles\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "nowhere"], "nowhere: there is no such file or folder"),
        (["add", "other.safetensors"], "was made for the base 0123456789abcdef"),
        (["add", "text.txt"], "text.txt: it ends after 2 bytes"),
        (["add", "late night.safetensors"], "late night.safetensors: a style's name is"),
        (["add", ".", "--name", "here"], "adapter_config.json: there is no such file"),
        (["remove", "nobody"], "there is no style 'nobody' in"),
        (["export", "nobody", "--peft", "out"], "there is no style 'nobody' in"),
        (["export", "late", "--peft", "peft"], "peft holds an adapter already"),
        (["add", "good.safetensors", "--name", "late"], "has another style late; remove it first"),
        (["--base", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    words: list[str], said: str, jazzd: Run, tiny_base: Path, fitting: Style
) -> None:
    drop(Path("other.safetensors"))
    Path("text.txt").write_text("no")
    style.write(Path("styles/late.safetensors"), fitting)
    style.write(
        Path("good.safetensors"), Style(fitting.manifest.model_copy(update={"title": "!"}), fitting.adapter)
    )
    style.write(Path("late night.safetensors"), fitting)
    peft.write(Path("peft"), a_style())
    before = sorted(Path().rglob("*"))
    if "--base" not in words and words[0] != "remove":
        words = [*words, "--base", str(tiny_base)]
    code, out, err = jazzd("styles", *words)
    assert (code, out) == (1, "")
    assert err.startswith("jazzd: ")
    assert err.count("\n") == 1
    assert said in err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    "words",
    [
        ["add", "x", "--name", "a b"],
        ["add", "x", "--name", "../x"],
        ["add", "x", "--name", ""],
        ["--json", "add", "x"],
        ["--styles", "mine", "remove", "x"],
        ["add"],
        ["export", "x"],
        ["export", "x", "--peft", "taken"],
        ["add", "x", "--styles", "taken"],
        ["sing"],
    ],
)
def test_wrong_usage_is_exit_code_2(words: list[str], jazzd: Run) -> None:
    Path("taken").write_text("")
    code, out, err = jazzd("styles", *words)
    assert (code, out) == (2, "")
    assert "jazzd" in err


def test_what_plays_takes_its_base_and_its_styles_from_the_settings(
    jazzd: Run, tiny_base: Path, fitting: Style
) -> None:
    """Where it is not told otherwise: `jazzd styles` lists what `jazzd solo` and the daemon play in."""
    Path("mine").mkdir()
    style.write(Path("mine", "late.safetensors"), fitting)
    settings = Path("daemon.toml")
    settings.write_text(f'[engine]\nbase = "{tiny_base}"\n[styles]\nfolder = "mine"\n')
    solo = ("solo", "Dm7", "-o", "out.mid", "--max-notes", "4", "--style", "late")
    assert jazzd(*solo)[0] == 0
    code, _, err = jazzd(*solo, "--styles", "elsewhere")
    assert code == 1
    assert "late" in err
    settings.write_text("[styles]\nfolder = 7\n")
    code, _, err = jazzd(*solo)
    assert code == 2
    assert "styles.folder" in err
    assert jazzd(*solo, "--base", str(tiny_base), "--styles", "mine")[0] == 0
