// Package export_uninterruptible_server_handler greets whoever connects: `Hello NAME!` for the line that the peer sends,
// `Hello world!` for an empty one. The generated code expects it under this name.
package export_uninterruptible_server_handler

import (
	"bytes"
	"errors"
	"io"

	witTypes "go.bytecodealliance.org/pkg/wit/types"

	server "wit_component/uninterruptible_server_types"
	streams "wit_component/wasi_io_streams"
)

const (
	// The peer must not decide how much memory a guest uses: of a longer line only the beginning counts.
	longestLine = 4096
	// BlockingWriteAndFlush takes no more than this a call, and the server ends a guest that exceeds it.
	mostInOneWrite = 4096
)

// HandleRequest serves one connection.
func HandleRequest(connection *server.Connection, input *streams.InputStream, output *streams.OutputStream) witTypes.Result[witTypes.Unit, string] {
	defer connection.Drop()
	defer input.Drop()
	defer output.Drop()
	if err := greet(reader{input}, writer{output}); err != nil {
		return witTypes.Err[witTypes.Unit, string](err.Error())
	}
	return witTypes.Ok[witTypes.Unit, string](witTypes.Unit{})
}

func greet(input io.Reader, output io.Writer) error {
	line, err := readLine(input)
	if err != nil {
		return err
	}
	name := bytes.Trim(line, " \t\r")
	if len(name) == 0 {
		name = []byte("world")
	}
	_, err = output.Write(append(append([]byte("Hello "), name...), "!\n"...))
	return err
}

// readLine returns the bytes before the first newline, or before the end of the input where there is none.
func readLine(input io.Reader) ([]byte, error) {
	var line [longestLine]byte
	length := 0
	for length < longestLine {
		count, err := input.Read(line[length:])
		length += count
		if newline := bytes.IndexByte(line[:length], '\n'); newline >= 0 {
			return line[:newline], nil
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return line[:length], nil
}

// reader is the connection's input as the standard library knows readers.
type reader struct{ stream *streams.InputStream }

func (r reader) Read(buffer []byte) (int, error) {
	result := r.stream.BlockingRead(uint64(len(buffer)))
	if result.IsErr() {
		if result.Err().Tag() == streams.StreamError_Closed {
			return 0, io.EOF
		}
		return 0, failure(result.Err())
	}
	return copy(buffer, result.Ok()), nil
}

// writer is the connection's output as the standard library knows writers.
type writer struct{ stream *streams.OutputStream }

func (w writer) Write(data []byte) (int, error) {
	for start := 0; start < len(data); start += mostInOneWrite {
		end := min(start+mostInOneWrite, len(data))
		if result := w.stream.BlockingWriteAndFlush(data[start:end]); result.IsErr() {
			return start, failure(result.Err())
		}
	}
	return len(data), nil
}

// failure says what a failed stream operation has to say to the server's log.
func failure(err streams.StreamError) error {
	if err.Tag() == streams.StreamError_Closed {
		return errors.New("the peer has gone away")
	}
	return errors.New(err.LastOperationFailed().ToDebugString())
}
