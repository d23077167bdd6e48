// Greets each peer: `Hello NAME!` for the line that the peer sends, `Hello world!` for an empty
// one.

#include "plugin_cpp.h"
#include <algorithm>
#include <string>
#include <string_view>

namespace {

using wasi::io::streams::InputStream;
using wasi::io::streams::OutputStream;
using wasi::io::streams::StreamError;

// The peer must not decide how much memory a guest uses: only the beginning of a longer line
// counts.
constexpr std::size_t LONGEST_LINE = 4096;
// `BlockingWriteAndFlush` takes no more than this a call, and the server ends a guest that exceeds
// it.
constexpr std::size_t MOST_IN_ONE_WRITE = 4096;

// Explains a failed stream operation to the server's log.
std::unexpected<wit::string> explain(const StreamError &error) {
    if (auto failed = std::get_if<StreamError::LastOperationFailed>(&error.variants))
        return std::unexpected(failed->value.ToDebugString());
    return std::unexpected(wit::string::from_view("the peer has gone away"));
}

// The bytes before the first newline, or before the end of the input where there is none.
std::expected<std::string, wit::string> read_line(const InputStream &input) {
    std::string line;
    while (line.find('\n') == line.npos && line.size() < LONGEST_LINE) {
        auto bytes = input.BlockingRead(LONGEST_LINE - line.size());
        if (!bytes) {
            if (std::holds_alternative<StreamError::Closed>(bytes.error().variants)) break;
            return explain(bytes.error());
        }
        line.append(reinterpret_cast<const char *>(bytes->data()), bytes->size());
    }
    return line.substr(0, line.find('\n'));
}

std::expected<void, wit::string> write_all(const OutputStream &output, std::string_view text) {
    std::span bytes(reinterpret_cast<const uint8_t *>(text.data()), text.size());
    while (!bytes.empty()) {
        auto part = bytes.first(std::min(bytes.size(), MOST_IN_ONE_WRITE));
        if (auto written = output.BlockingWriteAndFlush(part); !written) return explain(written.error());
        bytes = bytes.subspan(part.size());
    }
    return {};
}

std::string_view trim(std::string_view text) {
    constexpr std::string_view SPACE = " \t\r";
    auto start = text.find_first_not_of(SPACE);
    if (start == text.npos) return {};
    return text.substr(start, text.find_last_not_of(SPACE) + 1 - start);
}

} // namespace

std::expected<void, wit::string> exports::uninterruptible::server::handler::HandleRequest(Connection &&, InputStream &&input,
                                                                                         OutputStream &&output) {
    auto line = read_line(input);
    if (!line) return std::unexpected(std::move(line.error()));
    auto name = trim(*line);
    return write_all(output, "Hello " + std::string(name.empty() ? "world" : name) + "!\n");
}
