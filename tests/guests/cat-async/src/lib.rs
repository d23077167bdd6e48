//! Copies its standard input to its standard output, as a program of WASI 0.3. Fails if either of
//! them has failed.
#![allow(missing_docs, reason = "generated bindings")]

use exports::wasi::cli::run::Guest;
use wasi::cli::{stdin::read_via_stream, stdout::write_via_stream};
use wit_bindgen::StreamResult;

wit_bindgen::generate!({
    inline: "
        package test:guest;
        world guest {
            import wasi:cli/stdin@0.3.0;
            import wasi:cli/stdout@0.3.0;
            export wasi:cli/run@0.3.0;
        }
    ",
    path: ["../wit/cli-0.3"],
    generate_all,
});

struct Program;

impl Guest for Program {
    async fn run() -> Result<(), ()> {
        let (mut input, input_end) = read_via_stream();
        let (mut output, data) = wit_stream::new();
        let output_end = write_via_stream(data);
        let mut buffer = Vec::with_capacity(64 << 10);
        loop {
            let (result, read) = input.read(buffer).await;
            let unwritten = output.write_all(read).await;
            if !unwritten.is_empty() || result == StreamResult::Dropped {
                break;
            }
            buffer = unwritten;
            buffer.clear();
        }
        drop(output);
        input_end.await.map_err(drop)?;
        output_end.await.map_err(drop)
    }
}

export!(Program);
