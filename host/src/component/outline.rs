//! The sections of a file and of everything within it, in their order, without the bodies of
//! functions: these are most of a plugin, and do not matter here.

use wasmparser::{BinaryReaderError, Chunk, Parser, Payload};

/// The sections of a file.
pub(super) struct Outline<'a> {
    rest: &'a [u8],
    /// The parsers of the enclosing components and modules, the innermost last.
    parsers: Vec<Parser>,
}

impl<'a> Outline<'a> {
    pub(super) fn of(file: &'a [u8]) -> Self {
        Self { rest: file, parsers: vec![Parser::new(0)] }
    }
}

impl<'a> Iterator for Outline<'a> {
    type Item = Result<Payload<'a>, BinaryReaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        let parser = self.parsers.last_mut()?;
        let (consumed, payload) = match parser.parse(self.rest, true) {
            Ok(Chunk::Parsed { consumed, payload }) => (consumed, payload),
            // At the end of the file nothing is missing.
            Ok(Chunk::NeedMoreData(_)) => return None,
            Err(error) => {
                self.parsers.clear();
                return Some(Err(error));
            }
        };
        self.rest = self.rest.get(consumed..)?;
        match &payload {
            Payload::CodeSectionStart { size, .. } => {
                // If the section is cut short, the parser reports it next.
                if let Some(behind) = self.rest.get(*size as usize..) {
                    parser.skip_section();
                    self.rest = behind;
                }
            }
            Payload::ModuleSection { parser, .. } | Payload::ComponentSection { parser, .. } => {
                self.parsers.push(parser.clone());
            }
            Payload::End(_) => {
                self.parsers.pop();
            }
            _ => {}
        }
        Some(Ok(payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NESTED: &str = r#"(component
        (core module (func (export "a") (result i32) i32.const 1) (func nop))
        (component (core module (memory 1) (func unreachable)) (core module))
        (core module (func nop) (@custom "last" "x")))"#;

    /// The sections in a form that can be compared.
    fn kinds<'a>(payloads: impl Iterator<Item = Result<Payload<'a>, BinaryReaderError>>) -> Vec<String> {
        payloads
            .map(|payload| match payload {
                Ok(payload) => format!("{:?} {:?}", payload.as_section(), std::mem::discriminant(&payload)),
                Err(error) => error.to_string(),
            })
            .collect()
    }

    fn without_bodies(file: &[u8]) -> Vec<String> {
        let all = Parser::new(0).parse_all(file);
        kinds(all.filter(|payload| !matches!(payload, Ok(Payload::CodeSectionEntry(_)))))
    }

    #[test]
    fn every_section_but_function_bodies_is_found() {
        let file = wat::parse_str(NESTED).unwrap();
        assert_eq!(kinds(Outline::of(&file)), without_bodies(&file));
    }

    #[test]
    fn a_truncated_file_fails_exactly_where_the_parser_fails() {
        let file = wat::parse_str(NESTED).unwrap();
        for length in 0..file.len() {
            let cut = file.get(..length).unwrap();
            let is_error = Parser::new(0).parse_all(cut).any(|payload| payload.is_err());
            let found = Outline::of(cut).any(|payload| payload.is_err());
            assert_eq!(found, is_error, "{length} of {} bytes", file.len());
        }
    }
}
