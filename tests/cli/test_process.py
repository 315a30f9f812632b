"""The process around a command: streams that fail, the terminal, JAX's settings and its cache."""

import io
import os
import signal
import subprocess
import sys
import warnings

import pytest

from glc_jax import cli
from glc_jax.cli import cache, messages, process
from glc_jax.errors import ConfigError
from tests.cli.stand_in import Stream, picture, said

FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")


def shell(line: str) -> subprocess.CompletedProcess:
    """A line for a shell, in which `glc` is this Python's."""
    return subprocess.run(
        [
            "bash",
            "-c",
            f"set -o pipefail; glc() {{ '{sys.executable}' -m glc_jax \"$@\"; }}; {line}",
        ],
        capture_output=True,
        text=True,
    )


# ---------------------------------------------------------------------------- streams


@FULL
@pytest.mark.parametrize("command", ["info photo.glc photo.glc", "models", "--help", "--version"])
def test_full_standard_output_is_one_sentence(here, command):
    picture("photo.png")
    cli.run(["compress", "-q", "photo.png"])
    done = shell(f"glc {command} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "glc: standard output: cannot be written (No space left on device).\n"


@FULL
def test_full_standard_output_for_a_file(here, monkeypatch, capsys):
    picture("photo.png")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.run(["compress", "photo.png", "-o", "-"]) == 1
        monkeypatch.undo()
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert lines == ["glc: standard output: cannot be written (No space left on device)."]


@pytest.mark.parametrize("command", ["info photo.glc", "compress photo.png -o -"])
def test_closed_standard_output_is_one_sentence(here, command):
    picture("photo.png")
    cli.run(["compress", "-q", "photo.png"])
    done = shell(f"glc {command} >&-")
    assert done.returncode == 1
    assert done.stderr == "glc: standard output is closed.\n"


def test_closed_standard_input_is_one_sentence(here):
    done = shell("glc info - <&-")
    assert (done.returncode, done.stderr) == (1, "glc: standard input is closed.\n")


def test_closed_standard_error_puts_no_message_among_the_results(here):
    """Python's print writes to standard output where sys.stderr is None."""
    picture("photo.png")
    cli.run(["compress", "-q", "photo.png"])
    done = shell("glc info missing.glc photo.glc 2>&-")
    assert done.returncode == 1
    assert done.stdout.startswith("photo.glc\n")


# ---------------------------------------------------------------------------- terminal


def test_names_cannot_write_to_the_terminal(here, capsys):
    """Escape codes and other control characters of a name are written out."""
    name = "a\x1b[31m\x9b\u202eb\n.png"
    picture(name)
    assert cli.run(["compress", name]) == 0
    line = capsys.readouterr().err
    assert line.startswith("a\\x1b[31m\\x9b\\u202eb\\n.png -> a\\x1b[31m\\x9b\\u202eb\\n.glc: ")
    assert cli.run(["info", name.replace("png", "glc")]) == 0
    assert capsys.readouterr().out.startswith("a\\x1b[31m\\x9b\\u202eb\\n.glc\n")
    assert messages.printable("größe 写真") == "größe 写真"


def test_progress_is_for_terminals(monkeypatch):
    pipe, terminal = Stream(), io.StringIO()
    for stream in (pipe, terminal):
        monkeypatch.setattr(stream, "isatty", lambda stream=stream: stream is terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        with messages.bar("2 files", 2) as update:
            update(advance=1)
    assert pipe.getvalue() == b""
    assert "2 files" in terminal.getvalue()
    assert "50%" in terminal.getvalue()


def test_lines_beside_a_progress_bar_are_not_wrapped(monkeypatch):
    """A result stays one line, and what looks like markup in a name stays as it is."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    line = "holiday/" + "[bold]very " * 20 + "long.jpg -> x.glc"
    with messages.bar("[red]2 files", 2):
        messages.tell(line)
    assert line in terminal.getvalue()
    assert messages._console is None


def test_warnings_of_one_kind_are_all_shown(here, capsys):
    """Python shows a warning once for each place and text; each file has its own."""
    for _ in range(2):
        picture("a.glc.png")
        cli.run(["compress", "-q", "a.glc.png", "-o", "a.glc"])
        cli.run(["decompress", "-q", "a.glc", "-o", "b.jpg"])
        assert cli.run(["compress", "-q", "b.jpg", "-o", "c.glc"]) == 0
        assert said(capsys) == [
            "glc: warning: b.jpg: was compressed by glc before; each time loses more."
        ]


# ---------------------------------------------------------------------------- JAX


@pytest.fixture
def environment(monkeypatch):
    """An environment of its own for what is set in it."""
    found = {}
    monkeypatch.setattr(os, "environ", found)
    monkeypatch.setattr(cache, "_own", None)
    return found


def test_jax_settings_leave_the_users_own(tmp_path, environment):
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    process.prepare_jax()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "cache" / "glc_jax")
    assert (tmp_path / "cache" / "glc_jax").is_dir()
    environment.clear()
    environment.update({"JAX_COMPILATION_CACHE_DIR": "mine", "HOME": str(tmp_path)})
    process.prepare_jax()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "mine"
    assert "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ  # nothing of theirs is evicted
    (tmp_path / "file").write_bytes(b"")
    environment.clear()
    environment["XDG_CACHE_HOME"] = str(tmp_path / "file")
    process.prepare_jax()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_relative_cache_home_is_ignored(tmp_path, environment, monkeypatch):
    """As the XDG base directory specification has it."""
    monkeypatch.chdir(tmp_path)
    environment.update({"XDG_CACHE_HOME": "relative", "HOME": str(tmp_path / "home")})
    process.prepare_jax()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "home/.cache/glc_jax")
    assert not (tmp_path / "relative").exists()


READING = "Error reading persistent compilation cache entry for 'jit__encode': ZstdError: damaged"


def test_damaged_cache_entry_is_removed_without_a_word(tmp_path, environment, monkeypatch, capsys):
    """JAX would warn and compile for ever: it never replaces an entry."""
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    process.prepare_jax()
    entries = {"jit__encode-1": 5, "jit__encode-2": 9, "jit__encode_more-3": 20, "jit_other-4": 30}
    for name, used in entries.items():
        (tmp_path / f"glc_jax/{name}-cache").write_bytes(b"program")
        (tmp_path / f"glc_jax/{name}-atime").write_bytes(used.to_bytes(8, "little"))
    (tmp_path / "glc_jax/jit__encode-5-cache").write_bytes(b"cut short by a full disk")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", messages.show_warning)
        warnings.warn(READING, stacklevel=1)
    assert capsys.readouterr().err == ""
    left = {path.name for path in (tmp_path / "glc_jax").glob("*-cache")}
    assert left == {"jit__encode-1-cache", "jit__encode_more-3-cache", "jit_other-4-cache"}


def test_cache_of_the_users_own_is_not_touched(tmp_path, environment):
    environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path)
    (tmp_path / "jit__encode-1-cache").write_bytes(b"program")
    process.prepare_jax()
    assert not cache.heal(READING)
    assert (tmp_path / "jit__encode-1-cache").exists()


def test_numpy_takes_one_thread_unless_the_user_says_otherwise(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    process.prepare_numpy()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    process.prepare_numpy()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "7"
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    process.prepare_numpy()
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_devices(environment, monkeypatch):
    installed = set()
    monkeypatch.setattr(process, "_has", lambda module: module in installed)
    monkeypatch.setattr(process, "_tpu_is_there", lambda: False)
    monkeypatch.setattr(cache, "prepare", lambda: None)

    def platforms(device=None, **variables):
        environment.clear()
        environment.update(variables)
        process.prepare_jax(device)
        return os.environ.get("JAX_PLATFORMS")

    assert platforms() is None
    assert platforms("cpu", JAX_PLATFORMS="cuda") == "cpu"
    for device in ("gpu", "tpu"):
        with pytest.raises(ConfigError, match="pip install"):
            platforms(device)
    installed |= {"jax_cuda12_plugin", "libtpu"}
    assert platforms("gpu") == "cuda,cpu"
    assert platforms("tpu") == "tpu,cpu"
    assert platforms() == "cpu"  # libtpu is not asked where there is no TPU
    assert platforms(JAX_PLATFORMS="tpu") == "tpu"
    monkeypatch.setattr(process, "_gpu_is_there", lambda: True)
    assert platforms() == "cuda,cpu"
    monkeypatch.setattr(process, "_tpu_is_there", lambda: True)
    assert platforms() is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_an_interrupt_reaches_a_command_that_waits_for_a_pipe(tmp_path):
    """Its reader waits in a thread, which Python would wait for in its turn."""
    picture(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    command = [sys.executable, "-m", "glc_jax", "compress", "pipe.png", "a.png", "-o", "out"]
    waiting = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        with open(tmp_path / "pipe.png", "wb"):  # it is open on the other side: a reader waits
            waiting.send_signal(signal.SIGINT)
            assert waiting.wait(60) == 130
        assert waiting.stderr.read() == "glc: interrupted.\n"
    finally:
        waiting.kill()
