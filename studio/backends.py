"""Which llama.cpp is installed (CPU, CUDA, Metal, Vulkan, ROCm), which GPUs there are, and how the two come together.

llama-cpp-python comes in one build a backend; which one is installed is read from the libraries beside it and from what
it says about itself. The wheel indexes are those that its README names (0.3.36).
"""

from __future__ import annotations

import dataclasses
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

WHEELS = "https://abetlen.github.io/llama-cpp-python/whl/"
#: CUDA wheels: the name of the index, the CUDA version, and the compute capabilities that it serves.
CUDA = (
    ("cu118", (11, 8), (6.0, 8.9)),
    ("cu121", (12, 1), (6.0, 99.0)),
    ("cu122", (12, 2), (6.0, 99.0)),
    ("cu123", (12, 3), (6.0, 99.0)),
    ("cu124", (12, 4), (6.0, 99.0)),
    ("cu125", (12, 5), (6.0, 99.0)),
    ("cu130", (13, 0), (7.5, 99.0)),
    ("cu132", (13, 2), (7.5, 99.0)),
)
#: Wheels of the other backends, by backend and system.
OTHERS = {
    ("metal", "Darwin"): "metal",
    ("rocm", "Linux"): "rocm72",
    ("rocm", "Windows"): "hip-radeon",
    ("vulkan", "Linux"): "vulkan",
    ("vulkan", "Windows"): "vulkan",
}
#: The Pythons that these wheels are for; others build from source.
PYTHONS = ((3, 10), (3, 12))
_FLAGS = {"cuda": "GGML_CUDA", "metal": "GGML_METAL", "rocm": "GGML_HIP", "vulkan": "GGML_VULKAN"}
#: What a backend is called in the names of its libraries and in llama.cpp's system info.
_NAMES = {"cuda": "cuda", "metal": "metal", "mtl": "metal", "hip": "rocm", "rocm": "rocm", "vulkan": "vulkan"}
TITLES = {"cpu": "CPU", "cuda": "CUDA", "metal": "Metal", "rocm": "ROCm", "vulkan": "Vulkan"}
#: The backends that can use the cards of a vendor, the best first.
USABLE = {"nvidia": ("cuda", "vulkan"), "apple": ("metal",), "amd": ("rocm", "vulkan")}


@dataclasses.dataclass(frozen=True)
class Card:
    """A GPU as the system knows it; of an NVIDIA card also the CUDA version of its driver and its capability."""

    vendor: str
    name: str
    cuda: tuple[int, int] = (0, 0)
    capability: float = 0.0
    toolkit: bool = False


def builds(libraries: Iterable[str], info: str) -> list[str]:
    """List the GPU backends of an installed llama.cpp, by its libraries' names and its own words; empty: CPU only."""
    found = [match[1] for name in libraries if (match := re.search(r"ggml-([a-z]+)", name.lower()))]
    found += [name.lower() for name in re.findall(r"(\w+) : ", info)]
    return list(dict.fromkeys(_NAMES[name] for name in found if name in _NAMES))


def title(found: Sequence[str]) -> str:
    """Name a build: CUDA, Metal, ...; CPU for one without."""
    return " and ".join(TITLES[name] for name in found) or TITLES["cpu"]


def cards() -> list[Card]:
    """List the GPUs that this system has, without loading a framework."""
    if sys.platform == "darwin":
        return [Card("apple", "Apple GPU")] if platform.machine() == "arm64" else []
    return [*_nvidia(), *_amd()]


def _nvidia() -> list[Card]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    head = re.search(r"CUDA Version:\s*(\d+)\.(\d+)", _said([tool]))
    version = (int(head[1]), int(head[2])) if head else (0, 0)
    listed = _said([tool, "--query-gpu=name,compute_cap", "--format=csv,noheader"])
    rows = [line.rsplit(",", 1) for line in listed.splitlines() if "," in line]
    return [Card("nvidia", name.strip(), version, _number(capability)) for name, capability in rows]


def _amd(root: Path = Path("/sys/class/drm")) -> list[Card]:
    """Find AMD's cards by the vendor's number, on Linux."""
    found = []
    for path in sorted(root.glob("card*/device/vendor")):
        try:
            if path.read_text("ascii").strip() == "0x1002":
                found.append(Card("amd", "AMD GPU", toolkit=Path("/opt/rocm").is_dir()))
        except (OSError, ValueError):
            continue
    return found


def _said(line: list[str]) -> str:
    try:
        return subprocess.run(line, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def wanted(card: Card) -> str:
    """Name the backend that is best for a card; ROCm's only where its own libraries are."""
    first, *others = USABLE[card.vendor]
    return others[0] if card.vendor == "amd" and not card.toolkit and others else first


def index(card: Card, system: str = "") -> str:
    """Give the address of the wheel index for a card, "" where there is none."""
    backend = wanted(card)
    if backend != "cuda":
        name = OTHERS.get((backend, system or platform.system()), "")
        return WHEELS + name if name else ""
    fits = [
        name
        for name, version, (low, high) in CUDA
        if version <= card.cuda and (not card.capability or low <= card.capability <= high)
    ]
    return WHEELS + fits[-1] if fits else ""


def command(card: Card, version: str, system: str = "", python: tuple[int, int] = sys.version_info[:2]) -> str:
    """Give the one command that changes the build to one that uses the card: a wheel where there is one, else source.

    The version stays the one that is installed: the chat is tested with it.
    """
    pip = f'"{sys.executable}" -m pip install --force-reinstall --no-deps --no-cache-dir'
    place = index(card, system)
    if place and PYTHONS[0] <= python <= PYTHONS[1]:
        return f"{pip} --only-binary llama-cpp-python --extra-index-url {place} llama-cpp-python=={version}"
    flag = f"-D{_FLAGS[wanted(card)]}=on"
    source = f"{pip} --no-binary llama-cpp-python llama-cpp-python=={version}"
    if (system or platform.system()) == "Windows":
        return f'$env:CMAKE_ARGS="{flag}"; & {source}'
    return f'CMAKE_ARGS="{flag}" {source}'


def unused(found: Sequence[str], there: Iterable[Card]) -> Card | None:
    """Give the first card that an installed build cannot use, None where it uses one or there is none."""
    listed = list(there)
    if any(backend in USABLE[card.vendor] for card in listed for backend in found):
        return None
    return listed[0] if listed else None


def advice(found: Sequence[str], there: Iterable[Card], version: str) -> str:
    """Say how the chat would come to use a card that the build cannot use; empty where nothing is to be done."""
    card = unused(found, there)
    if card is None:
        return ""
    made = command(card, version)
    place = index(card)
    where = f"; its wheels: {place}" if place else ""
    return f"Chat runs on the CPU. For {card.name} change the build to {TITLES[wanted(card)]}{where}. Run: {made}"
