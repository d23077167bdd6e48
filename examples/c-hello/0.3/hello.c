// Greets each peer: `Hello NAME!` for the line that the peer sends, `Hello world!` for an empty
// one.
//
// C has no `await`, so the handler is a state machine. An operation on a stream either completes at
// once or is "blocked": then the handler returns to the server with the set of things that it waits
// for, and the server calls it back with the event. State may be static, since an instance serves
// one connection.

#include "plugin_async.h"
#include <ctype.h>
#include <string.h>

// The peer must not decide how much memory a guest uses: only the beginning of a longer line
// counts.
#define LONGEST_LINE 4096

static enum { READING, ASKING_WHY_IT_ENDED, WRITING } state;

static exports_uninterruptible_server_handler_own_connection_t connection;
static exports_uninterruptible_server_handler_stream_u8_t input;
static exports_uninterruptible_server_handler_stream_u8_writer_t output;
static uninterruptible_server_types_future_result_void_string_t end_of_input;
static plugin_async_waitable_set_t waited_for;

static uint8_t line[LONGEST_LINE];
static size_t line_length;
static uninterruptible_server_types_result_void_string_t end;
static uint8_t greeting[LONGEST_LINE + sizeof "Hello !\n"];
static size_t greeting_length, greeting_written;

static plugin_async_waitable_status_t start_reading(void) {
    state = READING;
    return exports_uninterruptible_server_handler_stream_u8_read(input, line + line_length, LONGEST_LINE - line_length);
}

// A stream that ends does not tell whether the peer ended it or the connection broke.
static plugin_async_waitable_status_t start_asking(void) {
    state = ASKING_WHY_IT_ENDED;
    end_of_input = uninterruptible_server_types_method_connection_input_end(
        uninterruptible_server_types_borrow_connection(connection));
    plugin_async_waitable_join(end_of_input, waited_for);
    return uninterruptible_server_types_future_result_void_string_read(end_of_input, &end);
}

static plugin_async_waitable_status_t start_writing(void) {
    state = WRITING;
    return exports_uninterruptible_server_handler_stream_u8_write(output, greeting + greeting_written,
                                                                  greeting_length - greeting_written);
}

static void compose_greeting(void) {
    uint8_t *newline = memchr(line, '\n', line_length);
    const uint8_t *name = line, *name_end = newline ? newline : line + line_length;
    while (name < name_end && isspace(*name)) name++;
    while (name < name_end && isspace(name_end[-1])) name_end--;
    if (name == name_end) {
        name = (const uint8_t *)"world";
        name_end = name + 5;
    }
    size_t length = name_end - name;
    memcpy(greeting, "Hello ", 6);
    memcpy(greeting + 6, name, length);
    memcpy(greeting + 6 + length, "!\n", 2);
    greeting_length = length + 8;
}

static plugin_async_callback_code_t finish(void) {
    exports_uninterruptible_server_handler_stream_u8_drop_readable(input);
    uninterruptible_server_types_connection_drop_own(connection);
    exports_uninterruptible_server_handler_stream_u8_drop_writable(output); // closes the connection
    return PLUGIN_ASYNC_CALLBACK_CODE_EXIT;
}

// Continues after an operation with this outcome, until one blocks.
static plugin_async_callback_code_t go_on(plugin_async_waitable_status_t status) {
    while (status != PLUGIN_ASYNC_WAITABLE_STATUS_BLOCKED) {
        bool other_end_dropped = PLUGIN_ASYNC_WAITABLE_STATE(status) == PLUGIN_ASYNC_WAITABLE_DROPPED;
        size_t count = PLUGIN_ASYNC_WAITABLE_COUNT(status);
        switch (state) {
        case READING:
            line_length += count;
            if (memchr(line, '\n', line_length) || line_length == LONGEST_LINE) {
                compose_greeting();
                status = start_writing();
            } else {
                status = other_end_dropped ? start_asking() : start_reading();
            }
            break;
        case ASKING_WHY_IT_ENDED:
            uninterruptible_server_types_future_result_void_string_drop_readable(end_of_input);
            if (end.is_err) {
                uninterruptible_server_types_method_connection_fail(
                    uninterruptible_server_types_borrow_connection(connection), &end.val.err);
                uninterruptible_server_types_result_void_string_free(&end);
                return finish();
            }
            compose_greeting();
            status = start_writing();
            break;
        case WRITING:
            greeting_written += count;
            if (other_end_dropped || greeting_written == greeting_length) return finish();
            status = start_writing();
            break;
        }
    }
    return PLUGIN_ASYNC_CALLBACK_CODE_WAIT(waited_for);
}

plugin_async_callback_code_t exports_uninterruptible_server_handler_handle_request(
    exports_uninterruptible_server_handler_own_connection_t its_connection,
    exports_uninterruptible_server_handler_stream_u8_t its_input) {
    connection = its_connection;
    input = its_input;
    exports_uninterruptible_server_handler_stream_u8_t readable =
        exports_uninterruptible_server_handler_stream_u8_new(&output);
    waited_for = plugin_async_waitable_set_new();
    plugin_async_waitable_join(input, waited_for);
    plugin_async_waitable_join(output, waited_for);
    // The server reads the output only once it has it, so the work goes on after the return.
    exports_uninterruptible_server_handler_handle_request_return(readable);
    return go_on(start_reading());
}

plugin_async_callback_code_t exports_uninterruptible_server_handler_handle_request_callback(plugin_async_event_t *event) {
    return go_on(event->code);
}
