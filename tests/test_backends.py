"""Which llama.cpp is installed, which cards there are, and the one command that brings them together."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from studio import backends, hardware
from studio.backends import WHEELS, Card
from studio.cli import doctor

#: Lists of libraries as wheels of the backends have them, and what llama.cpp then says of itself.
BUILDS = [
    (["libggml-base.so", "libggml-cpu.so", "libllama.so"], "CPU : SSE3 = 1 | AVX2 = 1 | ", []),
    (["libggml-cuda.so", "libggml-cpu.so.0"], "CUDA : ARCHS = 890 | CPU : SSE3 = 1 | ", ["cuda"]),
    (["ggml-cuda.dll", "ggml-cpu.dll", "llama.dll"], "", ["cuda"]),
    (["libllama.so"], "CUDA : ARCHS = 700,890 | USE_GRAPHS = 1 | CPU : SSE3 = 1 | ", ["cuda"]),
    (["libggml-metal.dylib", "libggml-blas.dylib"], "MTL : EMBED_LIBRARY = 1 | CPU : NEON = 1 | ", ["metal"]),
    (["libggml-vulkan.so"], "CPU : SSE3 = 1 | ", ["vulkan"]),
    (["libggml-hip.so"], "ROCm : NO_VMM = 1 | CPU : SSE3 = 1 | ", ["rocm"]),
]


@pytest.mark.parametrize(("libraries", "said", "found"), BUILDS)
def test_a_build_is_named_by_its_libraries_and_by_what_it_says(
    libraries: list[str], said: str, found: list[str]
) -> None:
    assert backends.builds(libraries, said) == found


def test_the_build_that_is_installed_here_is_asked(home: Path) -> None:
    llama = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    assert bool(hardware.machine().backends) == llama.llama_supports_gpu_offload()
    row = doctor._build(hardware.machine())
    assert row["ok"] and row["found"].startswith(backends.title(hardware.machine().backends))


@pytest.mark.parametrize(
    ("driver", "capability", "name"),
    [
        ((13, 2), 8.9, "cu132"),
        ((13, 1), 9.0, "cu130"),
        ((13, 0), 6.1, "cu125"),  # CUDA 13 has no wheels for Pascal
        ((12, 8), 12.0, "cu125"),
        ((12, 4), 8.6, "cu124"),
        ((12, 0), 8.6, "cu118"),
        ((12, 0), 9.0, ""),  # the only wheel that its driver could load does not know it
        ((11, 7), 8.6, ""),
        ((12, 4), 0.0, "cu124"),  # an old nvidia-smi does not tell
    ],
)
def test_the_cuda_index_is_the_newest_that_driver_and_card_can_use(
    driver: tuple[int, int], capability: float, name: str
) -> None:
    assert backends.index(Card("nvidia", "a card", driver, capability), "Linux") == (WHEELS + name if name else "")


@pytest.mark.parametrize(
    ("card", "system", "name"),
    [
        (Card("apple", "Apple GPU"), "Darwin", "metal"),
        (Card("amd", "AMD GPU", toolkit=True), "Linux", "rocm72"),
        (Card("amd", "AMD GPU", toolkit=True), "Windows", "hip-radeon"),
        (Card("amd", "AMD GPU"), "Linux", "vulkan"),
    ],
)
def test_other_backends_have_an_index_each(card: Card, system: str, name: str) -> None:
    assert backends.index(card, system) == WHEELS + name


def test_the_command_takes_a_wheel_where_there_is_one_and_else_builds() -> None:
    card = Card("nvidia", "RTX 4070", (12, 4), 8.9)
    made = backends.command(card, "0.3.36", "Linux", (3, 11))
    assert f"--extra-index-url {WHEELS}cu124 llama-cpp-python==0.3.36" in made and "--only-binary" in made
    source = backends.command(card, "0.3.36", "Linux", (3, 13))
    assert source.startswith('CMAKE_ARGS="-DGGML_CUDA=on" ') and "--no-binary llama-cpp-python" in source
    assert backends.command(Card("nvidia", "old", (11, 4)), "0.3.36", "Windows").startswith(
        '$env:CMAKE_ARGS="-DGGML_CUDA=on"; & '
    )
    assert "GGML_HIP=on" in backends.command(Card("amd", "AMD GPU", toolkit=True), "1", "Linux", (3, 14))


def test_advice_is_given_only_where_a_card_is_left_unused() -> None:
    card = Card("nvidia", "RTX 4070", (12, 4), 8.9)
    assert backends.advice([], [], "0.3.36") == ""
    assert backends.advice(["cuda"], [card], "0.3.36") == "" == backends.advice(["vulkan"], [card], "0.3.36")
    said = backends.advice([], [card], "0.3.36")
    assert "RTX 4070" in said and "CUDA" in said and "pip install" in said
    assert backends.advice(["rocm"], [card], "0.3.36") != "", "a build for other cards"
    assert backends.unused(["cuda"], [Card("amd", "AMD GPU"), card]) is None


def test_nvidias_tool_is_asked_for_name_driver_and_capability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\n"
        'if [ -z "$1" ]; then echo "| NVIDIA-SMI 550.54  Driver Version: 550.54   CUDA Version: 12.4  |"; exit; fi\n'
        'echo "NVIDIA GeForce RTX 4070, 8.9"\necho "Tesla, [N/A]"\n'
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert backends._nvidia() == [
        Card("nvidia", "NVIDIA GeForce RTX 4070", (12, 4), 8.9),
        Card("nvidia", "Tesla", (12, 4), 0.0),
    ]
    tool.write_text("#!/bin/sh\necho Failed to initialize NVML\nexit 9\n")
    assert backends._nvidia() == []


def test_amds_cards_are_known_by_their_vendor(tmp_path: Path) -> None:
    for name, vendor in (("card0", "0x8086"), ("card1", "0x1002")):
        (tmp_path / name / "device").mkdir(parents=True)
        (tmp_path / name / "device" / "vendor").write_text(vendor + "\n")
    assert [card.vendor for card in backends._amd(tmp_path)] == ["amd"]


def test_doctor_says_of_a_model_whether_it_can_be_exported(home: Path, tiny: Path, tmp_path: Path) -> None:
    import json
    import shutil

    assert doctor._model(str(tiny)) == {
        "name": "model",
        "ok": True,
        "found": f"{tiny}: LlamaForCausalLM can be trained and exported",
        "remedy": "",
    }
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "architectures": ["GPTBigCodeForCausalLM"]}))
    row = doctor._model(str(other))
    assert not row["ok"] and "GPTBigCode" in row["found"] + row["remedy"] and row["remedy"]
    assert not doctor._model("/nowhere")["ok"]
