"""Several learners that make every update together: each has a part of the batch and all weights.

A replica computes the gradient of its part, the mean over all replicas is the gradient of the whole
batch, and equal optimizers make the same step from it. A lone learner has a `LoneReplica`, for
which all of this is nothing.

Not torch's DistributedDataParallel: it hooks into a module's `forward`, and the objectives call
other methods of the student, some of them for the games of the batch only. The mean is one
all-reduce of all gradients side by side; it is not overlapped with the backward pass.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

_dist: Any = dist  # Much of it has no types.

LOOPBACK = "127.0.0.1"

# How long replicas wait for one that neither answers nor dies; much longer than an update.
COLLECTIVE_TIMEOUT_S = 60.0


class ReplicaLostError(RuntimeError):
    """Another replica has died, failed, or not answered in time: an update cannot be completed."""


class LoneReplica:
    """The only learner of a run; see ReplicaGroup."""

    rank = 0
    size = 1

    def average(self, tensors: Sequence[Tensor]) -> None:
        """The mean of one is itself."""

    def gather(self, tensor: Tensor) -> Tensor:
        """[1, *shape] The tensor itself."""
        return tensor.unsqueeze(0)

    def take_from_first(self, tensors: Sequence[Tensor]) -> None:
        """This is the first."""

    def all_of(self, *conditions: bool) -> list[bool]:
        """The conditions themselves."""
        return list(conditions)

    def close(self) -> None:
        """Nobody waits."""


@dataclass(frozen=True, slots=True)
class MeetingPoint:
    """Where replicas find each other."""

    # IP address that rank 0 listens on.
    address: str
    port: int


class Host:
    """Rank 0's side of a meeting point; kept as long as the replicas work together."""

    def __init__(self, address: str) -> None:
        """Listen on a free port of `address` and on no other address.

        There is no password: whoever can connect can disturb the run.
        """
        # torch's own socket would listen on all addresses of the machine, whatever it is told.
        listening = socket.create_server((address, 0))
        port = int(listening.getsockname()[1])
        self.point = MeetingPoint(address, port)
        self.store = _open_store(self.point, listening_fd=listening.detach())


class ReplicaGroup:
    """One of several learners in processes of their own; rank 0 publishes and keeps checkpoints."""

    def __init__(
        self,
        point: MeetingPoint,
        *,
        rank: int,
        size: int,
        own_address: str,
        device: torch.device,
        host: Host | None = None,
        timeout_s: float = COLLECTIVE_TIMEOUT_S,
    ) -> None:
        """Meet the others; ReplicaLostError if not all of them come within `timeout_s`.

        This one listens at `own_address`. NCCL carries gradients between GPUs, gloo between CPUs.
        In rank 0, `host` is the host of `point`.
        """
        self.rank = rank
        self.size = size
        try:
            store = host.store if host is not None else _open_store(point)
            # Also beside NCCL: what concerns the host must not wait for the GPU's work.
            self._host_group: Any = _gloo(store, rank, size, own_address, timeout_s)
            self._device_group: Any = self._host_group
            if device.type == "cuda":
                self._device_group = _nccl(store, rank, size, own_address, device, timeout_s)
        except RuntimeError as error:
            raise _lost(error) from error

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors by their means over all replicas, in one all-reduce."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        # gloo has no mean. Divided first, so that the sum cannot overflow where the mean does not.
        flat /= self.size
        _finish(lambda: self._device_group.allreduce([flat]))
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def gather(self, tensor: Tensor) -> Tensor:
        """[size, *shape] The same tensor of every replica."""
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        _finish(lambda: self._device_group.allgather([parts], [tensor]))
        return torch.stack(parts)

    def take_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of rank 0, one broadcast each."""
        for tensor in tensors:
            # Plain layout: what travels are bytes in the order in which they lie.
            plain = tensor.detach().clone(memory_format=torch.contiguous_format)
            _finish(partial(self._device_group.broadcast, plain, 0))
            tensor.detach().copy_(plain)

    def all_of(self, *conditions: bool) -> list[bool]:
        """For each condition whether it holds in all replicas; the GPU's work is not waited for."""
        flags = torch.tensor(conditions, dtype=torch.uint8)
        _finish(lambda: self._host_group.allreduce([flags], dist.ReduceOp.MIN))
        return [bool(flag) for flag in flags.tolist()]

    def close(self) -> None:
        """Leave the others, also while they wait in a collective."""
        if self._device_group is not None and self._device_group is not self._host_group:
            with suppress(RuntimeError):  # It may have failed already.
                self._device_group.abort()
        # gloo's connections end with the object: until then the others would wait in vain.
        self._device_group = self._host_group = None


# The learners of a run, as one of them sees them.
Replicas: TypeAlias = LoneReplica | ReplicaGroup


def _finish(start: Callable[[], Any]) -> None:
    """Start a collective and wait for it; on a GPU, have the work that follows wait for it."""
    try:
        start().wait()
    except RuntimeError as error:
        raise _lost(error) from error


def _lost(error: RuntimeError) -> ReplicaLostError:
    return ReplicaLostError(f"lost the other learners ({' '.join(str(error).split())})")


def _open_store(point: MeetingPoint, *, listening_fd: int | None = None) -> Any:
    """A place for the replicas' addresses, in rank 0's process; the listener is given there."""
    return _dist.TCPStore(
        point.address,
        point.port,
        None,
        listening_fd is not None,
        timedelta(seconds=COLLECTIVE_TIMEOUT_S),
        wait_for_workers=False,
        master_listen_fd=listening_fd,
    )


def _gloo(store: Any, rank: int, size: int, address: str, timeout_s: float) -> Any:
    """Collectives on the host, over TCP from and to `address`."""
    gloo: Any = dist.ProcessGroupGloo
    # Without options it listens where the machine's name leads, which may be a public address.
    options = gloo._Options()
    options._devices = [gloo.create_device(hostname=address)]
    options._timeout = timedelta(seconds=timeout_s)
    return gloo(_dist.PrefixStore("host", store), rank, size, options)


def _nccl(
    store: Any, rank: int, size: int, address: str, device: torch.device, timeout_s: float
) -> Any:
    """Collectives between GPUs; a replica that hangs in one is ended by NCCL's own watchdog."""
    if address == LOOPBACK:
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "nccl",
        store=_dist.PrefixStore("device", store),
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=timeout_s),
        device_id=torch.device("cuda", device.index or 0),
    )
    return dist.group.WORLD
