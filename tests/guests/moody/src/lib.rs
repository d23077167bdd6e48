//! Does as its first line says: `loop`, `answer and loop`, `compute`, `pieces`, `allocate`, `trap`,
//! `flood`, `wait`. Sends back any other line. So one host can serve hostile and good guests side
//! by side.
#![allow(missing_docs, reason = "generated bindings")]

use std::{
    hint,
    io::{self, BufRead, Write},
};

use uninterruptible_guest::Connection;
use wasi::clocks::monotonic_clock::subscribe_duration;

wit_bindgen::generate!({
    inline: "package test:guest; world guest { import wasi:clocks/monotonic-clock@0.2.0; }",
    path: ["../../../wit/0.2", "../wit/clocks"],
    generate_all,
});

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    match line.trim_end() {
        "loop" => spin(),
        "answer and loop" => {
            connection.write_all(b"looping\n")?;
            spin()
        }
        // Some 10 ms between two bytes.
        "compute" => (b'a'..=b'z').try_for_each(|letter| {
            (0..10_000_000).for_each(|number| _ = hint::black_box(number));
            connection.write_all(&[letter])
        }),
        "pieces" => (0..100).try_for_each(|_| connection.write_all(b"piece\n")),
        "allocate" => {
            let mut taken = Vec::new();
            loop {
                taken.push(hint::black_box(vec![1u8; 64 * 1024]));
            }
        }
        "trap" => panic!("asked to"),
        "flood" => loop {
            connection.write_all(&[b'x'; 4096])?;
        },
        "wait" => loop {
            subscribe_duration(u64::MAX).block();
        },
        _ => connection.write_all(line.as_bytes()),
    }
}

fn spin() -> ! {
    loop {
        hint::spin_loop();
    }
}
