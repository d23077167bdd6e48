//! Where a message ends, for both generations: the calls of a parser, and the meaning of the end of
//! input.

use std::io::{self, ErrorKind};

/// Calls the parser at the beginning of `available`, unless it is empty. Fails if `most` bytes are
/// not a complete message.
pub(crate) fn find<T, E: From<io::Error>>(
    available: &[u8],
    most: usize,
    parse: &mut impl FnMut(&[u8]) -> Result<Option<(T, usize)>, E>,
) -> Result<Option<(T, usize)>, E> {
    let within = &available[..available.len().min(most)];
    if within.is_empty() && most > 0 {
        return Ok(None);
    }
    match parse(within)? {
        None if within.len() == most => {
            Err(io::Error::new(ErrorKind::InvalidData, format!("a message of more than {most} bytes")).into())
        }
        answer => Ok(answer),
    }
}

/// The meaning of the end of the input after `left` bytes that are not a message.
pub(crate) fn end<T>(left: usize) -> io::Result<Option<T>> {
    match left {
        0 => Ok(None),
        _ => Err(io::Error::new(ErrorKind::UnexpectedEof, "the input ends within a message")),
    }
}
