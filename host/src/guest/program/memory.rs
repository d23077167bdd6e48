//! A program's memory, as the host sees it during one call. Addresses come from the program and are
//! not trusted: one out of range is `EFAULT`, as in a system call, and never a trap.

use super::errno::{Answer, Errno};

/// The longest path or link target, in bytes: Linux's limit.
const LONGEST_TEXT: u32 = 4096;

/// The most buffers of one call: Linux's limit.
const MOST_SPANS: u32 = 1024;

/// All of a program's memory.
pub(super) struct View<'a>(&'a mut [u8]);

/// A range of addresses, not checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) at: u32,
    pub(super) length: u32,
}

impl Span {
    /// The rest after its first `count` bytes.
    pub(super) fn after(self, count: u32) -> Self {
        Self { at: self.at.saturating_add(count), length: self.length.saturating_sub(count) }
    }

    /// Its first `most` bytes.
    pub(super) fn at_most(self, most: u32) -> Self {
        Self { length: self.length.min(most), ..self }
    }
}

impl<'a> View<'a> {
    pub(super) fn new(memory: &'a mut [u8]) -> Self {
        Self(memory)
    }

    /// An empty range exists at any address.
    pub(super) fn bytes(&self, Span { at, length }: Span) -> Answer<&[u8]> {
        let start = if length == 0 { 0 } else { at as usize };
        self.0.get(start..start + length as usize).ok_or(Errno::FAULT)
    }

    pub(super) fn bytes_mut(&mut self, Span { at, length }: Span) -> Answer<&mut [u8]> {
        let start = if length == 0 { 0 } else { at as usize };
        self.0.get_mut(start..start + length as usize).ok_or(Errno::FAULT)
    }

    /// Fails if a result of that length cannot be stored. Call it before any effect.
    pub(super) fn check(&self, at: u32, length: u32) -> Answer {
        self.bytes(Span { at, length }).map(drop)
    }

    pub(super) fn put(&mut self, at: u32, bytes: &[u8]) -> Answer {
        let start = if bytes.is_empty() { 0 } else { at as usize };
        self.0.get_mut(start..start + bytes.len()).ok_or(Errno::FAULT)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn put_u32(&mut self, at: u32, value: u32) -> Answer {
        self.put(at, &value.to_le_bytes())
    }

    pub(super) fn put_u64(&mut self, at: u32, value: u64) -> Answer {
        self.put(at, &value.to_le_bytes())
    }

    pub(super) fn array<const N: usize>(&self, at: u32) -> Answer<[u8; N]> {
        let start = at as usize;
        self.0.get(start..).and_then(<[u8]>::first_chunk).copied().ok_or(Errno::FAULT)
    }

    /// A path or a link's target, which is UTF-8 in WASI.
    pub(super) fn text(&self, at: u32, length: u32) -> Answer<String> {
        let bytes = self.bytes(Span { at, length })?;
        if length > LONGEST_TEXT {
            return Err(Errno::NAMETOOLONG);
        }
        std::str::from_utf8(bytes).map(str::to_owned).map_err(Errno::from)
    }

    /// The buffers of a read or write, checked, without empty ones. The sum of their lengths fits
    /// into 32 bits.
    pub(super) fn spans(&self, at: u32, count: u32) -> Answer<Vec<Span>> {
        if count > MOST_SPANS {
            return Err(Errno::INVAL);
        }
        let list = self.bytes(Span { at, length: count * 8 })?;
        let mut spans = Vec::with_capacity(count as usize);
        let mut total = 0_u32;
        for entry in list.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *entry;
            let span = Span { at: u32::from_le_bytes([a, b, c, d]), length: u32::from_le_bytes([e, f, g, h]) };
            total = total.checked_add(span.length).ok_or(Errno::INVAL)?;
            if span.length > 0 {
                self.bytes(span)?;
                spans.push(span);
            }
        }
        Ok(spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_out_of_range_is_a_fault() {
        let mut memory = [0_u8; 16];
        let mut view = View::new(&mut memory);
        assert_eq!(view.bytes(Span { at: 0, length: 16 }).unwrap().len(), 16);
        for (at, length) in [(0, 17), (16, 1), (u32::MAX, 1), (u32::MAX, u32::MAX), (8, u32::MAX)] {
            assert_eq!(view.bytes(Span { at, length }), Err(Errno::FAULT), "{at} {length}");
            assert_eq!(view.bytes_mut(Span { at, length }), Err(Errno::FAULT), "{at} {length}");
        }
        for at in [0, 16, 17, u32::MAX] {
            assert_eq!(view.bytes(Span { at, length: 0 }), Ok(&[][..]), "{at}");
        }
        for at in [13, 16, 17, u32::MAX] {
            assert_eq!(view.put_u32(at, 1), Err(Errno::FAULT), "{at}");
            assert_eq!(view.array::<4>(at), Err(Errno::FAULT), "{at}");
        }
        view.put_u32(12, 7).unwrap();
        assert_eq!(view.array::<4>(12), Ok([7, 0, 0, 0]));
    }

    #[test]
    fn buffers_that_overflow_a_count_are_invalid() {
        let mut memory = vec![0_u8; 64];
        let mut view = View::new(&mut memory);
        for (entry, (at, length)) in [(0, 8), (64, 0), (60, 4)].into_iter().enumerate() {
            let entry = u32::try_from(entry).unwrap() * 8;
            view.put_u32(entry, at).unwrap();
            view.put_u32(entry + 4, length).unwrap();
        }
        assert_eq!(view.spans(0, 3), Ok(vec![Span { at: 0, length: 8 }, Span { at: 60, length: 4 }]));
        view.put_u32(20, 5).unwrap();
        assert_eq!(view.spans(0, 3), Err(Errno::FAULT), "one reaches beyond the end");
        view.put_u32(20, u32::MAX).unwrap();
        assert_eq!(view.spans(0, 3), Err(Errno::INVAL), "their sum is too large");
        assert_eq!(view.spans(0, MOST_SPANS + 1), Err(Errno::INVAL));
        assert_eq!(view.spans(60, 1), Err(Errno::FAULT));
    }

    #[test]
    fn names_must_be_utf_8() {
        let mut memory = *b"a\xffb";
        let view = View::new(&mut memory);
        assert_eq!(view.text(0, 1).unwrap(), "a");
        assert_eq!(view.text(0, 3), Err(Errno::ILSEQ));
        let mut memory = vec![b'a'; 5000];
        assert_eq!(View::new(&mut memory).text(0, 4097), Err(Errno::NAMETOOLONG));
    }
}
