//! Does as the first line of its standard input says, with only the means of every program. Sends
//! back unknown lines.

use std::{
    env,
    fmt::Write as _,
    io::{self, Read, Write},
    process, thread,
    time::Duration,
};

fn main() -> io::Result<()> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let (verb, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
    let mut out = io::stdout();
    match verb {
        "variables" => {
            let mut variables: Vec<_> = env::vars().map(|(name, value)| format!("{name}={value}")).collect();
            variables.sort();
            writeln!(out, "{}", variables.join("\n"))
        }
        "arguments" => writeln!(out, "{:?}", env::args().collect::<Vec<_>>()),
        "leave" => {
            writeln!(out, "leaving")?;
            process::exit(rest.parse().unwrap_or(255))
        }
        "fail" => Err(io::Error::other("asked to fail")),
        "log" => {
            eprintln!("{rest}");
            writeln!(out, "said")
        }
        "count" => {
            let mut all = Vec::new();
            io::stdin().read_to_end(&mut all)?;
            writeln!(out, "{}", all.len())
        }
        "say" => {
            writeln!(out, "{rest}")?;
            thread::sleep(Duration::from_secs(3600));
            Ok(())
        }
        "big" => out.write_all(&vec![b'x'; rest.parse().unwrap_or(0)]),
        "flood" => loop {
            out.write_all(&[b'x'; 64 << 10])?;
        },
        "shout" => loop {
            eprintln!("{}", "loud ".repeat(1000));
        },
        "loop" => loop {
            std::hint::spin_loop();
        },
        "wait" => loop {
            thread::sleep(Duration::from_secs(3600));
        },
        "allocate" => {
            let mut all = String::new();
            loop {
                writeln!(all, "{:01000}", 0).map_err(io::Error::other)?;
            }
        }
        "trap" => process::abort(),
        _ => out.write_all(line.as_bytes()),
    }
}
