//! The pickle of a state dict, opcode by opcode as `torch.save` writes it (protocol 2).
//!
//! An `OrderedDict` from names to tensors; a tensor is a call of `torch._utils._rebuild_tensor_v2` on a storage that a
//! persistent id names: `('storage', torch.HalfStorage, '7', 'cpu', elements)` is the record `data/7` of the archive.

use super::SynthError;
use std::collections::BTreeMap;

/// Items of a dict that one opcode sets.
const BATCH: usize = 1000;

/// A tensor of the state dict.
pub(super) struct Tensor<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Class of its storage, such as `HalfStorage`.
    pub(super) storage: &'static str,
    /// Its dimensions.
    pub(super) shape: &'a [usize],
}

/// The bytes of `data.pkl` for `tensors`, whose storages are `data/0`, `data/1`, and so on.
pub(super) fn state_dict(tensors: &[Tensor<'_>]) -> Result<Vec<u8>, SynthError> {
    let mut pickle = Pickle::default();
    pickle.bytes.extend([0x80, 2]); // PROTO 2
    pickle.ordered_dict();
    for (index, batch) in tensors.chunks(BATCH).enumerate() {
        pickle.bytes.push(b'('); // MARK
        for (offset, tensor) in batch.iter().enumerate() {
            pickle.text(tensor.name);
            pickle.tensor(tensor, index * BATCH + offset)?;
        }
        pickle.bytes.push(b'u'); // SETITEMS
    }
    pickle.metadata();
    pickle.bytes.push(b'.'); // STOP
    Ok(pickle.bytes)
}

#[derive(Default)]
struct Pickle {
    bytes: Vec<u8>,
    /// What was put under which number, to be had again.
    memo: BTreeMap<String, u32>,
}

impl Pickle {
    /// GLOBAL, or the one that was put before.
    fn global(&mut self, module: &str, name: &str) {
        let line = format!("c{module}\n{name}\n");
        self.once(line.clone(), |pickle| pickle.bytes.extend(line.bytes()));
    }

    /// A short text that occurs often.
    fn common_text(&mut self, text: &str) {
        self.once(format!("text {text}"), |pickle| pickle.text(text));
    }

    /// What `write` pushes, or the same from the memo.
    fn once(&mut self, key: String, write: impl FnOnce(&mut Self)) {
        if let Some(&number) = self.memo.get(&key) {
            return self.numbered([b'h', b'j'], number); // BINGET, LONG_BINGET
        }
        write(self);
        let number = self.memo.len() as u32;
        self.memo.insert(key, number);
        self.numbered([b'q', b'r'], number); // BINPUT, LONG_BINPUT
    }

    fn numbered(&mut self, [short, long]: [u8; 2], number: u32) {
        match u8::try_from(number) {
            Ok(number) => self.bytes.extend([short, number]),
            Err(_) => {
                self.bytes.push(long);
                self.bytes.extend(number.to_le_bytes());
            }
        }
    }

    /// BINUNICODE.
    fn text(&mut self, text: &str) {
        self.bytes.push(b'X');
        self.bytes.extend((text.len() as u32).to_le_bytes());
        self.bytes.extend(text.bytes());
    }

    /// BININT1, BININT2, BININT or LONG1: the shortest.
    fn int(&mut self, value: u64) {
        if let Ok(value) = u8::try_from(value) {
            self.bytes.extend([b'K', value]);
        } else if let Ok(value) = u16::try_from(value) {
            self.bytes.push(b'M');
            self.bytes.extend(value.to_le_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            self.bytes.push(b'J');
            self.bytes.extend(value.to_le_bytes());
        } else {
            let bytes = value.to_le_bytes();
            self.bytes.extend([0x8a, 9]);
            self.bytes.extend(bytes);
            self.bytes.push(0); // LONG1 is signed
        }
    }

    /// An empty `OrderedDict`: GLOBAL, EMPTY_TUPLE, REDUCE.
    fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.bytes.extend(b")R");
    }

    fn sizes(&mut self, sizes: &[usize]) {
        match sizes.len() {
            0 => self.bytes.push(b')'), // EMPTY_TUPLE
            count @ 1..=3 => {
                sizes.iter().for_each(|&size| self.int(size as u64));
                self.bytes.push(0x84 + count as u8); // TUPLE1, TUPLE2, TUPLE3
            }
            _ => {
                self.bytes.push(b'('); // MARK
                sizes.iter().for_each(|&size| self.int(size as u64));
                self.bytes.push(b't'); // TUPLE
            }
        }
    }

    fn tensor(&mut self, tensor: &Tensor<'_>, index: usize) -> Result<(), SynthError> {
        let elements: usize = tensor.shape.iter().product();
        if i64::try_from(elements).is_err() || tensor.name.len() > u32::MAX as usize {
            return Err(SynthError::TooLarge { tensor: tensor.name.to_owned() });
        }
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.bytes.extend(b"(("); // MARK, MARK
        self.common_text("storage");
        self.global("torch", tensor.storage);
        self.text(&index.to_string());
        self.common_text("cpu");
        self.int(elements as u64);
        self.bytes.extend(b"tQ"); // TUPLE, BINPERSID
        self.int(0); // offset in the storage
        self.sizes(tensor.shape);
        self.sizes(&strides(tensor.shape));
        self.bytes.push(0x89); // NEWFALSE: needs no gradient
        self.ordered_dict(); // no hooks
        self.bytes.extend(b"tR"); // TUPLE, REDUCE
        Ok(())
    }

    /// The attribute `_metadata` that `Module.state_dict` puts on its dict: the version of every module.
    fn metadata(&mut self) {
        self.bytes.push(b'}'); // EMPTY_DICT
        self.text("_metadata");
        self.ordered_dict();
        self.text(""); // of the module itself
        self.bytes.push(b'}');
        self.text("version");
        self.int(1);
        self.bytes.extend(b"sssb"); // SETITEM three times, BUILD
    }
}

/// Elements between neighbours of each dimension.
fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|dim| shape[dim + 1..].iter().product()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opcodes by name, with their arguments, as Python's `pickletools.dis` shows them.
    fn disassemble(bytes: &[u8]) -> Vec<String> {
        let mut rest = bytes;
        let mut lines = Vec::new();
        let take = |rest: &mut &[u8], count: usize| {
            let (head, tail) = rest.split_at(count);
            *rest = tail;
            head.to_vec()
        };
        while let Some((&opcode, tail)) = rest.split_first() {
            rest = tail;
            let word =
                |bytes: Vec<u8>| bytes.iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
            lines.push(match opcode {
                0x80 => format!("PROTO {}", word(take(&mut rest, 1))),
                b'c' => {
                    let mut lines = rest.splitn(3, |&byte| byte == b'\n');
                    let name = [lines.next().unwrap(), lines.next().unwrap()].map(String::from_utf8_lossy);
                    let line = format!("GLOBAL {} {}", name[0], name[1]);
                    rest = lines.next().unwrap();
                    line
                }
                b'q' => format!("BINPUT {}", word(take(&mut rest, 1))),
                b'h' => format!("BINGET {}", word(take(&mut rest, 1))),
                b'X' => {
                    let length = word(take(&mut rest, 4)) as usize;
                    format!("BINUNICODE {}", String::from_utf8(take(&mut rest, length)).unwrap())
                }
                b'K' => format!("BININT1 {}", word(take(&mut rest, 1))),
                b'M' => format!("BININT2 {}", word(take(&mut rest, 2))),
                b'J' => format!("BININT {}", word(take(&mut rest, 4))),
                0x8a => {
                    let length = word(take(&mut rest, 1)) as usize;
                    format!("LONG1 {}", word(take(&mut rest, length)))
                }
                b')' => "EMPTY_TUPLE".into(),
                b'R' => "REDUCE".into(),
                b'(' => "MARK".into(),
                b't' => "TUPLE".into(),
                0x85..=0x87 => format!("TUPLE{}", opcode - 0x84),
                b'Q' => "BINPERSID".into(),
                0x89 => "NEWFALSE".into(),
                b'u' => "SETITEMS".into(),
                b's' => "SETITEM".into(),
                b'}' => "EMPTY_DICT".into(),
                b'b' => "BUILD".into(),
                b'.' => "STOP".into(),
                other => panic!("opcode {other:#x}"),
            });
        }
        lines
    }

    #[test]
    fn one_tensor_is_pickled_as_torch_does() {
        let tensors = [Tensor { name: "w", storage: "HalfStorage", shape: &[300, 4] }];
        let found = disassemble(&state_dict(&tensors).unwrap());
        let expected = "PROTO 2|GLOBAL collections OrderedDict|BINPUT 0|EMPTY_TUPLE|REDUCE|MARK|BINUNICODE w|\
             GLOBAL torch._utils _rebuild_tensor_v2|BINPUT 1|MARK|MARK|BINUNICODE storage|BINPUT 2|\
             GLOBAL torch HalfStorage|BINPUT 3|BINUNICODE 0|BINUNICODE cpu|BINPUT 4|BININT2 1200|TUPLE|BINPERSID|\
             BININT1 0|BININT2 300|BININT1 4|TUPLE2|BININT1 4|BININT1 1|TUPLE2|NEWFALSE|BINGET 0|EMPTY_TUPLE|REDUCE|\
             TUPLE|REDUCE|SETITEMS|EMPTY_DICT|BINUNICODE _metadata|BINGET 0|EMPTY_TUPLE|REDUCE|BINUNICODE |EMPTY_DICT|\
             BINUNICODE version|BININT1 1|SETITEM|SETITEM|SETITEM|BUILD|STOP";
        assert_eq!(found.join("|"), expected);
    }

    #[test]
    fn every_number_of_dimensions_and_size_has_its_opcode() {
        let text = |shape: &[usize]| {
            let tensors = [Tensor { name: "w", storage: "FloatStorage", shape }];
            disassemble(&state_dict(&tensors).unwrap()).join("|")
        };
        assert!(text(&[]).contains("BININT1 0|EMPTY_TUPLE|EMPTY_TUPLE|NEWFALSE"), "{}", text(&[]));
        assert!(text(&[7]).contains("BININT1 0|BININT1 7|TUPLE1|BININT1 1|TUPLE1"));
        let four = "MARK|BININT1 1|BININT1 1|BININT1 8|BININT1 8|TUPLE|MARK|BININT1 64|BININT1 64|BININT1 8|BININT1 1|TUPLE";
        assert!(text(&[1, 1, 8, 8]).contains(four));
        assert!(text(&[50400, 4096]).contains("BININT 206438400|TUPLE|BINPERSID"));
        assert!(text(&[1 << 20, 1 << 16]).contains("LONG1 68719476736|TUPLE|BINPERSID"));
    }

    #[test]
    fn many_tensors_are_set_in_batches() {
        let tensors: Vec<Tensor<'_>> =
            (0..BATCH + 1).map(|_| Tensor { name: "w", storage: "FloatStorage", shape: &[] }).collect();
        let found = disassemble(&state_dict(&tensors).unwrap());
        assert_eq!(found.iter().filter(|line| *line == "SETITEMS").count(), 2);
        assert!(found.contains(&"BINUNICODE 1000".to_owned()));
    }
}
