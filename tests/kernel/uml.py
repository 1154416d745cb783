"""Runs a command inside a User Mode Linux kernel that has this machine's files and none of its network.

The guest sees the host's whole file system read-only under a throw-away overlay, at the same paths: the same
Python, the same checkout, the same tools. Only one folder is shared for writing. Nothing else of what happens
inside (files, namespaces, interfaces, firewall rules) ever reaches the host.
"""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD_SCRIPT = CHECKOUT / "scripts" / "build-kernel"
MEMORY = "1G"
INHERITED = ("PATH", "HOME", "LANG", "CI", "PYTHONDONTWRITEBYTECODE")

# Runs as process 1, to change the root. /mnt is only a place to hang the overlay's two halves on before that.
# What an overlay cannot carry over is mounted anew; /run is empty: the host's sockets lie there.
INIT = """\
#!/bin/bash
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t devtmpfs devtmpfs dev
mkdir dev/pts dev/shm
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mount -t devpts devpts dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs tmpfs run
mount -t hostfs -o {shared} hostfs .{shared}
exec chroot . /bin/bash {shared}/command
"""

# Still process 1, now in its own root. The exit code travels in a file: a kernel has none to give.
COMMAND = """\
ip link set lo up
{exports}
export PATH=$PATH:/usr/sbin:/sbin
cd {cwd}
{argv} </dev/null >/dev/tty1 2>&1
echo $? >{shared}/exit-code
{power_off}
"""

# poweroff(8) belongs to an init system, and a minimal Debian has none; reboot(2) is always there.
POWER_OFF = [sys.executable, "-ISc", "import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)"]  # RB_POWER_OFF


class GuestError(Exception):
    """The guest ended without saying how its command ended: it did not boot, crashed, or ran out of time."""


def kernel_path() -> Path:
    """Where the kernel for this checkout is, or would be once scripts/build-kernel has run."""
    printed = subprocess.run([BUILD_SCRIPT, "--path"], stdout=subprocess.PIPE, text=True, check=True)
    return Path(printed.stdout.strip())


def run(
    kernel: Path, argv: Sequence[str], *, shared: Path, output: TextIO, deadline: float, guest: int = 0
) -> int:
    """Run argv in the checkout inside the guest and return its exit code.

    Guests that run at once are numbered from 0, and have a CPU each as long as there are as many.

    What it prints goes to `output` line by line. `shared` (absolute) is the one folder both sides can write.
    After `deadline` seconds the guest is killed and GuestError raised.
    """
    _write_scripts(shared, argv)
    console = shared / "console.log"
    with tempfile.TemporaryDirectory(prefix="uml-") as scratch, console.open("w") as kernel_messages:
        reading, writing = os.pipe()
        # A session of its own makes the guest one process group, so that killing it can hit nothing else.
        process = subprocess.Popen(
            _command_line(kernel, shared, scratch, writing, guest),
            stdin=subprocess.DEVNULL,
            stdout=kernel_messages,
            stderr=subprocess.STDOUT,
            pass_fds=(writing,),
            start_new_session=True,
        )
        os.close(writing)
        expired = _stream(process, reading, output, deadline)
    if expired:
        raise GuestError(f"the guest was killed: not done after {deadline:.0f} s")
    return _exit_code(shared, console)


def _command_line(kernel: Path, shared: Path, scratch: str, output_fd: int, guest: int) -> list[str]:
    # Each system call of the guest switches between two processes of the host: on one CPU, 3 times as fast.
    # Which one goes by our pid too, so that the guests of two test runs are likely to have one each.
    cpus = sorted(os.sched_getaffinity(0))
    pin = ["taskset", "--cpu-list", str(cpus[(os.getpid() + guest) % len(cpus)])]
    root = ["rootfstype=hostfs", "rootflags=/", "ro", f"init={shared}/init"]
    consoles = ["con=null", "con0=null,fd:1", f"con1=null,fd:{output_fd}", "quiet"]
    return [*pin, str(kernel), f"mem={MEMORY}", f"uml_dir={scratch}/", *root, *consoles]


def _write_scripts(shared: Path, argv: Sequence[str]) -> None:
    exports = [f"export {name}={shlex.quote(os.environ[name])}" for name in INHERITED if name in os.environ]
    fields = {
        "shared": shlex.quote(str(shared)),
        "exports": "\n".join(exports),
        "cwd": shlex.quote(str(CHECKOUT)),
        "argv": shlex.join(argv),
        "power_off": shlex.join(POWER_OFF),
    }
    (shared / "init").write_text(INIT.format(**fields))
    (shared / "init").chmod(0o755)
    (shared / "command").write_text(COMMAND.format(**fields))


def _stream(guest: subprocess.Popen[bytes], reading: int, output: TextIO, deadline: float) -> bool:
    """Copy what the command prints until the guest has ended; True if it had to be killed."""
    expired = threading.Event()

    def kill() -> None:
        expired.set()
        os.killpg(guest.pid, signal.SIGKILL)

    timer = threading.Timer(deadline, kill)
    timer.start()
    try:
        with open(reading, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                output.write(line)
                output.flush()
        guest.wait()
    finally:
        timer.cancel()
        if guest.poll() is None:
            kill()
            guest.wait()
    return expired.is_set()


def _exit_code(shared: Path, console: Path) -> int:
    try:
        return int((shared / "exit-code").read_text())
    except FileNotFoundError:
        last_words = "\n".join(console.read_text(errors="replace").splitlines()[-20:])
        raise GuestError(f"the guest ended before its command did; its console:\n{last_words}") from None
