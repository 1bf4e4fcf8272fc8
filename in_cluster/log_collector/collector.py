# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends the pods' log lines of one node to VictoriaLogs, and loses none: for clusters that can't have Fluent Bit.

One thread reads /var/log/pods and writes batches to a folder of the node (the spool), another sends the batches.
How far each file was read takes effect together with the batch that its lines are in.

VictoriaLogs acknowledges lines that are not on its disk yet, and keeps a line twice that is sent twice. So each line carries
the name of its batch. A batch stays in the spool until, HOLD seconds after its acknowledgement, VictoriaLogs still has all of
it; one that is not there is sent again. A batch that may have arrived, because the connection broke or the collector was
killed, is looked for before it is sent. What VictoriaLogs permanently refuses is kept in the folder `rejected`, and counted.

A line becomes a record with the labels and the metadata that role fluent_bit gives it. The lines that containerd cut (flag P)
and the lines of a Python traceback become one record.
"""

from __future__ import annotations

import base64
import calendar
import contextlib
import gzip
import http.client
import json
import os
import re
import secrets
import signal
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlencode, urlsplit

from flaskops_observability import log_lines
from flaskops_observability.kube.transport import ApiError, PodCluster

POLL = 0.3  # seconds between two looks at the files
READ = 1 << 20  # bytes that are read of one file at a time
BATCH = 1 << 20  # bytes of lines after which a batch is written
HELD = 1.0  # seconds that an unfinished traceback is waited for
CUT = 60.0  # seconds that the end of a cut line is waited for; its container may have died
# Bytes of one record; a longer one is sent in pieces. VictoriaLogs drops one over 2 MiB, and a byte that is not UTF-8 becomes 3.
LONGEST = 600_000
UNKNOWN = 60.0  # seconds that a file waits for its pod's labels while the API server does not answer
TIMEOUT = 30  # seconds of one request
PAUSES = (0.2, 0.5, 1, 2, 5)  # seconds between tries to reach VictoriaLogs; the last one repeats
SHOWN = 3.0  # seconds after which a line that was taken can be found
HOLD = 20.0  # seconds after which it is on the disk: more than 1 s and twice inmemoryDataFlushInterval, whose default is 5 s
ASKED = 50  # batches that are looked for at once
TRIES = 3  # how often a batch is sent that is acknowledged and then not there
AHEAD = 2 * 86400  # seconds; lines from later than that are dropped without a word, as those older than the retention
# Everything else may pass: VictoriaLogs is away, busy, or somebody corrects its address.
REFUSED = {400, 413, 422}
# A line is kept as it was written; else a JSON line would be taken apart, and one without `_msg` would lose its text.
PUSH = "/insert/loki/api/v1/push?disable_message_parsing=1"
ACCESS = Path("/access")  # the Secret with the login and the authority that VictoriaLogs asks for, where it does

STREAMS = ("stdout", "stderr")
LINE = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) (stdout|stderr) (\S+) ?(.*)", re.DOTALL)
LEVEL_NAMES = (*log_lines.LEVELS, "unknown")
NAMES = {name: level for level, names in log_lines.LEVELS.items() for name in names.split("|")}
LEVEL = [re.compile(regex) for regex in log_lines.LEVEL.values()]
REQUEST_ID = re.compile(log_lines.REQUEST_ID)
TRACED = "Traceback (most recent call last)"
# state: what may follow, and the state after it
TRACEBACK: dict[str, list[tuple[re.Pattern[str], str]]] = {}
for _state, _regex, _following in log_lines.TRACEBACK:
    TRACEBACK.setdefault(_state, []).append((re.compile(_regex), _following))


def say(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)


def level(line: str) -> str:
    """One of five levels, or `unknown`."""
    for regex in LEVEL:
        if found := regex.match(line):
            return NAMES.get(found.group(1).lower(), "unknown")
    return "error" if line.startswith("Traceback") else "unknown"


def traceback_state(state: str, line: str) -> str:
    """The state after a line of a traceback; `` where the line does not belong to one."""
    for regex, following in TRACEBACK[state]:
        if regex.match(line):
            return following
    return ""


class Clock:
    """CRI times as nanoseconds since 1970; the second is worked out once."""

    def __init__(self) -> None:
        self._text, self._seconds = b"", 0

    def nanoseconds(self, second: bytes, fraction: bytes | None, zone: bytes) -> int:
        """The time of a line's three parts, such as `2026-01-31T12:00:00`, `123456789`, `Z`."""
        if second != self._text:
            self._seconds = calendar.timegm(time.strptime(second.decode(), "%Y-%m-%dT%H:%M:%S"))
            self._text = second
        offset = 0 if zone == b"Z" else (int(zone[:3]) * 3600 + int(zone[0:1] + zone[4:]) * 60)
        return (self._seconds - offset) * 10**9 + int((fraction or b"").ljust(9, b"0"))


@dataclass(eq=False)
class File:
    """A log file that is followed by its inode, whatever its name becomes."""

    path: str
    inode: int
    handle: BinaryIO
    position: int  # the first byte that was not read yet; in a compressed file, of its content
    # By stream, the first byte that an earlier process had not finished; one stream can be further behind than the other.
    done: dict[str, int] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """`<namespace>_<pod>_<uid>/<container>`: the same for all files of a container."""
        return "/".join(self.path.split("/")[-3:-1])

    @property
    def start(self) -> str:
        """Which start of the container wrote it: `0`, `1` and so on."""
        return self.path.rsplit("/", 1)[1].split(".")[0]


@dataclass
class Held:
    """The beginning of a record whose end was not read yet, and where its lines are."""

    starts: dict[File, int]
    at: int  # nanoseconds since 1970
    text: list[bytes]
    partial: bool  # the last line was cut
    state: str = ""  # of the traceback before the last line
    size: int = 0
    since: float = field(default_factory=time.monotonic)


@dataclass
class Record:
    """A line as the application wrote it, with its time in nanoseconds."""

    folder: str
    stream: str
    time: int
    text: str


class Assembler:
    """Makes records of CRI lines. What it holds back is not counted as read."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str, str], Held] = {}  # by folder, stream, and start of the container
        self.malformed = 0
        self._clock = Clock()

    def positions(self, file: File) -> dict[str, int]:
        """By stream, the first byte of a file that is not in a finished record."""
        found = {stream: max(file.position, file.done.get(stream, 0)) for stream in STREAMS}
        for (_, stream, _), held in self.held.items():
            if file in held.starts:
                found[stream] = held.starts[file]
        return found

    def replace(self, old: File, new: File) -> None:
        """What is held of `old` is in `new` from now on, at the same place."""
        for held in self.held.values():
            if old in held.starts:
                held.starts[new] = held.starts.pop(old)

    def _finish(self, key: tuple[str, str, str]) -> Record:
        held = self.held.pop(key)
        return Record(key[0], key[1], held.at, b"".join(held.text).decode(errors="replace"))

    def expire(self) -> Iterator[Record]:
        """Finish what nothing followed."""
        for key, held in list(self.held.items()):
            if time.monotonic() - held.since >= (CUT if held.partial else HELD):
                yield self._finish(key)

    def add(self, file: File, position: int, line: bytes) -> Iterator[Record]:
        """Take the line at `position` of `file`, without its end."""
        found = LINE.match(line)
        if not found:
            self.malformed += 1
            return
        second, fraction, zone, source, flags, text = found.groups()
        stream = source.decode()
        if position < file.done.get(stream, 0):
            return
        key = (file.folder, stream, file.start)
        partial = flags.startswith(b"P")
        held = self.held.get(key)
        if held and held.partial:
            held.starts.setdefault(file, position)
            held.text.append(text)
            held.size += len(text)
            held.partial = partial and held.size < LONGEST
        else:
            begun = b"" if partial else text
            state = traceback_state(held.state, begun.decode(errors="replace")) if held else ""
            if held and state and held.size < LONGEST:
                held.starts.setdefault(file, position)
                held.text += [b"\n", text]
                held.size += len(text)
                held.state, held.since = state, time.monotonic()
                return
            if held:
                yield self._finish(key)
            held = Held({file: position}, self._clock.nanoseconds(second, fraction, zone), [text], partial, size=len(text))
            self.held[key] = held
        if held.partial:
            return
        held.state = traceback_state("", held.text[0][:200].decode(errors="replace"))
        held.since = time.monotonic()
        if not held.state:
            yield self._finish(key)


class Pods:
    """The label `app` of the pods, from the API server."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.apps: dict[str, str] = {}  # by folder
        self._pods: dict[str, dict[str, str]] = {}
        self._first: dict[str, float] = {}
        self._asked = 0.0

    def _ask(self) -> bool:
        """Read the labels of this node's pods; whether the API server answered."""
        query = urlencode({"fieldSelector": f"spec.nodeName={self.node}"})
        try:
            status, body = PodCluster().fetch(f"/api/v1/pods?{query}", seconds=5)
            if status != 200:
                say(f"The API server answered {status} to the question for the pods: see the ClusterRole.")
                return False
            metadata = [pod["metadata"] for pod in json.loads(body)["items"]]
        except (ApiError, OSError, ValueError) as error:
            say(f"The API server gave no answer: {error}")
            return False
        self._pods = {f"{item['namespace']}_{item['name']}": item.get("labels") or {} for item in metadata}
        return True

    def app(self, folder: str) -> str | None:
        """The application of a container's folder; None where it is not known yet."""
        if folder in self.apps:
            return self.apps[folder]
        pod, container = folder.split("/")
        name = pod.rsplit("_", 1)[0]
        now = time.monotonic()
        first = self._first.setdefault(folder, now)
        if name not in self._pods:
            if now - self._asked < 1:
                return None
            self._asked = now
            if not self._ask() and now - first < UNKNOWN:
                return None
        labels = self._pods.get(name, {})
        for key in ("app", "app.kubernetes.io/name", "k8s-app"):
            if labels.get(key):
                self.apps[folder] = labels[key]
                break
        else:
            self.apps[folder] = container
        return self.apps[folder]

    def forget(self, folders: set[str]) -> None:
        """Keep only what is known about these folders."""
        self.apps = {folder: app for folder, app in self.apps.items() if folder in folders}
        self._first = {folder: first for folder, first in self._first.items() if folder in folders}
        # A pod of a StatefulSet comes back under its name with other labels.
        self._pods = {}


class Batch:
    """Records on their way into one request to VictoriaLogs."""

    def __init__(self, cluster: str, node: str) -> None:
        self.cluster, self.node, self.name = cluster, node, secrets.token_hex(8)
        self.size = self.records = self.first = self.last = 0
        self.lines: Counter[tuple[str, str, str]] = Counter()  # by namespace, app and level
        self.tracebacks: Counter[tuple[str, str]] = Counter()
        self._streams: dict[tuple[str, ...], list[list[Any]]] = {}

    def add(self, record: Record, app: str) -> None:
        """Add a record with its labels and metadata."""
        pod, container = record.folder.split("/")
        namespace, name, _ = pod.split("_")
        labels = (namespace, app, container, self.cluster, level(record.text))
        metadata = {"pod": name, "node": self.node, "stream": record.stream, "batch": self.name}
        if found := REQUEST_ID.match(record.text):
            metadata["request_id"] = found.group(1)
        self._streams.setdefault(labels, []).append([str(record.time), record.text, metadata])
        self.lines[namespace, app, labels[-1]] += 1
        if TRACED in record.text:
            self.tracebacks[namespace, app] += 1
        self.first = min(self.first or record.time, record.time)
        self.last = max(self.last, record.time)
        self.size += len(record.text) + 100
        self.records += 1

    def body(self) -> bytes:
        """The request's body, compressed."""
        names = ("namespace", "app", "container", "cluster", "level")
        streams = [
            {"stream": dict(zip(names, labels, strict=True)), "values": sorted(values, key=lambda value: int(value[0]))}
            for labels, values in self._streams.items()
        ]
        return gzip.compress(json.dumps({"streams": streams}, ensure_ascii=False).encode(), 1)


def write(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, even after a power cut."""
    fresh = path.with_name(f".{path.name}")
    with fresh.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    fresh.rename(path)


@dataclass(eq=False)
class Entry:
    """A batch in the spool. Its file's name is its number, how many records it holds, their first and last time, and its name."""

    path: Path
    size: int
    doubtful: float | None = None  # since when it may have arrived without an acknowledgement
    taken: float = 0.0  # when it was acknowledged
    tries: int = 0

    def __post_init__(self) -> None:
        number, records, first, last, self.name = self.path.name.split(".")[0].split("-")
        self.number, self.records, self.first, self.last = int(number), int(records), int(first), int(last)


class Spool:
    """Batches on the node's disk, oldest first: those that wait, and those that were taken and are held."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.rejected, self.limit = folder / "spool", folder / "rejected", limit
        for path in (self.folder, self.rejected):
            path.mkdir(parents=True, exist_ok=True)
        for unfinished in self.folder.glob(".*"):
            unfinished.unlink()
        # A collector before this one may have sent any of them.
        self.waiting = [Entry(path, path.stat().st_size, time.monotonic()) for path in sorted(self.folder.glob("*.json.gz"))]
        self.held: list[Entry] = []
        there = [*self.folder.glob("*.json.gz"), *self.rejected.glob("*.json.gz")]
        self.number = max((int(path.name.split("-")[0]) for path in there), default=0)
        self.changed = threading.Condition()

    @property
    def size(self) -> int:
        """Bytes in the spool."""
        with self.changed:
            return sum(entry.size for entry in (*self.waiting, *self.held))

    def holds(self, number: int) -> bool:
        """Whether the batch of this number was written."""
        return number <= self.number

    def put(self, batch: Batch) -> None:
        """Write a batch."""
        self.number += 1
        parts = (f"{self.number:012d}", batch.records, batch.first, batch.last, batch.name)
        path, body = self.folder / f"{'-'.join(map(str, parts))}.json.gz", batch.body()
        write(path, body)
        with self.changed:
            self.waiting.append(Entry(path, len(body)))
            self.changed.notify()

    def oldest(self) -> Entry | None:
        """The batch to send next."""
        with self.changed:
            if not self.waiting:
                self.changed.wait(1)
            return self.waiting[0] if self.waiting else None

    def hold(self, entry: Entry) -> None:
        """Keep a batch that was taken until it is known to be on the disk."""
        with self.changed:
            self.waiting.remove(entry)
            self.held.append(entry)
            entry.doubtful, entry.taken = None, time.monotonic()

    def again(self, entry: Entry) -> None:
        """Send a batch once more."""
        with self.changed:
            self.held.remove(entry)
            self.waiting.insert(0, entry)

    def done(self, entry: Entry, keep: bool = False) -> None:
        """Forget a batch, or keep it among the rejected ones."""
        if keep:
            entry.path.rename(self.rejected / entry.path.name)
            there = sorted(self.rejected.iterdir())
            while len(there) > 1 and sum(item.stat().st_size for item in there) > self.limit:
                there.pop(0).unlink()
        else:
            entry.path.unlink(missing_ok=True)
        with self.changed:
            (self.held if entry in self.held else self.waiting).remove(entry)


class Collector:
    """The reader and the sender."""

    def __init__(
        self, logs: Path, state: Path, url: str, cluster: str, node: str, limit: int, retention: float, access: Path = ACCESS
    ) -> None:
        self.access = access
        self.logs, self.positions, self.url = logs, state / "positions.json", urlsplit(url)
        self.following = state / "positions.next.json"
        self.spool = Spool(state, limit)
        self.retention = retention
        self.pods = Pods(node)
        self.cluster, self.node = cluster, node
        self.assembler = Assembler()
        self.files: dict[int, File] = {}
        self.stopping = threading.Event()
        self.beat = time.monotonic()
        names = ("records", "sent_records", "resent_records", "rejected_records", "out_of_time_records", "errors")
        self.counts = dict.fromkeys(names, 0)
        self.lines: Counter[tuple[str, str, str]] = Counter()
        self.tracebacks: Counter[tuple[str, str]] = Counter()
        self.unread = 0
        self._adopt()
        try:
            known = json.loads(self.positions.read_text())
        except FileNotFoundError:
            known = {"files": {}, "apps": {}}
        except ValueError as error:
            say(f"{self.positions} can't be read ({error}), so that every file is read from its beginning.")
            known = {"files": {}, "apps": {}}
        self._known: dict[str, list[Any]] = known["files"]  # inode -> path and positions by stream
        for entry in self._known.values():
            if isinstance(entry[1], int):  # an older collector's, which had one for both
                entry[1] = dict.fromkeys(STREAMS, entry[1])
        self.pods.apps = known["apps"]
        self._saved = ""

    def _adopt(self) -> None:
        """Finish what a collector that was killed had begun: positions count if the batch that goes with them was written."""
        try:
            written = self.spool.holds(json.loads(self.following.read_text())["batch"])
        except (FileNotFoundError, ValueError):
            return
        if written:
            self.following.rename(self.positions)
        else:
            self.following.unlink()

    def _open(self, path: str, inode: int) -> File | None:
        """Begin to follow a file: where it was left, or at its beginning."""
        compressed = path.endswith(".gz")
        name, done = self._known.get(str(inode), [path, {}])
        if Path(name).parent != Path(path).parent:
            done = {}  # another file with the inode of one that is gone
        if compressed and str(inode) not in self._known:
            # kubelet compressed a file that was known under its name before.
            done = next((seen for name, seen in self._known.values() if name == path[:-3]), {})
        try:
            raw = open(path, "rb")  # noqa: SIM115, it stays open: what is deleted can still be read
        except FileNotFoundError:
            return None
        if not compressed and os.fstat(raw.fileno()).st_size < max(done.values(), default=0):
            done = {}
        handle: Any = gzip.GzipFile(fileobj=raw) if compressed else raw
        file = File(path, inode, handle, min(done.values(), default=0), done)
        for old in [old for old in self.files.values() if compressed and old.path == path[:-3]]:
            file.position, file.done = old.position, old.done
            self.assembler.replace(old, file)
            del self.files[old.inode]
            old.handle.close()
        handle.seek(file.position)
        return file

    def discover(self) -> None:
        """Follow the files that appeared, and note new names."""
        found: dict[int, str] = {}
        for pattern in ("*_*_*/*/*.log", "*_*_*/*/*.log.*"):
            for entry in self.logs.glob(pattern):
                if entry.suffix != ".tmp":
                    try:
                        found[entry.stat().st_ino] = str(entry)
                    except FileNotFoundError:
                        continue
        for inode, path in found.items():
            if inode in self.files:
                self.files[inode].path = path
            elif file := self._open(path, inode):
                self.files[inode] = file
        # A deleted file is followed to its end.
        for inode, file in list(self.files.items()):
            held = any(file in held.starts for held in self.assembler.held.values())
            # One that is not found can also have been renamed in the meantime.
            gone = inode not in found and not os.fstat(file.handle.fileno()).st_nlink
            if gone and not held and not self._left(file):
                file.handle.close()
                del self.files[inode]
        if {file.folder for file in self.files.values()} - self.pods.apps.keys():
            self.pods.forget({file.folder for file in self.files.values()})

    @staticmethod
    def _left(file: File) -> int:
        """Bytes that were not read yet; of a compressed file, whether there are any."""
        if file.path.endswith(".gz"):
            return len(file.handle.peek(1)[:1])  # type: ignore[attr-defined]
        return max(0, os.fstat(file.handle.fileno()).st_size - file.position)

    def _commit(self, batch: Batch) -> Batch:
        """Put a batch into the spool and write down how far everything was read, both or neither; the next batch."""
        files = {str(inode): [file.path, self.assembler.positions(file)] for inode, file in self.files.items()}
        text = json.dumps({"files": files, "apps": self.pods.apps})
        if batch.records:
            write(self.following, json.dumps({"files": files, "apps": self.pods.apps, "batch": self.spool.number + 1}).encode())
            self.spool.put(batch)
            self.following.rename(self.positions)
            self.counts["records"] += batch.records
            self.lines.update(batch.lines)
            self.tracebacks.update(batch.tracebacks)
        elif text != self._saved:
            write(self.positions, text.encode())
        self._saved, self._known = text, files
        return Batch(self.cluster, self.node)

    def _take(self, batch: Batch, record: Record) -> None:
        """Add a record to a batch, unless it is from a time that VictoriaLogs does not keep."""
        if -AHEAD < time.time() - record.time / 1e9 < self.retention:
            batch.add(record, self.pods.app(record.folder) or "")
        else:
            self.counts["out_of_time_records"] += 1

    def _see(self, file: File, app: str) -> None:
        """Count an application's lines from its first sight on, so that the first one is an increase."""
        namespace = file.folder.split("_")[0]
        if (namespace, app) not in self.tracebacks:
            self.tracebacks[namespace, app] = 0
            for name in LEVEL_NAMES:
                self.lines[namespace, app, name] = 0

    def read(self) -> bool:
        """Read what is new of every file once; whether there may be more."""
        self.discover()
        batch, more, unread = Batch(self.cluster, self.node), False, 0

        # The oldest first, so that an application's lines are sent in nearly the right order.
        # By name, `<restart>.log.<time of rotation>`: a file that kubelet compresses looks younger than the one after it.
        def age(file: File) -> tuple[int, bool, str]:
            restart, _log, rotated = Path(file.path).name.partition(".log")
            return int(restart) if restart.isdecimal() else 0, not rotated, rotated

        # Whose older file was not read to its end: a line may begin there and end in the newer one, which has to wait.
        behind: set[tuple[str, str]] = set()
        for file in sorted(self.files.values(), key=age):
            left = self._left(file)
            unread += left
            key = (file.folder, file.start)
            app = None if key in behind else self.pods.app(file.folder)
            if app is None:
                behind.add(key)
                continue
            self._see(file, app)
            if not left:
                continue
            if self.spool.size >= self.spool.limit:
                behind.add(key)
                continue
            data = file.handle.read(READ)
            if len(data) == READ:
                more = True
                behind.add(key)
            end = data.rfind(b"\n") + 1
            if not end and (len(data) == READ or not os.fstat(file.handle.fileno()).st_nlink):
                # No container writes a line of this length, and nobody ends the last line of a file that is deleted.
                self.assembler.malformed += 1
                file.position += len(data)
                continue
            if end < len(data):
                file.handle.seek(file.position + end)
            for line in data[:end].split(b"\n")[:-1]:
                for record in self.assembler.add(file, file.position, line):
                    self._take(batch, record)
                file.position += len(line) + 1
                if batch.size >= BATCH:
                    batch = self._commit(batch)
        for record in self.assembler.expire():
            self._take(batch, record)
        self._commit(batch)
        self.unread = unread
        self.beat = time.monotonic()
        return more

    def reader(self) -> None:
        """Read until the end."""
        while not self.stopping.is_set():
            if not self.read():
                self.stopping.wait(POLL)

    def _connect(self) -> http.client.HTTPConnection:
        if self.url.scheme != "https":
            return http.client.HTTPConnection(self.url.netloc, timeout=TIMEOUT)
        context = ssl.create_default_context(cadata=self._access("ca.crt") or None)
        return http.client.HTTPSConnection(self.url.netloc, timeout=TIMEOUT, context=context)

    def _access(self, key: str) -> str:
        """A key of the Secret with what VictoriaLogs asks for, which kubelet renews; empty where there is none."""
        try:
            return (self.access / key).read_text()
        except FileNotFoundError:
            return ""

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
        """What VictoriaLogs answers; the status 0 for nothing, and -1 where it was not even reached."""
        connection, reached = None, False
        try:
            connection = self._connect()
            connection.connect()
            reached = True
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"} if body else {}
            if username := self._access("username"):
                login = base64.b64encode(f"{username}:{self._access('password')}".encode()).decode()
                headers["Authorization"] = f"Basic {login}"
            connection.request(method, self.url.path.rstrip("/") + path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read().decode(errors="replace").strip()
        except (OSError, http.client.HTTPException) as error:
            return 0 if reached else -1, str(error) or type(error).__name__
        finally:
            if connection:
                connection.close()

    def _found(self, entries: list[Entry]) -> dict[str, int] | None:
        """How many records of each of these batches VictoriaLogs has; None where it does not say."""
        names = ",".join(f'"{entry.name}"' for entry in entries)
        query = {
            "query": f"batch:in({names}) | stats by (batch) count() records",
            "start": min(entry.first for entry in entries) - 10**9,
            "end": max(entry.last for entry in entries) + 10**9,
        }
        status, text = self._ask("GET", f"/select/logsql/query?{urlencode(query)}")
        if status != 200:
            say(f"VictoriaLogs does not say which batches it has: {status} {text[:200]}")
            return None
        return {row["batch"]: int(row["records"]) for row in map(json.loads, text.splitlines())}

    def _settle(self) -> bool:
        """Find out which of the batches that may have arrived did; whether that is known now."""
        doubtful = [entry for entry in self.spool.waiting if entry.doubtful is not None][:ASKED]
        if any(time.monotonic() - (entry.doubtful or 0) < SHOWN for entry in doubtful):
            return False
        found = self._found(doubtful)
        if found is None:
            return False
        for entry in doubtful:
            entry.doubtful = None
            if found.get(entry.name, 0) >= entry.records:
                self.spool.hold(entry)
        return True

    def _prove(self) -> None:
        """Forget the batches that are on VictoriaLogs' disk, and send again those that it lost."""
        due = [entry for entry in self.spool.held if time.monotonic() - entry.taken >= HOLD][:ASKED]
        found = self._found(due) if due else None
        if found is None:
            return
        for entry in due:
            there = found.get(entry.name, 0)
            if there >= entry.records:
                self.spool.done(entry)
                self.counts["sent_records"] += entry.records
            elif there or entry.tries >= TRIES:
                say(
                    f"VictoriaLogs took a batch of {entry.records} records and has {there} of them;"
                    f" it is kept as rejected/{entry.path.name}."
                )
                self.counts["rejected_records"] += entry.records - there
                self.spool.done(entry, keep=True)
            else:
                say(f"VictoriaLogs lost a batch of {entry.records} records that it had taken, which is sent again.")
                self.counts["resent_records"] += entry.records
                self.spool.again(entry)

    def sender(self) -> None:
        """Send until the end."""
        tries, said, proved = 0, "", 0.0
        while not self.stopping.is_set():
            if time.monotonic() - proved > 2:
                self._prove()
                proved = time.monotonic()
            entry = self.spool.oldest()
            if entry is None:
                continue
            if entry.doubtful is not None and not self._settle():
                self.stopping.wait(min(SHOWN, 1))
                continue
            if entry not in self.spool.waiting:
                continue
            if not entry.path.exists():
                say(f"{entry.path} with {entry.records} records was removed by somebody else.")
                self.spool.done(entry)
                continue
            status, text = self._ask("POST", PUSH, entry.path.read_bytes())
            if 200 <= status < 300:
                entry.tries += 1
                self.spool.hold(entry)
                if said:
                    say("VictoriaLogs takes records again.")
                tries, said = 0, ""
                continue
            self.counts["errors"] += 1
            if status in REFUSED:
                kept = f"which is kept as rejected/{entry.path.name}: {status} {text[:500]}"
                say(f"VictoriaLogs refused a batch of {entry.records} records, {kept}")
                self.counts["rejected_records"] += entry.records
                self.spool.done(entry, keep=True)
                continue
            if status == 0 or status >= 500:
                entry.doubtful = time.monotonic()
            # The same reason is said once.
            if (reason := f"{max(status, 0)} {text[:200]}") != said:
                say(f"VictoriaLogs did not take a batch, which is sent again until it does: {reason}")
                said = reason
            self.stopping.wait(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1

    def metrics(self) -> str:
        """What Prometheus scrapes."""
        waiting = self.spool.waiting
        try:
            oldest = time.time() - waiting[0].path.stat().st_mtime if waiting else 0
        except (OSError, IndexError):
            oldest = 0
        lines = [f"log_collector_{name}_total {value}" for name, value in self.counts.items()]
        lines += [
            f"log_collector_malformed_lines_total {self.assembler.malformed}",
            f"log_collector_unread_bytes {self.unread}",
            f"log_collector_spool_bytes {self.spool.size}",
            f"log_collector_spool_limit_bytes {self.spool.limit}",
            f"log_collector_spool_oldest_seconds {oldest:.1f}",
            f"log_collector_held_batches {len(self.spool.held)}",
            f"log_collector_files {len(self.files)}",
            "# TYPE flaskops_log_lines_total counter",
        ]
        for (namespace, app, name), value in sorted(self.lines.copy().items()):
            lines.append(f'flaskops_log_lines_total{{namespace="{namespace}",app="{app}",level="{name}"}} {value}')
        lines.append("# TYPE flaskops_log_tracebacks_total counter")
        for (namespace, app), value in sorted(self.tracebacks.copy().items()):
            lines.append(f'flaskops_log_tracebacks_total{{namespace="{namespace}",app="{app}"}} {value}')
        return "".join(f"{line}\n" for line in lines)


def serve(collector: Collector, port: int) -> ThreadingHTTPServer:
    """Answer /metrics and /healthz."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            alive = time.monotonic() - collector.beat < 60
            text = collector.metrics() if self.path == "/metrics" else "ok\n" if alive else "the reader hangs\n"
            # Who asks may have gone meanwhile; a traceback for each would hide what the log says of VictoriaLogs.
            with contextlib.suppress(ConnectionError):
                self.send_response(200 if alive or self.path == "/metrics" else 503)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            """Scrapes are not logged."""

    server = ThreadingHTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    """Entry point; the settings are environment variables."""
    retention = os.environ.get("RETENTION", "7d")
    collector = Collector(
        logs=Path(os.environ.get("LOGS", "/var/log/pods")),
        state=Path(os.environ.get("STATE", "/state")),
        url=os.environ["URL"],
        cluster=os.environ["CLUSTER"],
        node=os.environ["NODE_NAME"],
        limit=int(os.environ.get("SPOOL_LIMIT", str(1 << 30))),
        access=Path(os.environ.get("ACCESS", ACCESS)),
        retention=int(retention[:-1]) * {"d": 86400, "w": 7 * 86400, "y": 365 * 86400}[retention[-1]],
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: collector.stopping.set())
    serve(collector, int(os.environ.get("PORT", "9102")))
    failures: list[BaseException] = []

    def run(target: Any) -> None:
        # A thread that fails ends the process: Kubernetes starts it again, and nothing is lost.
        try:
            target()
        except BaseException as error:
            failures.append(error)
            collector.stopping.set()
            raise

    threads = [threading.Thread(target=run, args=(target,)) for target in (collector.reader, collector.sender)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
