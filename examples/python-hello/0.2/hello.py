"""Greets each peer: `Hello NAME!` for the line that the peer sends, `Hello world!` for an empty one."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.streams import InputStream, OutputStream, StreamError, StreamError_Closed
from wit_world.imports.types import Connection

# The peer must not decide how much memory a guest uses: only the beginning of a longer line counts.
LONGEST_LINE = 4096
# `blocking_write_and_flush` takes no more than this a call, and the server ends a guest that
# exceeds it.
MOST_IN_ONE_WRITE = 4096


class Handler(exports.Handler):
    def handle_request(self, connection: Connection, input: InputStream, output: OutputStream) -> None:
        try:
            name = read_line(input).strip()
            write_all(output, b"Hello " + (name or b"world") + b"!\n")
        except Err as error:
            # An `Err` with a string becomes the contract's err(message); any other exception
            # becomes a trap.
            raise Err(describe(error.value)) from None


def read_line(input: InputStream) -> bytes:
    """The bytes before the first newline, or before the end of the input where there is none."""
    received = bytearray()
    while b"\n" not in received and len(received) < LONGEST_LINE:
        try:
            received += input.blocking_read(LONGEST_LINE - len(received))
        except Err as error:
            if isinstance(error.value, StreamError_Closed):
                break
            raise
    return bytes(received.partition(b"\n")[0])


def write_all(output: OutputStream, data: bytes) -> None:
    for start in range(0, len(data), MOST_IN_ONE_WRITE):
        output.blocking_write_and_flush(data[start : start + MOST_IN_ONE_WRITE])


def describe(error: StreamError) -> str:
    if isinstance(error, StreamError_Closed):
        return "the peer has gone away"
    return error.value.to_debug_string()
