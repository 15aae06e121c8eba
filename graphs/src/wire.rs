//! Bounds what protobuf messages take in memory, before they are decoded.
//!
//! Two bytes are a whole message in the wire format, an empty node of a graph for example, and some hundred bytes in memory.
//! So bytes that are not trusted are walked once, by what the layout of a format says of them, and what their messages will take is
//! counted. Nothing is allocated.
//!
//! Source of the wire format: <https://protobuf.dev/programming-guides/encoding/>.

/// Bytes in memory that a byte of an encoded message may become.
const RATIO: usize = 8;
/// How deep messages may be nested: prost goes no deeper either.
const DEPTH: usize = 100;
/// Field numbers are below this; others are skipped when they are decoded.
const FIELDS: usize = 32;

/// Bytes that are no messages, or too large ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes are no messages.
    #[error("at byte {at} expected {expected}")]
    Malformed {
        /// Where.
        at: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// Messages that are empty again and again: nobody writes them.
    #[error(
        "at byte {at} its {bytes} bytes have come to take {needed} bytes of memory, of at most {most} for its size: it is full of \
         empty parts"
    )]
    Bulky {
        /// Bytes in all.
        bytes: usize,
        /// Bytes in memory that so many bytes may take.
        most: usize,
        /// Where they are exceeded.
        at: usize,
        /// Bytes in memory until there.
        needed: usize,
    },
}

/// What a field with a length holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field<M> {
    /// A message that is a part of its parent.
    One(M),
    /// One of a list of messages.
    Many(M),
    /// A name, a text, bytes or a number that is a part of its message; or something that is skipped.
    Text,
    /// One of a list of texts.
    Texts,
    /// Numbers of four or eight bytes, one behind the other.
    Fixed,
    /// Numbers of one to ten bytes that become four, one behind the other.
    Int32s,
    /// Numbers of one to ten bytes that become eight, one behind the other.
    Int64s,
}

/// A kind of message.
pub(crate) trait Layout: Copy {
    /// What stands in the field `number` of such a message.
    fn field(self, number: usize) -> Field<Self>;

    /// Bytes of one in memory, without what it points to.
    fn size(self) -> usize;
}

impl<M: Layout> Field<M> {
    /// Bytes of an element of the list, without what it points to; none if it is no list.
    fn size(self) -> usize {
        match self {
            Field::One(_) | Field::Text => 0,
            Field::Many(kind) => kind.size(),
            Field::Texts => size_of::<String>(),
            Field::Fixed => 1,
            Field::Int32s => size_of::<i32>(),
            Field::Int64s => size_of::<i64>(),
        }
    }
}

/// Proves that the message `bytes` of kind `root` takes at most 8 times its bytes and `constant` in memory.
///
/// # Errors
/// [`WireError`] if it is malformed, or takes more.
pub(crate) fn check<M: Layout>(bytes: &[u8], root: M, constant: usize) -> Result<(), WireError> {
    let most = RATIO.saturating_mul(bytes.len()).saturating_add(constant);
    let mut walk = Walk { bytes, needed: root.size(), most };
    walk.message(root, 0, bytes.len(), 0)
}

/// Counts what messages take.
struct Walk<'a> {
    bytes: &'a [u8],
    /// Bytes in memory so far.
    needed: usize,
    /// Most that there may be.
    most: usize,
}

impl Walk<'_> {
    /// Counts a message of kind `kind` that is `bytes[at..end]`.
    fn message<M: Layout>(
        &mut self,
        kind: M,
        mut at: usize,
        end: usize,
        depth: usize,
    ) -> Result<(), WireError> {
        if depth > DEPTH {
            return Err(WireError::Malformed { at, expected: "messages in at most 100 messages" });
        }
        // A list is as long as the message has fields of its number.
        let mut lists = [(0_usize, 0_usize); FIELDS];
        while at < end {
            let key = self.varint(&mut at, end)?;
            let number = usize::try_from(key >> 3).unwrap_or(usize::MAX);
            let (size, count) = self.field(kind.field(number), key & 7, &mut at, end, depth)?;
            if let Some(list) = lists.get_mut(number) {
                let before = capacity(*list);
                *list = (list.0 + count, size.max(list.1));
                self.needed += capacity(*list) - before;
            }
            if self.needed > self.most {
                let (needed, most, bytes) = (self.needed, self.most, self.bytes.len());
                return Err(WireError::Bulky { bytes, most, at, needed });
            }
        }
        Ok(())
    }

    /// Counts what the field at `at` points to, and goes behind it; returns the size and the number of its elements.
    fn field<M: Layout>(
        &mut self,
        field: Field<M>,
        wire_type: u64,
        at: &mut usize,
        end: usize,
        depth: usize,
    ) -> Result<(usize, usize), WireError> {
        let from = *at;
        match wire_type {
            0 => self.varint(at, end).map(|_| (field.size(), 1)),
            1 => self.skip(at, 8, end).map(|()| (field.size(), 8)),
            5 => self.skip(at, 4, end).map(|()| (field.size(), 4)),
            2 => {
                let length = usize::try_from(self.varint(at, end)?).unwrap_or(usize::MAX);
                let inner = *at;
                self.skip(at, length, end)?;
                let is_last = |byte: &&u8| **byte < 0x80;
                let mut count = 1;
                match field {
                    Field::Text | Field::Texts => self.needed += length,
                    Field::Fixed => count = length,
                    Field::Int32s | Field::Int64s => {
                        count = self.bytes[inner..*at].iter().filter(is_last).count();
                    }
                    Field::One(kind) | Field::Many(kind) => self.message(kind, inner, *at, depth + 1)?,
                }
                Ok((field.size(), count))
            }
            _ => Err(WireError::Malformed { at: from, expected: "a field of wire type 0, 1, 2 or 5" }),
        }
    }

    fn varint(&self, at: &mut usize, end: usize) -> Result<u64, WireError> {
        let from = *at;
        let mut value = 0;
        for (index, &byte) in self.bytes[from..end].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                *at = from + index + 1;
                return Ok(value);
            }
        }
        Err(WireError::Malformed { at: from, expected: "a number of at most ten bytes" })
    }

    fn skip(&self, at: &mut usize, bytes: usize, end: usize) -> Result<(), WireError> {
        if bytes > end - *at {
            return Err(WireError::Malformed { at: *at, expected: "a field that ends within its message" });
        }
        *at += bytes;
        Ok(())
    }
}

/// Bytes of a `Vec` that has grown to `count` elements of `size` bytes: a power of two of them, at least four of small ones.
fn capacity((count, size): (usize, usize)) -> usize {
    match count {
        0 => 0,
        _ if size > 1024 => count.next_power_of_two() * size,
        _ => count.next_power_of_two().max(4) * size,
    }
}
