//! Scripts at random, with a bias to what is at an edge.

use super::{
    super::imports::{Argument, Import, Place, Resource},
    CONNECTION, DATA, ERROR, FAULT, FAULT_OF_POST_RETURN, FAULTS, FAULTS_OF_POST_RETURN, FILL, FREE, GROW, HANDLES,
    INPUT, LEAVE, OUTPUT, Operation, RETURN, STORE, Script, TRAP, Value,
};
use crate::random::Random;

/// The most bytes that a script writes, roughly: what the kernel takes without a peer that reads.
const MOST_OUTPUT: i64 = 64 << 10;

/// The most operations, before those that prepare one.
const MOST_OPERATIONS: usize = 12;

const LENGTHS: [i64; 11] = [0, 1, 2, 4, 7, 100, 4095, 4096, 65535, 65536, 65537];
const ODD_LENGTHS: [i64; 12] = [
    4097,
    65535,
    65536,
    65537,
    (2 << 20) - 1,
    (2 << 20) + 1,
    (16 << 20) + 1,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX,
    -1,
];
const ODD_POINTERS: [Value; 24] = [
    Value::End(-16),
    Value::End(-12),
    Value::End(-8),
    Value::End(-7),
    Value::End(-4),
    Value::End(-1),
    Value::End(0),
    Value::End(1),
    Value::End(4),
    Value::End(8),
    Value::End(-20),
    Value::End(-24),
    Value::Is(0),
    Value::Is(1),
    Value::Is(4),
    Value::Is(8),
    Value::Is(RETURN + 1),
    Value::Is(RETURN + 2),
    Value::Is(RETURN + 4),
    Value::Is(RETURN + 8),
    Value::Is(0x8000_0000),
    Value::Is(0xffff_fff8),
    Value::Is(0xffff_fffc),
    Value::Is(0xffff_ffff),
];
const ODD_HANDLES: [i64; 16] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 100, 0x0fff_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/// Makes one script at random.
pub struct Writer<'a> {
    imports: &'a [Import],
    random: Random,
    /// How many in a hundred arguments are odd.
    oddness: usize,
    held: Vec<(Resource, u8)>,
    dropped: Vec<u8>,
    next: u8,
    output: i64,
    script: Script,
}

impl<'a> Writer<'a> {
    /// The script of this seed.
    pub fn script(imports: &'a [Import], seed: u64) -> Script {
        let mut random = Random::new(seed);
        let oddness = random.one_of(&[0, 2, 8, 30]);
        let held = vec![(Resource::Connection, CONNECTION), (Resource::Input, INPUT), (Resource::Output, OUTPUT)];
        let mut writer = Self {
            imports,
            random,
            oddness,
            held,
            dropped: Vec::new(),
            next: FREE,
            output: 0,
            script: Script::default(),
        };
        writer.write();
        writer.script
    }

    fn write(&mut self) {
        self.script.ends_with_digest = self.random.below(4) == 0;
        self.script.is_silent = self.random.below(8) == 0;
        self.script.is_abandoned = self.random.below(10) == 0;
        if self.script.is_abandoned {
            // What the guest saw can only be in the record.
            self.script.ends_with_digest = true;
            self.held.push((Resource::Error, ERROR));
        }
        let length = self.random.one_of(&[0, 1, 3, 100, 2048, 3000, 5000]);
        self.script.payload = (0..length).map(|_| b"abcdefgh\n"[self.random.below(9)]).collect();
        for _ in 0..1 + self.random.below(MOST_OPERATIONS) {
            match self.random.below(100) {
                0..=84 => self.import(),
                85..=88 => {
                    let at = self.pointer(DATA);
                    self.push(FILL, &[at, 0x61.into(), 100.into()]);
                }
                89..=91 => {
                    let pages = if self.odd() { self.random.one_of(&[30, 64, 65536, 0xffff_ffff]) } else { 1 };
                    self.push(GROW, &[pages.into()]);
                }
                92..=95 => {
                    // The last one only grows memory.
                    let fault = self.random.below(if self.oddness > 0 { 24 } else { 1 });
                    self.push(FAULT, &[i64::try_from(fault).unwrap().clamp(0, FAULTS).into()]);
                }
                96 if self.random.below(4) == 0 => {
                    let fault = i64::try_from(self.random.below(5)).unwrap();
                    self.push(FAULT_OF_POST_RETURN, &[fault.min(FAULTS_OF_POST_RETURN).into()]);
                }
                97 => self.leave(),
                98 if self.odd() => self.push(TRAP, &[]),
                _ => self.import(),
            }
        }
    }

    fn odd(&mut self) -> bool {
        self.random.below(100) < self.oddness
    }

    fn push(&mut self, code: u8, arguments: &[Value]) {
        self.script.operations.push(Operation::new(code, arguments));
    }

    /// Returns a result from somewhere in memory.
    fn leave(&mut self) {
        let at = self.pointer(DATA + 0x40);
        if let Value::Is(start) = at
            && (DATA..0x1_0000).contains(&start)
        {
            let (discriminant, text) = (self.random.one_of(&[0, 1, 1, 1, 2, 0xff, 0x101]), self.pointer(DATA));
            let length =
                if self.odd() { self.random.one_of(&ODD_LENGTHS) } else { self.random.one_of(&[0, 1, 50, 4097]) };
            let letter = self.random.one_of(&[0x61, 0x61, 0x80, 0x0a]);
            self.push(FILL, &[DATA.into(), letter.into(), 64.into()]);
            self.push(STORE, &[start.into(), discriminant.into()]);
            self.push(STORE, &[(start + 4).into(), text]);
            self.push(STORE, &[(start + 8).into(), length.into()]);
        }
        self.push(LEAVE, &[at]);
    }

    fn import(&mut self) {
        let imports = self.imports;
        // Streams and pollables in two of three cases.
        let of_io: Vec<_> = (0..imports.len()).filter(|code| imports[*code].interface.contains("wasi:io")).collect();
        let mut code =
            if self.random.below(3) > 0 { self.random.one_of(&of_io) } else { self.random.below(imports.len()) };
        // Rarely one that nothing can be done with, or that ends the script.
        for _ in 0..8 {
            let import = &imports[code];
            let lacks = import.arguments.iter().any(|argument| match argument {
                Argument::Handle(Resource::Pollable) => false,
                Argument::Handle(wanted) => !self.holds(*wanted),
                _ => false,
            });
            if self.odd() || !(lacks || import.name == "exit") {
                break;
            }
            code = self.random.one_of(&of_io);
        }
        let import = &imports[code];
        let waits = [Argument::Handle(Resource::Pollable), Argument::Pollables]
            .iter()
            .any(|argument| import.arguments.contains(argument));
        if waits && !self.holds(Resource::Pollable) && self.next < ERROR && !self.odd() {
            let makers: Vec<_> = (0..imports.len())
                .filter(|code| imports[*code].gives == Some((Place::Result, Resource::Pollable)))
                .collect();
            let maker = self.random.one_of(&makers);
            self.call(maker, &imports[maker], true);
        }
        let writes = import.name == "[method]output-stream.write" && self.random.below(8) > 0;
        if writes {
            let check = imports.iter().position(|import| import.name.ends_with(".check-write")).unwrap();
            self.push(u8::try_from(check).unwrap(), &[Value::Register(OUTPUT), RETURN.into()]);
        }
        self.call(code, import, writes);
    }

    fn holds(&self, wanted: Resource) -> bool {
        self.held.iter().any(|(resource, _)| *resource == wanted)
    }

    fn call(&mut self, code: usize, import: &Import, of_output: bool) {
        let mut arguments = Vec::new();
        let mut dropped = None;
        for argument in &import.arguments {
            match argument {
                Argument::Handle(Resource::Output) if of_output && !self.odd() => {
                    arguments.push(Value::Register(OUTPUT));
                }
                Argument::Handle(resource) => {
                    let handle = self.handle(*resource);
                    if let Value::Register(register) = handle
                        && import.name.starts_with("[resource-drop]")
                    {
                        dropped = Some(register);
                    }
                    arguments.push(handle);
                }
                Argument::Length => arguments.push(self.length(import).into()),
                Argument::Bytes => {
                    let at = self.pointer(DATA);
                    arguments.extend([at, self.length(import).into()]);
                }
                Argument::Pollables => {
                    let count = self.random.below(4);
                    let count = if count == 0 && !self.odd() { 1 } else { count };
                    let at = self.pointer(HANDLES);
                    for index in 0..count {
                        let handle = self.handle(Resource::Pollable);
                        self.push(STORE, &[(HANDLES + 4 * i64::try_from(index).unwrap()).into(), handle]);
                    }
                    let count = i64::try_from(count).unwrap();
                    let length = if self.odd() { self.random.one_of(&ODD_LENGTHS) } else { count };
                    arguments.extend([at, length.into()]);
                }
                Argument::Time => {
                    arguments.push(self.random.one_of(&[0, 0, 1 << 50, i64::MAX, -1]).into());
                }
                Argument::Status => {
                    let status = if self.odd() { self.random.one_of(&[2, 0xff, 0xffff_ffff]) } else { 1 };
                    arguments.push(self.random.one_of(&[0, status]).into());
                }
                Argument::Return => arguments.push(self.pointer(RETURN)),
            }
        }
        let mut operation = Operation::new(u8::try_from(code).unwrap(), &arguments);
        if let Some((place, resource)) = import.gives
            && self.next < ERROR
            // Errors are rare unless the peer is gone, and terminals always.
            && (place == Place::Result || self.script.is_abandoned || self.random.below(30) == 0)
        {
            operation.keeps = Some((self.next, place));
            self.held.push((resource, self.next));
            self.next += 1;
        }
        if let Some(register) = dropped {
            self.held.retain(|(_, held)| *held != register);
            self.dropped.push(register);
        }
        self.script.operations.push(operation);
    }

    fn handle(&mut self, wanted: Resource) -> Value {
        if self.odd() {
            return match self.random.below(3) {
                0 if !self.dropped.is_empty() => Value::Register(self.random.one_of(&self.dropped)),
                1 if !self.held.is_empty() => Value::Register(self.random.one_of(&self.held).1),
                _ => Value::Is(self.random.one_of(&ODD_HANDLES)),
            };
        }
        let right: Vec<_> =
            self.held.iter().filter(|(resource, _)| *resource == wanted).map(|(_, register)| *register).collect();
        if right.is_empty() {
            return Value::Is(self.random.one_of(&ODD_HANDLES));
        }
        Value::Register(self.random.one_of(&right))
    }

    fn pointer(&mut self, usual: i64) -> Value {
        if self.odd() { self.random.one_of(&ODD_POINTERS) } else { usual.into() }
    }

    fn length(&mut self, import: &Import) -> i64 {
        let writes = import.arguments[0] == Argument::Handle(Resource::Output);
        let mut length = if self.odd() { self.random.one_of(&ODD_LENGTHS) } else { self.random.one_of(&LENGTHS) };
        if writes && length > 4096 && import.name.contains("blocking") && !self.odd() {
            length = 4096;
        }
        if writes && (0..=70_000).contains(&length) {
            if self.output + length > MOST_OUTPUT {
                length = 1;
            }
            self.output += length;
        }
        length
    }
}
