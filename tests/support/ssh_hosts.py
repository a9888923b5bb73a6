"""Several hosts on one machine, reached by ssh, as a cluster's launcher sees them.

    operator = 10.77.0.1 --- bridge --+-- first host, 10.77.0.10
                                      +-- second host, 10.77.0.11 ...

Each host has a network, processes, /tmp, /dev/shm, home and name of its own, in namespaces that
exist only as long as its first process; so `ray stop` on one of them ends nothing elsewhere. Files
of the system, the Python that runs this and this repository are seen from all of them. The
operator's host is where `ray up` is typed: it has the key to the others, and the bridge. Nothing
of the machine's own network is touched or reached.

Needs root on Linux, iproute2, util-linux, openssh-server, openssh-client and rsync.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

REPOSITORY = Path(__file__).resolve().parents[2]
OPERATOR = "operator"
OPERATOR_ADDRESS = "10.77.0.1"
_PROGRAMS = ("unshare", "nsenter", "ip", "mount", "ssh", "ssh-keygen", "rsync", "bash")
_SSHD = "/usr/sbin/sshd"

_FIRST_PROCESS = """
set -eu
name=$1 directory=$2 root=$directory/root; shift 2
hostname "$name"
# What must stay visible below the folders that are about to be covered.
for path in "$@"; do
    mkdir -p "$directory/cover$path"
    mount --bind "$path" "$directory/cover$path"
done
mount --rbind "$directory/cover$HOME" "$HOME"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd
mount -t tmpfs -o size=1g tmpfs /dev/shm
ip link set lo up
# Last, since the folder of this test may lie there.
mount --rbind "$directory/cover/tmp" /tmp
cd /
echo ready
# Ends when the test closes the pipe; until then this shell buries orphans.
read -r _ || true
"""

_SSHD_CONFIG = """
ListenAddress {address}
HostKey {home}/.ssh/host_key
AuthorizedKeysFile {home}/.ssh/authorized_keys
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PrintMotd no
"""


def why_not_here() -> str:
    """What this machine lacks for such hosts; empty if nothing."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "needs root on Linux"
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if not Path(_SSHD).exists():
        missing.append(_SSHD)
    return f"needs {', '.join(missing)}" if missing else ""


@dataclass(frozen=True)
class _Host:
    name: str
    address: str
    outer: subprocess.Popen[str]
    """The process that made the namespaces; its end is the host's."""
    first_pid: int
    """The host's process 1, as seen from outside."""


class SshHosts:
    """The operator's host and others. Close it, or use it in a `with` block."""

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        """Start all of them and wait until each is reached by ssh from the operator's.

        Args:
            directory: for the hosts' files and logs; stays behind.
            names: of the hosts beside the operator's.

        Raises:
            RuntimeError: a host does not come up.
        """
        self._directory = directory
        self._hosts: dict[str, _Host] = {}
        self._started: list[subprocess.Popen[str]] = []
        addresses = {name: f"10.77.0.{10 + index}" for index, name in enumerate(names)}
        try:
            self._make_keys([OPERATOR, *names])
            self._start_host(OPERATOR, OPERATOR_ADDRESS)
            self._make_bridge()
            for name, address in addresses.items():
                self._start_host(name, address)
                self._connect(name, address)
                self._start_sshd(name, address)
            for name in names:
                self._wait_for_ssh(name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def address(self, name: str) -> str:
        return self._hosts[name].address

    def home(self, name: str) -> Path:
        """The host's home directory, as seen from outside."""
        return self._cover(name) / str(Path.home()).lstrip("/")

    def temporary(self, name: str) -> Path:
        return self._cover(name) / "tmp"

    def run(
        self,
        name: str,
        command: Sequence[str],
        *,
        timeout_s: float = 30.0,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host, not through ssh; its two outputs come back as one text."""
        return subprocess.run(
            [*self._enter(name), *command],
            env=self._environment() | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start a command on a host and leave it running, until `close` at the latest."""
        self._started.append(
            subprocess.Popen(
                [*self._enter(name), *command],
                env=self._environment() | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )

    def processes(self, name: str) -> list[str]:
        """Command lines of everything that runs on a host beside its first process and ssh."""
        listed = self.run(name, ["ps", "-eo", "args", "--no-headers"]).stdout.splitlines()
        ours = ("bash -c", "ps -eo", "sshd", _SSHD, "[")
        return [line for line in listed if not line.startswith(ours)]

    def namespaces(self) -> set[str]:
        """The network namespaces of all hosts, to look for after `close`."""
        return {os.readlink(f"/proc/{host.first_pid}/ns/net") for host in self._hosts.values()}

    def close(self) -> None:
        """End every process of every host, and with them the namespaces."""
        for host in reversed(self._hosts.values()):
            host.outer.kill()
            host.outer.wait()
            for pipe in (host.outer.stdin, host.outer.stdout):
                if pipe is not None:
                    pipe.close()
        self._hosts.clear()
        # Each stands outside for one inside, which has ended with its host.
        for process in self._started:
            process.wait()
        self._started.clear()

    def _make_keys(self, names: Sequence[str]) -> None:
        key = self._directory / "key"
        _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "throwaway", "-f", str(key))
        for name in names:
            secrets = self.home(name) / ".ssh"
            secrets.mkdir(parents=True, mode=0o700)
            self.temporary(name).mkdir(parents=True)
            self.temporary(name).chmod(0o1777)
            if name == OPERATOR:
                shutil.copy(key, secrets / "cluster_key")
                continue
            host_key = str(secrets / "host_key")
            _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", host_key)
            shutil.copy(key.with_suffix(".pub"), secrets / "authorized_keys")

    def _start_host(self, name: str, address: str) -> None:
        namespaces = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc"]
        outer = subprocess.Popen(
            [
                *("unshare", *namespaces, "--kill-child"),
                *("bash", "-c", _FIRST_PROCESS, "first"),
                *(name, str(self._directory / name), *_paths_to_keep()),
            ],
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert outer.stdout is not None
        if outer.stdout.readline() != "ready\n":
            outer.kill()
            outer.wait()
            raise RuntimeError(f"the host {name} did not start")
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        self._hosts[name] = _Host(name, address, outer, int(children[0]))

    def _make_bridge(self) -> None:
        self._ip(OPERATOR, "link add bridge0 type bridge")
        self._ip(OPERATOR, f"address add {OPERATOR_ADDRESS}/24 dev bridge0")
        self._ip(OPERATOR, "link set bridge0 up")

    def _connect(self, name: str, address: str) -> None:
        port, pid = f"port{address.rpartition('.')[2]}", self._hosts[name].first_pid
        self._ip(OPERATOR, f"link add {port} type veth peer name net0 netns {pid}")
        self._ip(OPERATOR, f"link set {port} master bridge0 up")
        self._ip(name, f"address add {address}/24 dev net0")
        self._ip(name, "link set net0 up")
        # Leads nowhere; Ray takes a host's address from the route to the outside.
        self._ip(name, f"route add default via {OPERATOR_ADDRESS}")

    def _start_sshd(self, name: str, address: str) -> None:
        text = _SSHD_CONFIG.format(address=address, home=Path.home())
        (self.home(name) / ".ssh" / "sshd_config").write_text(text)
        log = Path.home() / ".ssh" / "sshd.log"
        started = self.run(
            name, [_SSHD, "-f", str(Path.home() / ".ssh" / "sshd_config"), "-E", str(log)]
        )
        if started.returncode != 0:
            raise RuntimeError(f"sshd on {name}: {started.stdout}")

    def _wait_for_ssh(self, name: str, timeout_s: float = 15.0) -> None:
        target = f"root@{self.address(name)}"
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        key = str(Path.home() / ".ssh" / "cluster_key")
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            answer = self.run(OPERATOR, ["ssh", *options, "-i", key, target, "true"])
            if answer.returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"no ssh to {name}: {answer.stdout}")

    def _ip(self, name: str, arguments: str) -> None:
        """Run `ip` in a host's network, but where processes are numbered as they are outside."""
        pid = str(self._hosts[name].first_pid)
        _call("nsenter", "--target", pid, "--net", "ip", *arguments.split())

    def _enter(self, name: str) -> list[str]:
        return ["nsenter", "--target", str(self._hosts[name].first_pid), "--all", "--wd=/"]

    def _cover(self, name: str) -> Path:
        return self._directory / name / "cover"

    def _environment(self) -> dict[str, str]:
        """What a fresh login would have: nothing of Ray, tokens or virtual environments."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "HOME": str(Path.home()), "USER": "root", "LANG": "C.UTF-8"}


def _paths_to_keep() -> list[str]:
    needed = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), REPOSITORY}
    covered = (Path.home(), Path("/tmp"))
    return sorted(str(path) for path in needed if any(path.is_relative_to(c) for c in covered))


def _call(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
