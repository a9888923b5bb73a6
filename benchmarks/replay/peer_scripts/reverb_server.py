"""Reverb: its server in a process of its own, called from this one over loopback.

    reverb          an item's observation refers to single frames, which are shared
    reverb_stacks   an item brings its four frames: less to look up, more bytes

The first takes one TrajectoryWriter for each stream, as Reverb's actors do, the other one for all.
Chunks are of one step, since an item that is drawn brings whole chunks; items are read through
TrajectoryDataset. The table draws by priority, keeps the newest items and never makes anyone wait.

The server listens on all interfaces and cannot be told otherwise, so both processes run in a
network namespace of their own that has a loopback interface and nothing else. Where that is not
allowed, nothing is measured.
"""

from __future__ import annotations

import ctypes
import fcntl
import multiprocessing
import os
import socket
import struct
import sys

from measure_peer import LABELS, PRIORITY_EXPONENT, measure, resident_bytes

NUM_STACK = 4
TABLE = "replay"


def leave_the_network():
    """Move this process and its children into a network namespace with loopback alone."""
    clone_newuser, clone_newnet = 0x10000000, 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    flags = clone_newnet if os.geteuid() == 0 else clone_newnet | clone_newuser
    if libc.unshare(flags) != 0:
        reason = os.strerror(ctypes.get_errno())
        sys.exit(f"Reverb's server listens on all interfaces; no network namespace: {reason}")
    # Bring "lo" up: read its flags, add IFF_UP, write them back (netdevice(7)).
    get_flags, set_flags, iff_up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(control, get_flags, request), 16)
        fcntl.ioctl(control, set_flags, struct.pack("16sh14x", b"lo", flags | iff_up))


def serve(capacity, connection):
    """The server's process; ends when told to."""
    import reverb

    table = reverb.Table(
        name=TABLE,
        sampler=reverb.selectors.Prioritized(PRIORITY_EXPONENT),
        remover=reverb.selectors.Fifo(),
        max_size=capacity,
        rate_limiter=reverb.rate_limiters.MinSize(1),
    )
    server = reverb.Server([table])
    connection.send((os.getpid(), server.port))
    connection.recv()
    server.stop()


class Buffer:
    """The calls that are measured."""

    def __init__(self, items, options, port):
        import reverb

        self._reverb = reverb
        self._items = items
        self._batch_size = options.batch_size
        self._shares_frames = options.library == "reverb"
        self._address = f"localhost:{port}"
        self._client = reverb.Client(self._address)
        self._writers = {}
        self._batches = None

    def insert(self, rows):
        """Store a chunk: a slice of the recorded transitions."""
        used = set()
        for row in range(rows.start, rows.stop):
            used.add(self._append_frame(row) if self._shares_frames else self._append_stack(row))
        # Bounds what is under way, as an actor must.
        for writer in used:
            writer.flush(block_until_num_items=256)

    def _append_frame(self, row):
        writer = self._writer(int(self._items.streams[row]), (*LABELS, "frame"), NUM_STACK)
        step = {name: self._items.columns[name][row] for name in LABELS}
        step["frame"] = self._items.frames[self._items.stacks[row, -1]]
        writer.append(step)
        history = writer.history
        # A stream's first three steps have no stack yet. Stacks across two episodes are let pass:
        # they cost the same.
        if len(history["frame"]) >= NUM_STACK:
            item = {name: history[name][-1] for name in LABELS}
            item["observations"] = history["frame"][-NUM_STACK:]
            self._create_item(writer, row, item)
        return writer

    def _append_stack(self, row):
        columns = self._items.columns
        writer = self._writer(0, columns, 1)
        writer.append({name: array[row] for name, array in columns.items()})
        history = writer.history
        self._create_item(writer, row, {name: history[name][-1] for name in columns})
        return writer

    def _create_item(self, writer, row, item):
        writer.create_item(TABLE, float(self._items.priorities[row]) + 1e-6, item)

    def _writer(self, stream, columns, num_kept):
        if stream not in self._writers:
            writer = self._client.trajectory_writer(num_keep_alive_refs=num_kept)
            for name in columns:
                kept = num_kept if name == "frame" else 1
                writer.configure((name,), num_keep_alive_refs=kept, max_chunk_length=1)
            self._writers[stream] = writer
        return self._writers[stream]

    def finish_inserting(self):
        """Wait until everything is stored."""
        for writer in self._writers.values():
            writer.flush()

    def sample(self):
        """One batch; returns (its keys, its bytes)."""
        if self._batches is None:
            import tensorflow as tf

            columns = self._items.columns
            dataset = self._reverb.TrajectoryDataset(
                server_address=self._address,
                table=TABLE,
                dtypes={name: array.dtype for name, array in columns.items()},
                shapes={name: tf.TensorShape(array.shape[1:]) for name, array in columns.items()},
                max_in_flight_samples_per_worker=2 * self._batch_size,
            )
            self._batches = iter(dataset.batch(self._batch_size).prefetch(2))
        sample = next(self._batches)
        arrays = [tensor.numpy() for tensor in sample.data.values()]
        return sample.info.key.numpy(), sum(array.nbytes for array in arrays)

    def update(self, keys, priorities):
        """Set priorities of the transitions that were drawn."""
        self._client.mutate_priorities(
            TABLE, dict(zip(keys.tolist(), priorities.tolist(), strict=True))
        )


def measure_server(options):
    """Measure, by the options of the command line."""
    leave_the_network()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(options.capacity, theirs), daemon=True)
    server.start()
    pid, port = ours.recv()
    frames = 1 if options.library == "reverb" else 4
    measure(
        options.library,
        lambda items, options: Buffer(items, options, port),
        options,
        package="dm-reverb",
        where="server process, called over loopback",
        stores=f"{frames} frame(s) and labels of each transition, each a chunk of its own",
        read_memory=lambda: resident_bytes(pid),
    )
    ours.send("stop")
    server.join(10.0)
