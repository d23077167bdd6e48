// Greets each peer: `Hello NAME!` for the line that the peer sends, `Hello world!` for an empty
// one.

#include "plugin.h"
#include <ctype.h>
#include <string.h>

// The peer must not decide how much memory a guest uses: only the beginning of a longer line
// counts.
#define LONGEST_LINE 4096
// `blocking-write-and-flush` takes no more than this a call, and the server ends a guest that
// exceeds it.
#define MOST_IN_ONE_WRITE 4096

// Explains a stream's failure to the server's log. It consumes the error.
static bool fail(wasi_io_streams_stream_error_t error, const char *closed, plugin_string_t *message) {
    if (error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED) {
        plugin_string_dup(message, closed);
    } else {
        wasi_io_error_method_error_to_debug_string(wasi_io_error_borrow_error(error.val.last_operation_failed), message);
        wasi_io_streams_stream_error_free(&error);
    }
    return false;
}

static bool read_line(wasi_io_streams_borrow_input_stream_t input, uint8_t *line, size_t *length,
                      plugin_string_t *message) {
    *length = 0;
    while (!memchr(line, '\n', *length) && *length < LONGEST_LINE) {
        plugin_list_u8_t bytes;
        wasi_io_streams_stream_error_t error;
        if (!wasi_io_streams_method_input_stream_blocking_read(input, LONGEST_LINE - *length, &bytes, &error)) {
            if (error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED) break;
            return fail(error, "", message);
        }
        memcpy(line + *length, bytes.ptr, bytes.len);
        *length += bytes.len;
        plugin_list_u8_free(&bytes);
    }
    return true;
}

static bool write_all(wasi_io_streams_borrow_output_stream_t output, const uint8_t *bytes, size_t length,
                      plugin_string_t *message) {
    while (length > 0) {
        size_t part = length < MOST_IN_ONE_WRITE ? length : MOST_IN_ONE_WRITE;
        plugin_list_u8_t contents = {(uint8_t *)bytes, part};
        wasi_io_streams_stream_error_t error;
        if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(output, &contents, &error))
            return fail(error, "the peer has gone away", message);
        bytes += part;
        length -= part;
    }
    return true;
}

// The line without its end and the spaces around it.
static plugin_list_u8_t name_in(uint8_t *line, size_t length) {
    uint8_t *newline = memchr(line, '\n', length);
    uint8_t *end = newline ? newline : line + length;
    while (line < end && isspace(*line)) line++;
    while (line < end && isspace(end[-1])) end--;
    return line < end ? (plugin_list_u8_t){line, end - line} : (plugin_list_u8_t){(uint8_t *)"world", 5};
}

bool exports_uninterruptible_server_handler_handle_request(
    exports_uninterruptible_server_handler_own_connection_t connection,
    exports_uninterruptible_server_handler_own_input_stream_t input,
    exports_uninterruptible_server_handler_own_output_stream_t output, plugin_string_t *message) {
    uint8_t line[LONGEST_LINE], greeting[LONGEST_LINE + sizeof "Hello !\n"];
    size_t length;

    bool done = read_line(wasi_io_streams_borrow_input_stream(input), line, &length, message);
    if (done) {
        plugin_list_u8_t name = name_in(line, length);
        memcpy(greeting, "Hello ", 6);
        memcpy(greeting + 6, name.ptr, name.len);
        memcpy(greeting + 6 + name.len, "!\n", 2);
        done = write_all(wasi_io_streams_borrow_output_stream(output), greeting, name.len + 8, message);
    }

    wasi_io_streams_input_stream_drop_own(input);
    wasi_io_streams_output_stream_drop_own(output);
    uninterruptible_server_types_connection_drop_own(connection);
    return done;
}
