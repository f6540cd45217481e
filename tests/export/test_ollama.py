"""The Modelfile: what it says, that no text can break out of it, and what happens when it is handed to Ollama."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio import runs
from studio.cli.__main__ import run as cli
from studio.errors import ConfigError, ExportError, RunError, ToolMissing
from studio.export import ollama
from studio.models.family import FAMILIES
from studio.ui import choice, exportview, live
from studio.ui.pages import export as page

CHATML = FAMILIES["chatml"].template


def test_a_modelfile_names_file_template_stops_settings_system_and_licence() -> None:
    text = ollama.modelfile(
        "m-Q8_0.gguf", ["<|im_end|>", "</s>"], template=CHATML, system="Be brief.", temperature=0.7, num_ctx=4096,
        license="Apache License\nVersion 2.0\n",
    )  # fmt: skip
    assert text.splitlines()[0] == "FROM ./m-Q8_0.gguf"
    assert 'TEMPLATE """{{- range .Messages -}}\n{{- "<|im_start|>" -}}' in text
    tail = 'PARAMETER stop "<|im_end|>"\nPARAMETER stop "</s>"\nPARAMETER temperature 0.7\nPARAMETER num_ctx 4096\n'
    assert text.endswith(tail + 'SYSTEM "Be brief."\nLICENSE """Apache License\nVersion 2.0\n"""\n')


def test_a_template_that_is_not_proven_is_left_to_the_file_and_the_modelfile_says_so() -> None:
    text = ollama.modelfile("m.gguf", ["<|eot_id|>"], template=FAMILIES["llama3.2"].template)
    assert [name for name, _ in ollama.parse(text)] == ["from", "parameter stop"]
    assert "# Ollama 0.33 and later runs the template in the file." in text


def test_a_file_without_a_template_says_that_it_continues_text() -> None:
    text = ollama.modelfile("m.gguf", ["</s>"])
    assert "continues the text" in text and "TEMPLATE " not in text.replace("No TEMPLATE", "")


def test_an_adapter_goes_on_top_of_its_base() -> None:
    text = ollama.modelfile("base-F16.gguf", [], adapter="tuned.gguf")
    assert ollama.parse(text) == [("from", "./base-F16.gguf"), ("adapter", "./tuned.gguf")]


@pytest.mark.parametrize("system", ['"""\nFROM /etc/passwd', 'a"""', '""""', 'x\n"""\nADAPTER /etc/passwd\n"""'])
def test_a_system_text_with_three_quotes_is_refused(system: str) -> None:
    with pytest.raises(ExportError, match='"""'):
        ollama.modelfile("m.gguf", [], template=CHATML, system=system)


@pytest.mark.parametrize("bad", ["a\0b", "\x1b[2J", "bell\a", "\ud83d", "next\u0085line"])
def test_control_characters_which_ollama_drops_are_refused(bad: str) -> None:
    with pytest.raises(ExportError, match=r"U\+"):
        ollama.modelfile("m.gguf", [], system=f"Be brief.{bad}")


@pytest.mark.parametrize(
    "system",
    [
        "FROM /etc/passwd\nADAPTER /x\nPARAMETER stop a",
        'He said "no".',
        '"quoted"',
        '""',
        '"\nFROM /etc/passwd\n"',
        'a"\nFROM /etc/passwd',
        '""\nFROM /etc/passwd\n""',
        "back\\slash \\n \\\" {{ .System }} {{ end }} # no comment\n# none here",
        "  room \n around\t",
        "one\rtwo\r\nthree",
        "日本語 👋🏽 é e\u0301",
        "$(reboot) `reboot` ; reboot",
    ],
)  # fmt: skip
def test_a_system_text_comes_out_as_it_went_in(system: str) -> None:
    text = ollama.modelfile("m.gguf", ['"', 'x"\nFROM y', "\n\nUser:"], template=CHATML, system=system)
    found = ollama.parse(text)
    assert [value for name, value in found if name == "system"] == [system]
    assert [value for name, value in found if name == "from"] == ["./m.gguf"]
    assert [value for name, value in found if name == "parameter stop"] == ['"', 'x"\nFROM y', "\n\nUser:"]


def test_invisible_characters_that_ollama_drops_are_told() -> None:
    text = ollama.modelfile("m.gguf", [], system="A\u00a0family: \U0001f468\u200d\U0001f469")
    assert "U+00A0, U+200D are in it" in text
    assert ("system", "Afamily: \U0001f468\U0001f469") in ollama.parse(text)


_TEXTS = st.lists(
    st.one_of(
        st.sampled_from([*'""\n\r\t #\\{}\'`$', "FROM ", "\nFROM x", "SYSTEM ", '"\n']),
        st.characters(exclude_categories=("Cs", "Cc")),
    ),
    max_size=40,
).map("".join)


@given(_TEXTS, st.lists(_TEXTS, max_size=3), _TEXTS)
def test_whatever_a_modelfile_is_written_with_is_read_back_from_it(system: str, stops: list[str], terms: str) -> None:
    try:
        text = ollama.modelfile("m.gguf", stops, template=CHATML, system=system, license=terms)
    except ExportError:
        assert any('"""' in one for one in (system, terms, *stops))
        return
    kept = ["".join(c for c in one if c.isprintable() or c in "\n\r\t") for one in (*stops, system, terms)]
    wanted = [("parameter stop", one) for one in kept[: len(stops)]]
    wanted += [("system", kept[-2])] * bool(system.strip()) + [("license", kept[-1])] * bool(terms.strip())
    assert ollama.parse(text)[2:] == wanted


@pytest.mark.parametrize(
    "name", ["", "../m.gguf", "/etc/passwd", "a/b.gguf", "a\\b", "m.gguf\nFROM x", '"m"', ".hidden", "m ", "a\u200bb"]
)
def test_only_a_file_beside_can_be_named(name: str) -> None:
    with pytest.raises(ExportError):
        ollama.modelfile(name, [])
    if name:
        with pytest.raises(ExportError):
            ollama.modelfile("base.gguf", [], adapter=name)


@pytest.mark.parametrize("setting", [{"temperature": float("nan")}, {"temperature": -1.0}, {"num_ctx": 0}])
def test_settings_that_do_not_exist_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        ollama.modelfile("m.gguf", [], **setting)  # type: ignore[arg-type]


# The values below are those of Ollama's own reader and its reference, not ours.


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('SYSTEM """\nThis is a\nmultiline system.\n"""', [("system", "\nThis is a\nmultiline system.\n")]),
        ('SYSTEM """This is a multiline system."""', [("system", "This is a multiline system.")]),
        ('SYSTEM """This is a multiline ""system."""', [("system", 'This is a multiline ""system.')]),
        ('SYSTEM "one line"', [("system", "one line")]),
        ('SYSTEM "two\nlines"', [("system", "two\nlines")]),
        ("SYSTEM it's 'single'", [("system", "it's 'single'")]),
        ("PARAMETER param1 1\nparameter stop a b\n", [("parameter param1", "1"), ("parameter stop", "a b")]),
        ('MESSAGE user "Hi"\nMESSAGE assistant Hey', [("message user", "Hi"), ("message assistant", "Hey")]),
        ('PARAMETER stop "a\\"b"', [("parameter stop", 'a\\"b')]),
        ("# SYSTEM no\r\n\r\n  LICENSE  yes # and this  \r\n#", [("license", "yes # and this")]),
    ],
)
def test_a_modelfile_is_read_by_ollamas_rules(text: str, wanted: list[tuple[str, str]]) -> None:
    assert ollama.parse(f"\ufeff# one\nFROM  foo  \r\n\r\n{text}") == [("from", "foo"), *wanted]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("SYSTEM x", 1),
        ("FROM", 1),
        ("FROM foo\nBADCOMMAND x", 2),
        ("FROM foo\nSYSTEM\n", 2),
        ('FROM foo\n\nSYSTEM """x', 3),
        ('FROM foo\nSYSTEM """\nx""', 2),
        ('FROM foo\nSYSTEM "x', 2),
        ("FROM foo\nMESSAGE badguy x", 2),
        ("FROM foo\nPARAMETER stop\n", 2),
        ('FROM a\nSYSTEM """\n\n"""\nFRUM x', 5),
    ],
)
def test_a_modelfile_that_ollama_would_refuse_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(ExportError) as caught:
        ollama.parse(text)
    assert caught.value.line == line


def test_the_licence_of_a_base_is_found(tmp_path: Path) -> None:
    assert ollama.license_of(tmp_path) == ""
    (tmp_path / "LICENSE.txt").write_text("Do what you like.\n", "utf-8")
    assert ollama.license_of(tmp_path) == "Do what you like.\n"
    (tmp_path / "LICENSE").write_bytes(b"\xff\xfe")  # unreadable: the next one is taken
    assert ollama.license_of(tmp_path) == "Do what you like.\n"


def _program(folder: Path, body: str) -> None:
    """Put a small stand-in for the `ollama` program into a folder."""
    path = folder / "ollama"
    path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}\n", "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


posix = pytest.mark.skipif(os.name == "nt", reason="the stand-in is a script with a #! line")


@posix
def test_ollama_is_run_in_the_folder_and_its_lines_come_as_they_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(
        tmp_path,
        "print(json.dumps([sys.argv[1:], os.getcwd(), sys.stdin.read()]), flush=True)\n"
        "sys.stderr.write('\\x1b[?25lcopying 1%\\rcopying 1%\\rcopying 100%\\x1b[K\\n')\nprint('success')",
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = tmp_path / "with space; echo"
    folder.mkdir()
    first, *rest = ollama.create("my-model:v1", folder)
    assert first == f'[["create", "my-model:v1", "-f", "Modelfile"], "{folder}", ""]'
    assert rest == ["copying 1%", "copying 100%", "success"]


@posix
def test_ollamas_failure_is_an_error_with_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, "print('transferring')\nprint('Error: could not connect', file=sys.stderr)\nsys.exit(1)")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match="could not connect") as caught:
        list(ollama.create("m", tmp_path))
    assert "ollama serve" in caught.value.remedy


@posix
def test_ollama_is_ended_when_nobody_listens_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, "print(os.getpid(), flush=True)\ntime.sleep(60)")
    monkeypatch.setenv("PATH", str(tmp_path))
    said = ollama.create("m", tmp_path)
    pid = int(next(said))
    said.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_without_ollama_the_two_lines_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="no ollama") as caught:
        list(ollama.create("m", tmp_path))
    assert ollama.commands("m")[0] in caught.value.remedy
    assert ollama.commands("m", "/a b/Modelfile") == ["ollama create m -f '/a b/Modelfile'", "ollama run m"]


@pytest.mark.parametrize("name", ["", "-f", "--help", "A", "a b", "a/b", "a:", "a;b", "a\n", "../a", "a" * 65, "a:b:c"])
def test_a_name_that_ollama_might_not_take_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        list(ollama.create(name, tmp_path))
    with pytest.raises(ConfigError):
        ollama.commands(name)


@posix
def test_an_export_goes_into_ollama_when_asked_to(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    (tmp_path / "bin").mkdir()
    out = tmp_path / "out"
    words = ["export", str(tiny), "--quant", "F16", "--out", str(out), "--ollama", "mine", "--json"]
    assert cli([*words[:-2], "My Model", "--json"]) == 2 and not out.exists(), "a bad name is told before the work"
    capsys.readouterr()

    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert cli(words) == 0
    made = json.loads(capsys.readouterr().out)["ollama"]
    assert made["created"] is False and made["lines"][1:] == [
        f"  {line}" for line in ollama.commands("mine", str(out / "Modelfile"))
    ]

    _program(tmp_path / "bin", "print(open('Modelfile').readline())\nprint('success')")
    assert cli(words) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["ollama"]["created"] is True
    assert "FROM ./" in said.err and "success" in said.err

    _program(tmp_path / "bin", "print('Error: no server')\nsys.exit(1)")
    assert cli(words) == 1
    failed = json.loads(capsys.readouterr().out)
    assert failed["files"] and failed["ollama"]["failed"] and "no server" in failed["ollama"]["lines"][0]


@posix
def test_the_window_shows_what_ollama_says_or_the_two_lines(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="no export"):
        list(page.into_ollama())
    folder = home / "out"
    folder.mkdir()
    (folder / "Modelfile").write_text("FROM ./m.gguf\n", "utf-8")
    run = runs.create(runs.RunConfig("export", "First <b>assistant", "starter"))
    (run.dir / "events.jsonl").write_text('{"type": "started"}\n{"type": "finished", "result": {}}\n', "utf-8")
    files = [{"path": str(folder / "m.gguf"), "type": "Q8_0", "bytes": 1, "sha256": "0"}]
    result = {"run": run.id, "files": files, "modelfile": str(folder / "Modelfile")}
    (run.dir / "result.json").write_text(json.dumps(result), "utf-8")
    choice.update(model="starter")
    shown = exportview.ollama(live.look())
    assert "Ollama is not on this machine" in shown and "ollama run first-b-assistant" in shown

    _program(tmp_path, "print('reading <model>', flush=True)\nprint('success')")
    assert "not on this machine" not in exportview.ollama(live.look())
    *_, before, last = page.into_ollama()
    assert "reading &lt;model&gt;" in before and "success" in last and "ollama run first-b-assistant" in last

    (run.dir / "result.json").write_text(json.dumps({**result, "certificate": {"ok": False, "lines": []}}), "utf-8")
    assert exportview.modelfile(live.look()) is None, "what does not hold is not brought into Ollama"
