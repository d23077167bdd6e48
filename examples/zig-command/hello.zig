//! A program that knows nothing of the host: it answers the line that it reads with `Hello NAME!`.
const std = @import("std");

pub fn main(init: std.process.Init) !void {
    var input_buffer: [1024]u8 = undefined;
    var output_buffer: [1024]u8 = undefined;
    var input = std.Io.File.stdin().readerStreaming(init.io, &input_buffer);
    var output = std.Io.File.stdout().writerStreaming(init.io, &output_buffer);
    const line = try input.interface.takeDelimiter('\n') orelse "";
    const name = std.mem.trim(u8, line, " \r");
    try output.interface.print("Hello {s}!\n", .{if (name.len == 0) "world" else name});
    try output.interface.flush();
}
