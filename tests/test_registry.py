"""The folder of the styles: every file a record, and the right one whatever is done to it."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from styled import BASE, FINGERPRINT, a_style, adapter, drop, same

from jazzd.errors import StyleError
from jazzd.styles import folder as folders
from jazzd.styles import peft
from jazzd.styles.registry import Changes, Record, Registry

Told = dict[str, tuple[str, str]]


def later() -> float:
    """A clock an hour ahead: every file has been left alone for long."""
    return time.time() + 3600


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "styles"
    path.mkdir()
    return path


@pytest.fixture
def registry(folder: Path) -> Registry:
    return Registry(folder, BASE)


def told(records: tuple[Record, ...]) -> Told:
    return {record.name: (record.status, record.reason) for record in records}


def test_a_style_is_a_record_with_all_that_its_file_tells(folder: Path, registry: Registry) -> None:
    path = drop(folder / "late.safetensors", program=5, temperature=0.7, title="Late")
    changed, gone = registry.rescan()
    assert gone == ()
    assert changed == registry.records
    record = registry.records[0]
    assert record.to_json() == {
        "name": "late",
        "status": "ready",
        "reason": "",
        "base": FINGERPRINT,
        "rank": 4,
        "targets": ["q_proj", "v_proj"],
        "bytes": path.stat().st_size,
        "program": 5,
    }
    assert (record.title, record.settings) == ("Late", {"temperature": 0.7})
    assert not registry.unsettled
    assert same(registry.load("late"), adapter())
    assert registry.rescan() == Changes()


def test_a_peft_folder_is_a_style(folder: Path, registry: Registry) -> None:
    peft.write(folder / "3-100.safetensors", a_style())
    registry.rescan()
    assert told(registry.records) == {"3-100": ("ready", "")}
    assert registry.records[0].program is None
    assert same(registry.load("3-100"), adapter(), 1e-6)


def test_other_things_in_the_folder_are_no_styles(folder: Path, registry: Registry) -> None:
    drop(folder / ".late.safetensors.17")
    drop(folder / ".hidden.safetensors")
    (folder / "README.md").write_text("")
    (folder / "late.safetensors.part").write_text("")
    (folder / "base").mkdir()
    (folder / "base" / "model.safetensors").write_text("")
    assert registry.rescan() == Changes()


def test_what_is_no_style_is_rejected_in_words(folder: Path) -> None:
    (folder / "text.safetensors").write_text("a text of more than eight letters")
    drop(folder / "other.safetensors", base="f" * 16, program=3)
    drop(folder / "my style (1).safetensors")
    drop(folder / "evil\x1b[2J.safetensors")
    peft.write(folder / "pickle", a_style())
    (folder / "pickle" / peft.WEIGHTS).rename(folder / "pickle" / peft.PICKLE)
    registry = Registry(folder, BASE, later)
    registry.rescan()
    found = told(registry.records)
    assert {name: status for name, (status, _) in found.items()} == {
        r"'evil\x1b[2J'": "rejected",
        "my style (1)": "rejected",
        "other": "incompatible",
        "pickle": "rejected",
        "text": "rejected",
    }
    assert found["text"][1].startswith("not a safetensors file")
    assert found["my style (1)"][1] == "a style's name is 1 to 64 of A-Z a-z 0-9 _ -; rename it"
    assert "adapter_model.bin is a pickle" in found["pickle"][1]
    other = next(record for record in registry.records if record.name == "other")
    assert (other.base, other.rank, other.program) == ("f" * 16, 4, 3)
    with pytest.raises(StyleError, match="no style 'other' is ready"):
        registry.load("other")


def test_a_file_that_grows_is_loading_until_it_is_whole(folder: Path, registry: Registry) -> None:
    data = drop(folder.parent / "whole.safetensors").read_bytes()
    path = folder / "late.safetensors"
    for share in (0, 5, 100, len(data) - 1):
        path.write_bytes(data[:share])
        registry.rescan()
        assert told(registry.records) == {"late": ("loading", "it is still being written")}
        assert registry.unsettled
    path.write_bytes(data)
    assert [record.status for record in registry.rescan().changed] == ["ready"]
    assert not registry.unsettled


def test_a_file_that_stays_cut_short_is_rejected_at_the_second_look(folder: Path, registry: Registry) -> None:
    path = drop(folder / "late.safetensors")
    path.write_bytes(path.read_bytes()[:-7])
    registry.rescan()
    assert registry.unsettled
    registry.rescan()
    assert told(registry.records)["late"][1].startswith("it ends after")
    assert not registry.unsettled
    assert registry.rescan() == Changes(), "and then it is left alone"
    drop(path)
    assert [record.status for record in registry.rescan().changed] == ["ready"]


def test_a_file_that_was_long_cut_short_is_rejected_at_once(folder: Path) -> None:
    path = drop(folder / "late.safetensors")
    path.write_bytes(path.read_bytes()[:-7])
    registry = Registry(folder, BASE, later)
    registry.rescan()
    assert registry.records[0].status == "rejected"


def test_half_of_a_peft_folder_is_waited_for(folder: Path, registry: Registry) -> None:
    peft.write(folder.parent / "whole", a_style())
    (folder / "whole").mkdir()
    for file, status in ((peft.CONFIG, "loading"), (peft.WEIGHTS, "ready")):
        shutil.copy(folder.parent / "whole" / file, folder / "whole")
        registry.rescan()
        assert registry.records[0].status == status


def test_what_happens_to_files_happens_to_records(folder: Path, registry: Registry) -> None:
    a, b = drop(folder / "a.safetensors"), folder / "b.safetensors"
    registry.rescan()
    a.rename(b)
    changed, gone = registry.rescan()
    assert ([record.name for record in changed], gone) == (["b"], ("a",))
    drop(b, seed=1)
    changed, gone = registry.rescan()
    assert ([record.name for record in changed], gone) == (["b"], ())
    assert same(registry.load("b"), adapter(seed=1))
    b.unlink()
    assert registry.rescan() == Changes((), ("b",))
    drop(b)
    assert [record.name for record in registry.rescan().changed] == ["b"]
    shutil.rmtree(folder)
    assert registry.rescan() == Changes((), ("b",))
    assert registry.trouble == ""
    folder.mkdir()
    for n in range(50):
        drop(folder / f"s{n:02}.safetensors", rank=1, targets=("q_proj",), seed=n)
    assert [record.name for record in registry.rescan().changed] == [f"s{n:02}" for n in range(50)]
    assert {record.status for record in registry.records} == {"ready"}


def test_a_change_in_place_is_noticed_though_size_and_time_are_the_same(
    folder: Path, registry: Registry
) -> None:
    path = drop(folder / "a.safetensors")
    registry.rescan()
    was = path.stat()
    data = drop(folder.parent / "b.safetensors", seed=1).read_bytes()
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert len(registry.rescan().changed) == 1


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_file_that_changes_unnoticed_is_not_loaded(
    when: str, folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop(folder / "a.safetensors")
    registry.rescan()
    if when == "before":
        drop(path, seed=1)
    else:
        read = folders.read

        def meanwhile(*given: object) -> object:
            found = read(*given)  # type: ignore[arg-type]
            drop(path, seed=1)
            return found

        monkeypatch.setattr(folders, "read", meanwhile)
    with pytest.raises(StyleError, match=r"a\.safetensors: it changed while it was read"):
        registry.load("a")
    monkeypatch.undo()
    registry.rescan()
    assert same(registry.load("a"), adapter(seed=1))


def test_of_two_with_one_program_the_first_has_it(folder: Path) -> None:
    for name in ("a", "b", "c"):
        drop(folder / f"{name}.safetensors", program=7 if name != "c" else 8)
    drop(folder / "0.safetensors", program=7, base="f" * 16)
    registry = Registry(folder, BASE, later)
    registry.rescan()
    assert {name: of for name, of in told(registry.records).items() if name != "0"} == {
        "a": ("ready", ""),
        "b": ("ready", "program 7 selects a, which comes first"),
        "c": ("ready", ""),
    }
    (folder / "a.safetensors").unlink()
    changed, gone = registry.rescan()
    assert (told(changed), gone) == ({"b": ("ready", "")}, ("a",))


def test_a_file_and_a_folder_of_one_name(folder: Path, registry: Registry) -> None:
    drop(folder / "a.safetensors")
    peft.write(folder / "a", a_style(seed=1))
    registry.rescan()
    assert [(record.path.name, record.status, record.reason) for record in registry.records] == [
        ("a.safetensors", "ready", ""),
        ("a", "rejected", "there is a file a too; rename one of the two"),
    ]
    assert same(registry.load("a"), adapter())
    (folder / "a.safetensors").unlink()
    changed, gone = registry.rescan()
    assert (told(changed), gone) == ({"a": ("ready", "")}, ())


@pytest.mark.parametrize(
    ("link", "status"),
    [
        (lambda folder: os.symlink(folder / "a.safetensors", folder / "b.safetensors"), "ready"),
        (lambda folder: os.symlink("../out.safetensors", folder / "b.safetensors"), "rejected"),
        (lambda folder: os.symlink("nowhere.safetensors", folder / "b.safetensors"), "rejected"),
        (lambda folder: os.symlink("b.safetensors", folder / "b.safetensors"), "rejected"),
        (lambda folder: os.symlink("../peft", folder / "b"), "rejected"),
        (
            lambda folder: (
                (folder / "b").mkdir(),
                shutil.copy(folder / "../peft" / peft.CONFIG, folder / "b"),
                os.symlink("../../peft/" + peft.WEIGHTS, folder / "b" / peft.WEIGHTS),
            ),
            "rejected",
        ),
    ],
)
def test_no_link_leads_out_of_the_folder(link: Callable[[Path], object], status: str, folder: Path) -> None:
    drop(folder / "a.safetensors")
    drop(folder.parent / "out.safetensors")
    peft.write(folder.parent / "peft", a_style())
    link(folder)
    registry = Registry(folder, BASE, later)
    registry.rescan()
    assert told(registry.records)["b"][0] == status


def test_the_folder_itself_may_be_a_link(folder: Path) -> None:
    drop(folder / "a.safetensors")
    os.symlink(folder, folder.parent / "link")
    registry = Registry(folder.parent / "link", BASE)
    registry.rescan()
    assert told(registry.records) == {"a": ("ready", "")}


def test_a_folder_that_cannot_be_read_is_told_of(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(folder / "a.safetensors")
    registry.rescan()

    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert registry.rescan().gone == ("a",)
    assert registry.trouble == f"{folder} cannot be read: Permission denied"
    monkeypatch.undo()
    assert len(registry.rescan().changed) == 1
    assert registry.trouble == ""


def test_a_style_is_added_as_a_whole_and_once(folder: Path) -> None:
    source = drop(folder.parent / "a.safetensors")
    folder.rmdir()
    for _ in range(2):  # the same content again is no harm
        assert folders.add(source, folder, "b", BASE) == folder / "b.safetensors"
    assert (folder / "b.safetensors").read_bytes() == source.read_bytes()
    drop(source, seed=1)
    with pytest.raises(StyleError, match="has another style b; remove it first, or choose a --name"):
        folders.add(source, folder, "b", BASE)
    assert [path.name for path in folder.iterdir()] == ["b.safetensors"]


def test_a_peft_folder_is_added_as_a_file(folder: Path) -> None:
    peft.write(folder.parent / "peft", a_style())
    for _ in range(2):
        path = folders.add(folder.parent / "peft", folder, "b", BASE)
    registry = Registry(folder, BASE)
    registry.rescan()
    assert (registry.records[0].path, registry.records[0].base) == (path, FINGERPRINT)
    assert same(registry.load("b"), adapter(), 1e-6)
    peft.write(folder / "c", a_style())
    with pytest.raises(StyleError, match="has another style c"):
        folders.add(folder.parent / "peft", folder, "c", BASE)


def test_nothing_unfit_is_added(folder: Path) -> None:
    with pytest.raises(StyleError, match="there is no such file or folder"):
        folders.add(folder / "nowhere", folder, "a", BASE)
    with pytest.raises(StyleError, match="use it with its own base"):
        folders.add(drop(folder.parent / "a.safetensors", base="f" * 16), folder, "a", BASE)
    assert list(folder.iterdir()) == []


def test_removing(folder: Path) -> None:
    drop(folder / "a.safetensors")
    drop(folder.parent / "out.safetensors")
    os.symlink(folder.parent / "out.safetensors", folder / "link.safetensors")
    peft.write(folder / "b", a_style())
    peft.write(folder / "c", a_style())
    (folder / "c" / "training.log").write_text("")
    assert [folders.remove(folder, name) for name in ("a", "link", "b", "c")] == [True, True, True, False]
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*")] == ["c", "c/training.log"]
    assert (folder.parent / "out.safetensors").exists()
    for name in ("a", "../out", ""):
        with pytest.raises(StyleError, match="there is no style"):
            folders.remove(folder, name)
