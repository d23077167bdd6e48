#!/usr/bin/env python3
"""Where the slowest one in a hundred connections spends its time, with 64 clients of `hello`, for the native server and the host.

    host/benches/slowest.py BENCHMARK HOST PLUGIN

BENCHMARK is the program that `cargo bench --bench serving --no-run` names, HOST a release build, PLUGIN hello.wasm. It needs perf and
the right to trace the system (root), and takes 20 seconds. The kernel's tracepoints say when a client is connected, when it sends its
request, when the server accepts the connection and when it ends it together with the answer, and when the client is done; and when
which thread had a processor. Tracing takes a part of the machine's time: what is compared are two servers that are both traced.
"""

import bisect
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

CLIENTS = 64
ROUNDS = 5
WARM_UP, TRACED = 0.6, 0.6  # seconds
EVENTS = [
    "sock:inet_sock_set_state",
    "sched:sched_switch",
    *(f"syscalls:sys_{call}" for call in ("enter_connect", "enter_sendto", "exit_accept4", "enter_shutdown")),
]
LINE = re.compile(r"\s*(?P<pid>\d+)/(?P<thread>\d+)\s+(?P<seconds>[\d.]+):\s+\w+:(?P<event>\w+):\s+(?P<rest>.*)")
SOCKET = re.compile(r"sport=(\d+) dport=(\d+) saddr=(\S+) daddr=(\S+) .*newstate=(\w+)")
SWITCH = re.compile(r"prev_pid=(\d+) .*prev_state=(\S+) ==> .*next_pid=(\d+)")
DESCRIPTOR = re.compile(r"0x([0-9a-f]+)")


class Connection:
    """When what happened, in µs."""

    def __init__(self, connected, descriptor):
        self.connected, self.descriptor = connected, descriptor
        self.requested = self.accepted = self.answered = self.ended = self.thread = None

    @property
    def ready(self):
        return max(self.requested, self.accepted)

    @property
    def total(self):
        return self.ended - self.connected


class Trace:
    """What the kernel told of one round."""

    def __init__(self, text, port, load):
        self.connections = []
        self.away = {}  # For each thread: from when to when it had no processor, and whether it wanted one.
        self.answers = {}  # For each thread of the server: when it sent an answer.
        self._port, self._load = port, load
        self._open, self._connecting, self._requested, self._accepted, self._ending = {}, {}, {}, {}, {}
        for line in text.splitlines():
            if found := LINE.match(line):
                self._happened(**found.groupdict())
        self._starts = {thread: [begin for begin, *_ in away] for thread, away in self.away.items()}

    def _happened(self, pid, thread, seconds, event, rest):
        now = float(seconds) * 1e6
        if event == "sched_switch":
            self._switched(now, *SWITCH.search(rest).groups())
        elif event == "inet_sock_set_state":
            if found := SOCKET.search(rest):
                source, destination, here, there, state = found.groups()
                self._changed(now, thread, int(source), int(destination), here, there, state)
        else:
            descriptor = int(DESCRIPTOR.search(rest)[1], 16)
            if event == "sys_enter_connect":
                self._connecting[thread] = descriptor
            elif event == "sys_enter_sendto" and int(pid) == self._load:
                self._requested[descriptor] = now
            elif event == "sys_exit_accept4":
                self._accepted[descriptor] = now
            elif event == "sys_enter_shutdown":
                self._ending[thread] = descriptor

    def _switched(self, now, leaves, state, comes):
        self.away.setdefault(leaves, []).append([now, None, state.startswith("R")])
        away = self.away.get(comes)
        if away and away[-1][1] is None:
            away[-1][1] = now

    def _changed(self, now, thread, source, destination, here, there, state):
        if destination == self._port and state == "TCP_ESTABLISHED":
            # On loopback within connect(2).
            self._open[here, source] = Connection(now, self._connecting.get(thread))
        elif source == self._port and state == "TCP_FIN_WAIT1":
            connection = self._open.get((there, destination))
            if connection and thread in self._ending:
                connection.requested = self._requested.get(connection.descriptor, 0)
                connection.accepted = self._accepted.get(self._ending[thread], 0)
                connection.answered, connection.thread = now, thread
                self.answers.setdefault(thread, []).append(now)
        elif destination == self._port and state == "TCP_LAST_ACK":
            connection = self._open.pop((here, source), None)
            if connection and connection.answered and connection.connected < min(connection.requested, connection.accepted):
                connection.ended = now
                self.connections.append(connection)

    def preempted(self, thread, begin, end):
        """For how long it had no processor in that time, though it wanted one."""
        away = self.away.get(thread, [])
        first = max(0, bisect.bisect(self._starts.get(thread, []), begin) - 1)
        waits = ((max(left, begin), min(back or end, end)) for left, back, wants in away[first:] if wants and left < end)
        return sum(max(0, until - since) for since, until in waits)

    def answered(self, thread, begin, end):
        """How many it has answered in that time."""
        answers = self.answers.get(thread, [])
        return bisect.bisect(answers, end) - bisect.bisect(answers, begin)

    def row(self, connections):
        """What the table says of these."""
        waiting = [(one, one.ready, one.answered) for one in connections]
        others = {one: [thread for thread in self.answers if thread != one] for one in self.answers}
        return [
            mean(one.total for one in connections),
            mean(one.accepted - one.connected for one in connections),
            mean(one.answered - one.ready for one in connections),
            mean(one.ended - one.answered for one in connections),
            mean(self.preempted(one.thread, *span) for one, *span in waiting),
            mean(self.answered(one.thread, *span) - 1 for one, *span in waiting),
            mean(sum(self.answered(thread, *span) for thread in others[one.thread]) for one, *span in waiting),
        ]

    def rows(self):
        """All, those in the middle, and those around the 99th percentile of each of the two."""
        by_total = sorted(self.connections, key=lambda one: one.total)
        by_wait = sorted(self.connections, key=lambda one: one.answered - one.ready)
        part = lambda ordered, begin, end: ordered[int(len(ordered) * begin) : int(len(ordered) * end)]
        return {
            "all": self.row(by_total),
            "98 to 99.5 %": self.row(part(by_total, 0.98, 0.995)),
            "longest from ready to answered, 1 %": self.row(part(by_wait, 0.99, 1)),
        }


def traced(benchmark, command):
    """One round with a server of its own."""
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = next(line for line in server.stdout if line.startswith("listening")).split("//")[1].strip()
        seconds = str(WARM_UP + TRACED + 0.4)
        load = [benchmark, "load", "hello", address, "--clients", str(CLIENTS), "--seconds", seconds]
        with subprocess.Popen(load, stdout=subprocess.DEVNULL) as load, tempfile.NamedTemporaryFile() as record:
            time.sleep(WARM_UP)
            perf = ["perf", "record", "--quiet", "--all-cpus", "--mmap-pages", "16M", "--output", record.name]
            events = [argument for event in EVENTS for argument in ("--event", event)]
            subprocess.run([*perf, *events, "sleep", str(TRACED)], check=True)
            load.wait()
            script = ["perf", "script", "--input", record.name, "--fields", "pid,tid,time,event,trace"]
            text = subprocess.run(script, check=True, capture_output=True, text=True).stdout
            return Trace(text, int(address.rsplit(":", 1)[1]), load.pid)
    finally:
        server.kill()
        server.wait()


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    benchmark, host, plugin = (str(Path(argument).resolve()) for argument in sys.argv[1:])
    with tempfile.TemporaryDirectory() as cache:
        servers = {
            "native": [benchmark, "native", "hello", "--max-connections", "1024"],
            "host": [host, "--plugin", plugin, "--bind", "tcp://127.0.0.1:0", "--log-level", "warn", "--cache-dir", cache],
        }
        found = {}
        for _ in range(ROUNDS):
            for name, command in servers.items():
                for which, row in traced(benchmark, command).rows().items():
                    found.setdefault((name, which), []).append(row)
    print("| Server | Connections | in all | until accepted | from ready to answered | from answered to done ", end="")
    print("| its thread preempted | its thread answered others | other threads answered |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (name, which), rows in found.items():
        cells = (f"{mean(column):,.0f}" if index < 5 else f"{mean(column):.1f}" for index, column in enumerate(zip(*rows)))
        print(f"| {name} | {which} | {' | '.join(cells)} |")


main()
