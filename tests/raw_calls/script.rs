//! Scripts for the guest: operations with raw arguments, written by a test or at random.

mod writer;

pub use writer::Writer;

use super::imports::{Import, Place};
use std::fmt;

/// The usual return area.
pub const RETURN: i64 = 0x4000;
/// Where handles for `poll` are put.
pub const HANDLES: i64 = 0x7000;
/// Memory for anything, up to that of `cabi_realloc`.
pub const DATA: i64 = 0x8000;

/// The registers of the handler's parameters, and the first free one.
pub const CONNECTION: u8 = 0;
pub const INPUT: u8 = 1;
pub const OUTPUT: u8 = 2;
pub const FREE: u8 = 3;
/// Where the guest puts the error of a failed entry.
pub const ERROR: u8 = 15;

/// The guest's own operations.
pub const STORE: u8 = 200;
pub const FILL: u8 = 201;
pub const GROW: u8 = 202;
pub const FAULT: u8 = 203;
pub const FAULT_OF_POST_RETURN: u8 = 204;
pub const TRAP: u8 = 205;
pub const OVERFLOW: u8 = 206;
pub const LEAVE: u8 = 207;

/// The highest numbers of faults.
pub const FAULTS: i64 = 11;
pub const FAULTS_OF_POST_RETURN: i64 = 4;

/// An argument of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Is(i64),
    Register(u8),
    /// Counted from the end of memory.
    End(i64),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Is(value)
    }
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub code: u8,
    pub arguments: [Value; 4],
    /// The register for a handle, and where it comes from.
    pub keeps: Option<(u8, Place)>,
}

impl Operation {
    pub fn new(code: u8, arguments: &[Value]) -> Self {
        let mut all = [Value::Is(0); 4];
        all.iter_mut().zip(arguments).for_each(|(to, from)| *to = *from);
        Self { code, arguments: all, keeps: None }
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        let (register, source) = match self.keeps {
            None => (0, 0),
            Some((register, Place::Result)) => (register, 1),
            Some((register, Place::Word(word))) => (register, 2 + word),
        };
        bytes.push(self.code);
        bytes.extend(self.arguments.map(|argument| match argument {
            Value::Is(_) => 0,
            Value::Register(_) => 1,
            Value::End(_) => 2,
        }));
        bytes.extend([register, source, 0]);
        bytes.extend(self.arguments.into_iter().flat_map(|argument| match argument {
            Value::Is(value) | Value::End(value) => value.to_le_bytes(),
            Value::Register(register) => i64::from(register).to_le_bytes(),
        }));
    }
}

/// What one connection is about.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub operations: Vec<Operation>,
    /// Whether the guest ends with an error that is a digest of its entries.
    pub ends_with_digest: bool,
    /// Whether it sends no entries.
    pub is_silent: bool,
    /// What the peer sends after the script.
    pub payload: Vec<u8>,
    /// Whether the peer is gone before the guest runs.
    pub is_abandoned: bool,
}

impl Script {
    /// What the peer sends.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(u32::try_from(self.operations.len()).unwrap().to_le_bytes());
        bytes.extend((u32::from(self.ends_with_digest) | (u32::from(self.is_silent) << 1)).to_le_bytes());
        self.operations.iter().for_each(|operation| operation.encode(&mut bytes));
        bytes.extend(&self.payload);
        bytes
    }

    /// For people.
    pub fn shown<'a>(&'a self, imports: &'a [Import]) -> impl fmt::Display + 'a {
        Shown { script: self, imports }
    }
}

struct Shown<'a> {
    script: &'a Script,
    imports: &'a [Import],
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Script { operations, ends_with_digest, is_silent, payload, is_abandoned } = self.script;
        writeln!(
            f,
            "digest={ends_with_digest} silent={is_silent} abandoned={is_abandoned}, {} bytes after the script",
            payload.len()
        )?;
        for operation in operations {
            let import = self.imports.get(usize::from(operation.code));
            let (name, count) = match (import, operation.code) {
                (Some(import), _) => (format!("{} {}", import.interface, import.name), import.parameters().count()),
                (None, STORE) => ("store".to_owned(), 2),
                (None, FILL) => ("fill".to_owned(), 3),
                (None, GROW) => ("grow".to_owned(), 1),
                (None, FAULT) => ("fault of cabi_realloc".to_owned(), 1),
                (None, FAULT_OF_POST_RETURN) => ("fault of post-return".to_owned(), 1),
                (None, TRAP) => ("trap".to_owned(), 0),
                (None, OVERFLOW) => ("overflow the stack".to_owned(), 0),
                (None, LEAVE) => ("return".to_owned(), 1),
                (None, other) => (format!("operation {other}"), 4),
            };
            write!(f, "  {name}(")?;
            for (index, argument) in operation.arguments.iter().take(count).enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                match argument {
                    Value::Is(value) => write!(f, "{comma}{value:#x}")?,
                    Value::Register(register) => write!(f, "{comma}r{register}")?,
                    Value::End(offset) => write!(f, "{comma}end{offset:+}")?,
                }
            }
            match operation.keeps {
                None => writeln!(f, ")")?,
                Some((register, Place::Result)) => writeln!(f, ") -> r{register}")?,
                Some((register, Place::Word(word))) => writeln!(f, ") word {word} -> r{register}")?,
            }
        }
        Ok(())
    }
}
