//! Where a message ends, for both generations: what is asked of a parser, and what it means that there is no more.

use std::io::{self, ErrorKind};

/// Asks for a message at the beginning of `available`, unless there is nothing yet; fails where so many bytes should have been
/// one.
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

/// What the end of the input means after so many bytes that are no message.
pub(crate) fn end<T>(left: usize) -> io::Result<Option<T>> {
    match left {
        0 => Ok(None),
        _ => Err(io::Error::new(ErrorKind::UnexpectedEof, "the input ends within a message")),
    }
}
