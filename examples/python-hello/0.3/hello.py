"""Greets each peer: `Hello NAME!` for the line that the peer sends, `Hello world!` for an empty one."""

import componentize_py_async_support
import wit_world
from componentize_py_async_support.streams import ByteStreamReader, ByteStreamWriter
from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.types import Connection

# The peer must not decide how much memory a guest uses: only the beginning of a longer line counts.
LONGEST_LINE = 4096


class Handler(exports.Handler):
    async def handle_request(self, connection: Connection, input: ByteStreamReader) -> ByteStreamReader:
        writer, output = wit_world.byte_stream()
        # The server reads `output` only once it has it, so the work goes on after the return.
        componentize_py_async_support.spawn(greet(connection, input, writer))
        return output


async def greet(connection: Connection, input: ByteStreamReader, output: ByteStreamWriter) -> None:
    # Leaving the `with` closes the output, and with it the connection.
    with connection, output:
        with input:
            line, ended = await read_line(input)
        if ended:
            # A stream that ends does not tell whether the peer ended it or the connection broke.
            end = await connection.input_end().read()
            if isinstance(end, Err):
                connection.fail(f"input broke: {end.value}")
                return
        name = line.strip()
        await output.write_all(b"Hello " + (name or b"world") + b"!\n")


async def read_line(input: ByteStreamReader) -> tuple[bytes, bool]:
    """The bytes before the first newline, and whether the input ended before there was one."""
    received = bytearray()
    while b"\n" not in received and len(received) < LONGEST_LINE:
        if input.writer_dropped:
            return bytes(received), True
        received += await input.read(LONGEST_LINE - len(received))
    return bytes(received.partition(b"\n")[0]), False
