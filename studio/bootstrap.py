"""Makes `.venv`, installs Studio's packages into it and starts Studio: what `run` and `run.bat` call.

Standard library only and run by path, so it imports nothing of ours. Each step has a stamp, written last: a step with
no good stamp is done again, a start with all its stamps goes straight on. All that is said here goes to stderr, because
the stdout of `./run ... --json` belongs to the command.

Its own verbs: `test [--slow] [pytest arguments]`, `check`, `install` (look over every step again). Any other verb is
`studio <verb>`, none is `studio app`. `./run --offline ...`: pip looks only where the user's find-links point.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FORMAT = "1"  # raise it to have everybody's environment looked over again
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMPS = VENV / "studio"
LOG = ROOT / ".venv.log"
CONSTRAINTS = ROOT / "constraints.txt"
CUDA = shutil.which("nvidia-smi") is not None
LLAMA = "llama-cpp-python"
CPU_FLAGS = {"SSE42": "sse4_2", "AVX": "avx", "AVX2": "avx2", "FMA": "fma", "F16C": "f16c", "BMI2": "bmi2"}
STEPS = {  # in this order: the GB that it needs at most, and what it says
    "torch": (10.0 if CUDA else 4.0, "PyTorch {torch} (about 0.8 GB for CPU, 5.5 GB with CUDA)"),
    "base": (1.3, "transformers, gradio and the other libraries (about 0.9 GB)"),
    "dev": (0.7, "the developers' tools (about 0.5 GB)"),
    "llama": (0.6, "llama-cpp-python {llama-cpp-python}, for chat and GGUF (about 0.1 GB)"),
}
COMPILER = {  # what to install where there is none
    "darwin": "Apple's command line tools (xcode-select --install)",
    "win32": 'the Visual Studio Build Tools with "Desktop development with C++"',
}.get(sys.platform, "a C++ compiler (sudo apt install g++, or sudo dnf install gcc-c++)")
REMEDIES = {  # words in pip's output: what to do; the first that fits
    "no space left": "free some disk space, then start again.",
    "connection": "check the network and HTTPS_PROXY. With wheels at hand: PIP_FIND_LINKS=FOLDER ./run --offline",
    "found for torch": "PyTorch has no build for this Python and system. Use Python 3.11 to 3.13.",
    "no matching distribution": "pip finds no such package. Check its index settings (pip config list).",
    "ensurepip": "install Python's venv module (Debian, Ubuntu: sudo apt install python3-venv).",
    "": "read the log, then start again: the install goes on where it stopped.",
}


class Problem(Exception):
    """Something that the user can put right: a cause and a remedy."""


def say(text: str) -> None:
    """Print to stderr."""
    print(text, file=sys.stderr, flush=True)


def requirements() -> dict[str, list[str]]:
    """What each step installs, by pyproject.toml."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    dev = project.get("optional-dependencies", {}).get("dev", [])
    steps: dict[str, list[str]] = {"torch": [], "base": [], "dev": dev, "llama": []}
    for line in project["dependencies"]:
        name = re.split(r"[^\w.-]", line)[0]
        steps[{"torch": "torch", LLAMA: "llama"}.get(name, "base")].append(line)
    return steps


def pins() -> dict[str, str]:
    """Package -> version, by the constraints file."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", CONSTRAINTS.read_text("utf-8"), re.MULTILINE))


def digest(*parts: str) -> str:
    """The sha256 of some texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def stamp(step: str, lines: list[str]) -> str:
    """What a finished step's stamp says: it changes with all that could change what is installed."""
    python = f"{sys.implementation.cache_tag} {sys.platform} {platform.machine()}"
    return digest(FORMAT, step, *sorted(lines), CONSTRAINTS.read_text("utf-8"), python)


def read_stamp(step: str) -> str:
    """The stamp on disk ('' if there is none)."""
    return (STAMPS / step).read_text("utf-8") if (STAMPS / step).exists() else ""


def write_stamp(step: str, text: str) -> None:
    """Write a stamp so that it is there whole or not at all."""
    beside = STAMPS / f"{step}.new"
    beside.write_text(text, "utf-8")
    beside.replace(STAMPS / step)


def check_machine(todo: list[str], offline: bool) -> None:
    """Look, before anything is downloaded, at what could spoil the install."""
    need, free = sum(STEPS[step][0] for step in todo), shutil.disk_usage(ROOT).free / 1e9
    if sys.maxsize < 2**32:
        raise Problem("this Python is a 32-bit one and PyTorch is 64-bit only: install a 64-bit Python.")
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        raise Problem("PyTorch has no build for Intel Macs. On Apple silicon: use a Python that is not under Rosetta.")
    if free < need:
        raise Problem(f"{free:.1f} GB are free in {ROOT}, the install needs up to {need:.1f} GB: free some space.")
    say(f"Installing into {VENV}: Python {platform.python_version()}, {free:.0f} GB free, up to {need:.1f} needed.")
    if "llama" in todo and not compiler():
        say(f"No C++ compiler: chat may be off until you install {COMPILER} and run: ./run install")
    if "torch" in todo and sys.platform == "linux" and not (CUDA or offline):
        say("No NVIDIA card: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu makes pip take the CPU build.")


def compiler() -> bool:
    """Whether a build would find a C++ compiler."""
    if os.name == "nt":
        installer = Path(os.environ.get("PROGRAMFILES(X86)", ""), "Microsoft Visual Studio", "Installer", "vswhere.exe")
        return bool(shutil.which("cl")) or installer.exists()
    if sys.platform == "darwin":  # without the tools, /usr/bin/c++ is there all the same and only asks for them
        return succeeds("xcode-select", "-p")
    return any(map(shutil.which, ("c++", "g++", "clang++")))


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The CPU's features, named as in Linux's /proc/cpuinfo."""
    if sys.platform == "win32":
        import ctypes

        return set(CPU_FLAGS.values() if ctypes.windll.kernel32.IsProcessorFeaturePresent(40) else ["sse4_2"])  # AVX2
    found = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text("utf-8", "replace"), re.MULTILINE)
    return set(found[1].split()) if found else set()


def llama_flags(own: str, features: set[str] | None) -> str:
    """CMAKE_ARGS for llama.cpp; the user's own come last, so they win.

    A native x86-64 build can crash on CPUs with AMX (gcc 12 miscompiles the tile configuration). Without GGML_NATIVE
    each instruction set is on by default, so each is named, on or off. Other machines (features: None) keep
    llama.cpp's defaults.
    """
    if features is None:
        return own
    sets = [f"-DGGML_{name}={'ON' if flag in features else 'OFF'}" for name, flag in CPU_FLAGS.items()]
    return " ".join(["-DGGML_NATIVE=OFF", *sets, *own.split()])


def wheel_cache(flags: str) -> Path:
    """Our folder for the built wheel of this version, flags and platform (pip's own cache does not know the flags)."""
    own = {"nt": "LOCALAPPDATA", "posix": "XDG_CACHE_HOME"}[os.name]
    usual = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    key = digest(pins()[LLAMA], flags, sys.platform, platform.machine(), *platform.libc_ver())
    return Path(os.environ.get(own) or usual, "studio", "wheels", key[:16])


def succeeds(*command: str | Path) -> bool:
    """Whether a command ends well; its output goes nowhere."""
    with contextlib.suppress(OSError):
        return subprocess.run([*map(str, command)], capture_output=True, check=False).returncode == 0
    return False


def run_logged(title: str, *command: str | Path, **environ: str) -> None:
    """Run a helper: its output goes to the log, its latest line to a terminal; its failure becomes a Problem."""
    width = shutil.get_terminal_size().columns - 1 if sys.stderr.isatty() else 0
    lines = [""]
    with LOG.open("a", encoding="utf-8") as log:
        helper = subprocess.Popen(
            [*map(str, command)],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            close_fds=False,  # it holds our lock too: after a kill, the next start waits until it has ended
        )
        for line in helper.stdout or ():
            log.write(line)
            lines.append(line.strip())
            print(f"\r{line.strip()[:width]:{width}}" if width else "", end="", file=sys.stderr, flush=True)
    print(f"\r{'':{width}}\r" if width else "", end="", file=sys.stderr, flush=True)
    if helper.wait():
        cause = next((line for line in reversed(lines) if line.lower().startswith("error")), lines[-1])
        remedy = next(text for words, text in REMEDIES.items() if words in "\n".join(lines).lower())
        raise Problem(f"{title} failed: {cause}\n  What to do: {remedy}\n  Log: {LOG}")


def pip(verb: str, *arguments: str | Path, **environ: str) -> None:
    """Run the environment's pip as the user has configured it, within our constraints."""
    own = ("--disable-pip-version-check", "--no-input", "--constraint", CONSTRAINTS)
    run_logged(f"pip {verb}", PYTHON, "-I", "-m", "pip", verb, *own, *arguments, PIP_USER="0", **environ)


def make_venv() -> None:
    """Make `.venv`, unless it is there with a pip that starts."""
    if not succeeds(PYTHON, "-I", "-c", "import pip"):
        python = getattr(sys, "_base_executable", sys.executable)  # we may run on the very .venv that is to go
        run_logged("making .venv", python, "-I", "-m", "venv", "--clear", VENV)
    STAMPS.mkdir(exist_ok=True)


def forget_broken() -> None:
    """Remove the records of packages that a killed pip left half-installed, so that pip installs them again.

    pip takes a package for installed once its METADATA is there, and writes INSTALLER after the package's last file.
    """
    for site in [*VENV.glob("lib/python*/site-packages"), *VENV.glob("Lib/site-packages")]:
        for rest in site.glob("~*"):
            shutil.rmtree(rest, ignore_errors=True)
        for info in site.glob("*.dist-info"):
            record = (info / "RECORD").read_text("utf-8", "replace") if (info / "RECORD").exists() else ""
            files = [line.rsplit(",", 2)[0].strip('"') for line in record.splitlines()]
            whole = files and (info / "INSTALLER").exists()
            if not whole or not all((site / file).exists() for file in files if not file.endswith(".pyc")):
                shutil.rmtree(info)


def install_llama(offline: list[str], lines: list[str], afresh: bool) -> None:
    """llama-cpp-python from our wheel cache, else built with our flags; one that is there and imports may stay."""
    imports = (PYTHON, "-I", "-c", f"import llama_cpp; assert llama_cpp.__version__ == {pins()[LLAMA]!r}")
    if not afresh and succeeds(*imports):
        return
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    flags = llama_flags(os.environ.get("CMAKE_ARGS", ""), cpu_features() if x86 else None)
    cache = wheel_cache(flags)
    if not [*cache.glob("*.whl")]:
        if not compiler():
            raise Problem(f"{LLAMA} has to be built, and there is no C++ compiler.\n  What to do: install {COMPILER}.")
        say(f"      built from source, once: about 5 minutes on 2 cores (CMAKE_ARGS={flags})")
        source = ["--no-deps", "--no-cache-dir", "--no-binary", LLAMA, "--wheel-dir", str(cache / "new")]
        pip("wheel", *offline, *source, *lines, CMAKE_ARGS=flags)
        for wheel in (cache / "new").glob("*.whl"):
            wheel.replace(cache / wheel.name)
    wheel = next(cache.glob("*.whl"))
    pip("install", "--no-index", "--no-deps", "--force-reinstall", wheel)
    pip("install", *offline, *lines)  # what it depends on
    if not succeeds(*imports):
        wheel.unlink()
        raise Problem("the llama-cpp-python wheel did not import, and was thrown away.")


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the install lock; a second start waits here until the first has finished."""
    with (ROOT / ".venv.lock").open("a") as lock:
        os.set_inheritable(lock.fileno(), os.name == "posix")
        for attempt in itertools.count():
            with contextlib.suppress(OSError):
                if sys.platform == "win32":
                    msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
                else:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if attempt == 0:
                say("Another start is installing: waiting for it.")
            time.sleep(0.5)
        yield


def ensure(wanted: list[str], offline: bool, afresh: bool = False) -> str:
    """Bring the wanted steps up to date, at once when their stamps are good; returns why chat is off, if it is."""
    steps = {name: lines for name, lines in requirements().items() if name in wanted and lines}
    good = {name: stamp(name, lines) for name, lines in steps.items()}

    def missing() -> list[str]:
        return [name for name in good if afresh or not read_stamp(name).startswith(good[name])]

    if not PYTHON.exists() or missing():
        with locked():
            todo = missing()  # the other start may have done it
            check_machine(todo, offline)
            make_venv()
            for name in todo:
                (STAMPS / name).unlink(missing_ok=True)
            forget_broken()
            for number, name in enumerate(todo, 1):
                say(f"[{number}/{len(todo)}] {STEPS[name][1].format_map(pins())}")
                start, note = time.monotonic(), install(name, steps[name], ["--no-index"] * offline, afresh)
                write_stamp(name, good[name] + note)
                say(f"      {'not installed' if note else 'done'}, {time.monotonic() - start:.0f} s")
    why = read_stamp("llama").partition("\n")[2] if "llama" in steps else ""
    if why:
        say(f"Chat is off, the rest works: {why} Then run: ./run install")
    return why


def install(name: str, lines: list[str], offline: list[str], afresh: bool) -> str:
    """Do one step; returns a line with the cause if the one that may fail has failed."""
    if name != "llama":
        cuda = name == "torch" and os.name == "nt" and CUDA and not offline  # PyPI's wheel for Windows is CPU only
        index = ["--extra-index-url", "https://download.pytorch.org/whl/cu130"] if cuda else []
        pip("install", *offline, *index, *lines)
        return ""
    try:
        install_llama(offline, lines, afresh)
    except Problem as problem:
        return "\n" + " ".join(str(problem).split())
    return ""


def start(arguments: list[str]) -> int:
    """Become the environment's Python (on Windows: wait for it)."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Safe path: a torch.py in the user's current folder is not PyTorch.
    os.environ.update(PYTHONPATH=os.pathsep.join(paths), PYTHONSAFEPATH="1", PYTHONUTF8="1")
    if os.name == "nt":
        return subprocess.call([str(PYTHON), *arguments])
    os.execv(PYTHON, [str(PYTHON), *arguments])


def main(arguments: list[str]) -> int:
    """Install what the verb needs, then do it."""
    offline = arguments[:1] == ["--offline"]
    verb, *rest = arguments[offline:] or ["app"]
    steps = ["torch", "base"]
    if verb in ("test", "check") or (verb == "install" and read_stamp("dev")):
        steps.append("dev")
    if verb != "check":
        steps.append("llama")
    chat_is_off = ensure(steps, offline, afresh=verb == "install")
    if verb == "install":
        return 2 if chat_is_off else 0
    if verb == "check":
        tools = (["ruff", "format", "--check"], ["ruff", "check"], ["mypy"])
        return max([int(subprocess.call([str(PYTHON), "-m", *tool], cwd=ROOT) != 0) for tool in tools])
    if verb == "test":
        os.chdir(ROOT)
        slow = ["-m", "slow or not slow"] if "--slow" in rest else []
        return start(["-m", "pytest", *slow, *(word for word in rest if word != "--slow")])
    return start(["-m", "studio", verb, *rest])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Problem as problem:
        say(f"studio: {problem}")
        sys.exit(2)
    except KeyboardInterrupt:
        say("Stopped. The next start goes on from here.")
        sys.exit(130)
