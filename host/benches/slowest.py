#!/usr/bin/env python3
"""Where the slowest one in a hundred connections spends its time, with 64 clients of `hello`, for the native server and for hosts.

    host/benches/slowest.py BENCHMARK PLUGIN HOST...

BENCHMARK is the program that `cargo bench --bench serving --no-run` names, PLUGIN is hello.wasm, each HOST a release build. It needs perf
and the right to trace the system (root), and takes half a minute for each server. The kernel's tracepoints say when a client is
connected, when it sends its request, when the server accepts the connection and when it ends it, together with the answer, and when the
client is done; and when which thread had a processor or wanted one. Tracing takes a part of the machine's time: what can be compared are
servers that are all traced.
"""

import bisect
import os
import re
import subprocess
import sys
import tempfile
import time
from itertools import takewhile
from pathlib import Path
from statistics import mean

CLIENTS = 64
ROUNDS = 5
WARM_UP, TRACED = 0.6, 0.6  # seconds
EVENTS = [
    "sock:inet_sock_set_state",
    "sched:sched_switch",
    "sched:sched_wakeup",
    *(f"syscalls:sys_{call}" for call in ("enter_connect", "enter_sendto", "exit_accept4", "enter_shutdown")),
]
LINE = re.compile(r"\s*(?P<pid>-?\d+)/(?P<thread>-?\d+)\s+(?P<seconds>[\d.]+):\s+\w+:(?P<event>\w+):\s+(?P<rest>.*)")
SOCKET = re.compile(r"sport=(\d+) dport=(\d+) saddr=(\S+) daddr=(\S+) .*newstate=(\w+)")
SWITCH = re.compile(r"prev_pid=(\d+) .*prev_state=(\S+) ==> .*next_pid=(\d+)")
WAKE_UP = re.compile(r" pid=(\d+)")
DESCRIPTOR = re.compile(r"0x([0-9a-f]+)")

# The most that may be missing of what was traced, as a part of the connections: slow ones would be the first to be.
MISSING = 0.01


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


class Away:
    """A time in which a thread had no processor: from when to when, and since when it wanted one."""

    def __init__(self, left, wanted):
        self.left, self.wanted, self.back = left, wanted, None

    def waited(self, begin, end):
        """For how long it waited for one, within that time."""
        since, until = self.wanted, self.back or end
        return max(0, min(until, end) - max(since, begin)) if since else 0


class Trace:
    """What the kernel told of one round."""

    def __init__(self, text, port, server, load):
        self.connections, self.incomplete = [], 0
        self.away = {}  # For each thread.
        self.answers = {}  # For each thread of the server: when it sent an answer.
        self.sleeps = 0  # Of all threads of the server, which are known when they have answered something.
        self._port, self._server, self._load = port, server, load
        self._open, self._connecting, self._requested, self._accepted, self._ending = {}, {}, {}, {}, {}
        for line in text.splitlines():
            if found := LINE.match(line):
                self._happened(**found.groupdict())
        self._left = {thread: [away.left for away in all_away] for thread, all_away in self.away.items()}

    def _happened(self, pid, thread, seconds, event, rest):
        now = float(seconds) * 1e6
        if event == "sched_switch":
            self._switched(now, *SWITCH.search(rest).groups())
        elif event == "sched_wakeup":
            away = self.away.get(WAKE_UP.search(rest)[1])
            if away and not away[-1].back and not away[-1].wanted:
                away[-1].wanted = now
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
            elif event == "sys_exit_accept4" and int(pid) == self._server:
                self._accepted[descriptor] = now
            elif event == "sys_enter_shutdown" and int(pid) == self._server:
                self._ending[thread] = descriptor

    def _switched(self, now, leaves, state, comes):
        preempted = state.startswith("R")
        self.away.setdefault(leaves, []).append(Away(now, now if preempted else None))
        self.sleeps += leaves in self.answers and not preempted
        if away := self.away.get(comes):
            away[-1].back = away[-1].back or now

    def _changed(self, now, thread, source, destination, here, there, state):
        if destination == self._port and state == "TCP_ESTABLISHED":
            # On loopback within connect(2).
            self._open[here, source] = Connection(now, self._connecting.pop(thread, None))
        elif source == self._port and state == "TCP_FIN_WAIT1":
            connection = self._open.get((there, destination))
            if connection and thread in self._ending:
                connection.requested = self._requested.get(connection.descriptor, 0)
                connection.accepted = self._accepted.get(self._ending.pop(thread), 0)
                connection.answered, connection.thread = now, thread
                self.answers.setdefault(thread, []).append(now)
        elif destination == self._port and state == "TCP_LAST_ACK":
            if connection := self._open.pop((here, source), None):
                connection.ended = now
                seen = connection.answered and connection.connected < min(connection.requested, connection.accepted)
                if seen:
                    self.connections.append(connection)
                else:
                    self.incomplete += 1

    def waited(self, thread, begin, end):
        """For how long it wanted a processor in that time, and had none."""
        all_away = self.away.get(thread, [])
        first = max(0, bisect.bisect(self._left.get(thread, []), begin) - 1)
        within = takewhile(lambda away: away.left < end, (all_away[index] for index in range(first, len(all_away))))
        return sum(away.waited(begin, end) for away in within)

    def answered(self, thread, begin, end):
        """How many it has answered in that time."""
        answers = self.answers.get(thread, [])
        return bisect.bisect(answers, end) - bisect.bisect(answers, begin)

    def row(self, connections):
        """What the table says of these."""
        others = {one: [thread for thread in self.answers if thread != one] for one in self.answers}
        spans = [(one.thread, one.ready, one.answered) for one in connections]
        return [
            mean(one.total for one in connections),
            mean(one.accepted - one.connected for one in connections),
            mean(max(0, one.requested - one.accepted) for one in connections),
            mean(one.answered - one.ready for one in connections),
            mean(one.ended - one.answered for one in connections),
            mean(self.waited(*span) for span in spans),
            mean(self.answered(*span) - 1 for span in spans),
            mean(sum(self.answered(thread, *span) for thread in others[one]) for one, *span in spans),
        ]

    def rows(self):
        """Those of the table, by name."""

        def part(key, begin, end):
            ordered = sorted(self.connections, key=key)
            return self.row(ordered[int(len(ordered) * begin) : int(len(ordered) * end)])

        return {
            "all": self.row(self.connections),
            "98 to 99.5 % in all": part(lambda one: one.total, 0.98, 0.995),
            "the last 1 % from ready to answered": part(lambda one: one.answered - one.ready, 0.99, 1),
        }


def traced(benchmark, command):
    """One round, with a server of its own."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, tempfile.NamedTemporaryFile() as record:
        try:
            address = next((line for line in server.stdout if line.startswith("listening")), None)
            if not address:
                sys.exit(f"{command[0]} does not listen")
            address = address.split("//")[1].strip()
            seconds = str(WARM_UP + TRACED + 0.4)
            command = [benchmark, "load", "hello", address, "--clients", str(CLIENTS), "--seconds", seconds]
            load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            time.sleep(WARM_UP)
            perf = ["perf", "record", "--quiet", "--all-cpus", "--mmap-pages", "16M", "--output", record.name]
            events = [argument for event in EVENTS for argument in ("--event", event)]
            subprocess.run([*perf, *events, "sleep", str(TRACED)], check=True)
            outcome = load.communicate()[0].split()
            if load.returncode or outcome[1] != "0":
                sys.exit(f"not every answer was right: {' '.join(outcome)}")
            script = ["perf", "script", "--input", record.name, "--fields", "pid,tid,time,event,trace"]
            # With the kernel's words for an event, and not those of a plugin that perf may have for it.
            environment = os.environ | {"TRACEEVENT_PLUGIN_DIR": os.devnull}
            text = subprocess.run(script, check=True, capture_output=True, text=True, env=environment).stdout
            trace = Trace(text, int(address.rsplit(":", 1)[1]), server.pid, load.pid)
        finally:
            server.kill()
    return trace


def complete(benchmark, command):
    """One round in which perf has kept up, of three."""
    for _ in range(3):
        trace = traced(benchmark, command)
        if trace.incomplete <= MISSING * len(trace.connections):
            return trace
    sys.exit(f"of {trace.incomplete} connections beside {len(trace.connections)} not all was seen: perf does not keep up")


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    benchmark, plugin, *hosts = (str(Path(argument).resolve()) for argument in sys.argv[1:])
    with tempfile.TemporaryDirectory() as cache:
        options = ["--plugin", plugin, "--bind", "tcp://127.0.0.1:0", "--log-level", "warn", "--cache-dir", cache]
        servers = {"native": [benchmark, "native", "hello", "--max-connections", "1024"]}
        servers |= {Path(host).name: [host, *options] for host in hosts}
        found, sleeps = {}, {}
        for _ in range(ROUNDS):
            for name, command in servers.items():
                trace = complete(benchmark, command)
                sleeps.setdefault(name, []).append(trace.sleeps / len(trace.connections))
                for which, row in trace.rows().items():
                    found.setdefault((name, which), []).append(row)
    print("| Server | Connections | In all | Until accepted | Until requested | From ready to answered | From answered to done ", end="")
    print("| Its thread without a processor | Others answered by its thread | By other threads |")
    print("|---" * 10 + "|")
    for (name, which), rows in found.items():
        cells = (f"{mean(column):,.0f}" if index < 6 else f"{mean(column):.1f}" for index, column in enumerate(zip(*rows)))
        print(f"| {name} | {which} | {' | '.join(cells)} |")
    for name, each in sleeps.items():
        print(f"{name}: its threads that answer sleep {mean(each):.2f} times a connection")


main()
