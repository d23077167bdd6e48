//! The imports of the guest: what each takes and returns, as the canonical ABI flattens it.

/// A resource that a handle may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Connection,
    Input,
    Output,
    Pollable,
    Error,
    TerminalInput,
    TerminalOutput,
}

/// An argument of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    Handle(Resource),
    /// A number of bytes.
    Length,
    /// A list of bytes: a pointer and a length.
    Bytes,
    /// A list of handles.
    Pollables,
    /// Nanoseconds.
    Time,
    /// Whether a guest that exits has failed.
    Status,
    /// The return area.
    Return,
}

impl Argument {
    /// Its core types.
    pub fn types(self) -> &'static [&'static str] {
        match self {
            Self::Handle(_) | Self::Status | Self::Return => &["i32"],
            Self::Length | Self::Time => &["i64"],
            Self::Bytes | Self::Pollables => &["i32", "i32"],
        }
    }
}

/// What of an import's result differs from run to run. The guest clears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differs {
    Nothing = 0,
    /// The bytes of a list.
    Bytes = 1,
    /// A string and its length.
    String = 2,
    /// What is in the return area.
    Area = 3,
    /// The core result.
    Result = 4,
}

/// Where an import leaves a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Result,
    /// The word of the return area.
    Word(u8),
}

/// An import.
#[derive(Debug)]
pub struct Import {
    pub interface: &'static str,
    pub name: &'static str,
    pub arguments: Vec<Argument>,
    /// The type of its core result.
    pub result: Option<&'static str>,
    /// The byte of the return area where the pointer of a list is.
    pub list: Option<u32>,
    pub differs: Differs,
    pub gives: Option<(Place, Resource)>,
}

impl Import {
    /// Its core parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &'static str> {
        self.arguments.iter().flat_map(|argument| argument.types()).copied()
    }

    pub fn has_return_area(&self) -> bool {
        self.arguments.last() == Some(&Argument::Return)
    }
}

/// All of them, one a line: name, arguments, and what it returns.
const INTERFACES: [(&str, &str); 20] = [
    (
        "wasi:io/error@0.2.0",
        "[method]error.to-debug-string   error return      string
         [resource-drop]error            error             -",
    ),
    (
        "wasi:io/poll@0.2.0",
        "[method]pollable.ready          pollable          i32
         [method]pollable.block          pollable          -
         poll                            pollables return  list
         [resource-drop]pollable         pollable          -",
    ),
    (
        "wasi:io/streams@0.2.0",
        "[method]input-stream.read                                 input length return          read
         [method]input-stream.blocking-read                        input length return          read
         [method]input-stream.skip                                 input length return          count
         [method]input-stream.blocking-skip                        input length return          count
         [method]input-stream.subscribe                            input                        pollable
         [method]output-stream.check-write                         output return                count
         [method]output-stream.write                               output bytes return          done
         [method]output-stream.blocking-write-and-flush            output bytes return          done
         [method]output-stream.flush                               output return                done
         [method]output-stream.blocking-flush                      output return                done
         [method]output-stream.subscribe                           output                       pollable
         [method]output-stream.write-zeroes                        output length return         done
         [method]output-stream.blocking-write-zeroes-and-flush     output length return         done
         [method]output-stream.splice                              output input length return   count
         [method]output-stream.blocking-splice                     output input length return   count
         [resource-drop]input-stream                               input                        -
         [resource-drop]output-stream                              output                       -",
    ),
    (
        "wasi:cli/environment@0.2.0",
        "get-environment                 return            list
         get-arguments                   return            list
         initial-cwd                     return            option-string",
    ),
    ("wasi:cli/exit@0.2.0", "exit status -"),
    ("wasi:cli/stdin@0.2.0", "get-stdin input"),
    ("wasi:cli/stdout@0.2.0", "get-stdout output"),
    ("wasi:cli/stderr@0.2.0", "get-stderr output"),
    ("wasi:cli/terminal-input@0.2.0", "[resource-drop]terminal-input terminal-input -"),
    ("wasi:cli/terminal-output@0.2.0", "[resource-drop]terminal-output terminal-output -"),
    ("wasi:cli/terminal-stdin@0.2.0", "get-terminal-stdin return option-terminal-input"),
    ("wasi:cli/terminal-stdout@0.2.0", "get-terminal-stdout return option-terminal-output"),
    ("wasi:cli/terminal-stderr@0.2.0", "get-terminal-stderr return option-terminal-output"),
    (
        "wasi:clocks/wall-clock@0.2.0",
        "now                             return            area-that-differs
         resolution                      return            area-that-differs",
    ),
    (
        "wasi:clocks/monotonic-clock@0.2.0",
        "now                                               i64-that-differs
         resolution                                        i64-that-differs
         subscribe-instant               time              pollable
         subscribe-duration              time              pollable",
    ),
    (
        "wasi:random/random@0.2.0",
        "get-random-bytes                length return     bytes-that-differ
         get-random-u64                                    i64-that-differs",
    ),
    (
        "wasi:random/insecure@0.2.0",
        "get-insecure-random-bytes       length return     bytes-that-differ
         get-insecure-random-u64                           i64-that-differs",
    ),
    ("wasi:random/insecure-seed@0.2.0", "insecure-seed return area-that-differs"),
    (
        "uninterruptible:server/types@0.2.0",
        "[method]connection.id                     connection return   string-that-differs
         [method]connection.peer-address           connection return   string-that-differs
         [method]connection.local-address          connection return   string-that-differs
         [method]connection.listener               connection return   string-that-differs
         [method]connection.tls-version            connection return   option-string
         [method]connection.tls-server-name        connection return   option-string
         [method]connection.tls-alpn               connection return   option-string
         [method]connection.tls-peer-certificates  connection return   list
         [method]connection.is-draining            connection          i32
         [resource-drop]connection                 connection          -",
    ),
    ("uninterruptible:server/drain@0.2.0", "subscribe pollable"),
];

/// The imports in their order, which is that of their codes in a script.
pub fn imports() -> Vec<Import> {
    let lines = INTERFACES.iter().flat_map(|(interface, text)| {
        text.lines().map(move |line| (*interface, line.split_whitespace().collect::<Vec<_>>()))
    });
    lines.map(|(interface, words)| parsed(interface, &words)).collect()
}

fn parsed(interface: &'static str, words: &[&'static str]) -> Import {
    use Place::{Result, Word};
    let [name, arguments @ .., returns] = words else { panic!("{words:?}") };
    let mut import = Import {
        interface,
        name,
        arguments: arguments.iter().copied().map(argument).collect(),
        result: None,
        list: None,
        differs: Differs::Nothing,
        gives: None,
    };
    match *returns {
        "-" => {}
        "i32" => import.result = Some("i32"),
        "i64-that-differs" => (import.result, import.differs) = (Some("i64"), Differs::Result),
        "area-that-differs" => import.differs = Differs::Area,
        "string" | "list" => import.list = Some(0),
        "string-that-differs" => import.differs = Differs::String,
        "bytes-that-differ" => import.differs = Differs::Bytes,
        "option-string" => import.list = Some(4),
        "option-terminal-input" => import.gives = Some((Word(1), Resource::TerminalInput)),
        "option-terminal-output" => import.gives = Some((Word(1), Resource::TerminalOutput)),
        "read" => (import.list, import.gives) = (Some(4), Some((Word(2), Resource::Error))),
        "done" => import.gives = Some((Word(2), Resource::Error)),
        "count" => import.gives = Some((Word(3), Resource::Error)),
        handle => (import.result, import.gives) = (Some("i32"), Some((Result, resource(handle)))),
    }
    import
}

fn argument(word: &str) -> Argument {
    match word {
        "length" => Argument::Length,
        "bytes" => Argument::Bytes,
        "pollables" => Argument::Pollables,
        "time" => Argument::Time,
        "status" => Argument::Status,
        "return" => Argument::Return,
        handle => Argument::Handle(resource(handle)),
    }
}

fn resource(word: &str) -> Resource {
    match word {
        "connection" => Resource::Connection,
        "input" => Resource::Input,
        "output" => Resource::Output,
        "pollable" => Resource::Pollable,
        "error" => Resource::Error,
        "terminal-input" => Resource::TerminalInput,
        "terminal-output" => Resource::TerminalOutput,
        other => panic!("{other}"),
    }
}
