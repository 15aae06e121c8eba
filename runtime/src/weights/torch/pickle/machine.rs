//! The machine: a stack of values, marks in it, and a memo of values to be had again.

use super::heap::{Budget, Global, Heap, Storage, Tensor, Value};
use super::input::Input;
use super::{PickleError, Unpickled};

/// The highest protocol that is known.
const PROTOCOLS: u8 = 5;
/// Characters of a name that a message shows.
const SHOWN: usize = 80;

pub(super) struct Machine<'a> {
    input: Input<'a>,
    heap: Heap<'a>,
    stack: Vec<Value<'a>>,
    /// Lengths of the stack.
    marks: Vec<usize>,
    memo: Vec<Option<Value<'a>>>,
    budget: Budget,
    /// Where the opcode is that is being followed.
    at: usize,
}

type Done = Result<(), PickleError>;

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let (stack, marks, memo) = (Vec::new(), Vec::new(), Vec::new());
        let budget = Budget::default();
        Machine { input: Input::new(bytes), heap: Heap::default(), stack, marks, memo, budget, at: 0 }
    }

    /// Follows all opcodes.
    pub(super) fn run(mut self) -> Result<Unpickled<'a>, PickleError> {
        loop {
            self.at = self.input.at();
            match self.input.byte()? {
                b'.' => {
                    let value = self.pop()?;
                    return Ok(Unpickled { heap: self.heap, value, length: self.input.at() });
                }
                opcode => self.follow(opcode)?,
            }
        }
    }

    fn follow(&mut self, opcode: u8) -> Done {
        match opcode {
            0x80 => self.protocol(),                                         // PROTO
            0x95 => self.input.u64().map(drop),                              // FRAME: only a hint
            b'(' => self.mark(),                                             // MARK
            b'0' => self.pop().map(drop),                                    // POP
            b'1' => self.pop_mark().map(|start| self.stack.truncate(start)), // POP_MARK
            b'2' => self.top().and_then(|top| self.push(top)),               // DUP
            b'N' => self.push(Value::None),                                  // NONE
            0x88 => self.push(Value::Bool(true)),                            // NEWTRUE
            0x89 => self.push(Value::Bool(false)),                           // NEWFALSE
            b'K' | b'M' | b'J' | b'I' | 0x8a | 0x8b | b'G' => self.number(opcode),
            b'X' | 0x8c | 0x8d | b'U' | b'T' => self.text(opcode),
            b'C' | b'B' | 0x8e => self.bytes(opcode),
            b')' | 0x85..=0x87 | b't' => self.tuple(opcode),
            b']' | b'l' | b'a' | b'e' => self.list(opcode),
            b'}' | b'd' | b's' | b'u' => self.dict(opcode),
            b'q' | b'r' | 0x94 => self.put(opcode),
            b'h' | b'j' => self.get(opcode),
            b'c' | 0x93 => self.global(opcode),
            b'Q' => self.persistent_id(), // BINPERSID
            b'R' => self.reduce(),        // REDUCE
            b'b' => self.build(),         // BUILD
            opcode => Err(PickleError::Opcode { at: self.at, opcode }),
        }
    }

    fn malformed<T>(&self, what: &'static str) -> Result<T, PickleError> {
        Err(PickleError::Malformed { at: self.at, what })
    }

    fn protocol(&mut self) -> Done {
        match self.input.byte()? {
            0..=PROTOCOLS => Ok(()),
            _ => self.malformed("an unknown protocol"),
        }
    }

    fn push(&mut self, value: Value<'a>) -> Done {
        self.budget.grow(&mut self.stack, 1, self.at)?;
        self.stack.push(value);
        Ok(())
    }

    /// What lies on top, above the last mark.
    fn pop(&mut self) -> Result<Value<'a>, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn top(&self) -> Result<Value<'a>, PickleError> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&top) if self.stack.len() > bottom => Ok(top),
            _ => self.malformed("an opcode takes more values than there are"),
        }
    }

    fn mark(&mut self) -> Done {
        self.budget.grow(&mut self.marks, 1, self.at)?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Where the values above the last mark begin, which is removed.
    fn pop_mark(&mut self) -> Result<usize, PickleError> {
        match self.marks.pop() {
            Some(start) => Ok(start),
            None => self.malformed("an opcode takes a mark, and there is none"),
        }
    }

    fn number(&mut self, opcode: u8) -> Done {
        let value = match opcode {
            b'K' => Some(self.input.byte()?.into()), // BININT1
            b'M' => Some(self.input.u16()?.into()),  // BININT2
            b'J' => Some(self.input.i32()?.into()),  // BININT
            0x8a => {
                let length = self.input.byte()?.into(); // LONG1
                self.input.long(length)?
            }
            0x8b => {
                let length = self.input.u32()? as usize; // LONG4
                self.input.long(length)?
            }
            b'I' => match self.input.line()? {
                // INT, which Python 2 uses for what 32 bits do not hold
                "00" => return self.push(Value::Bool(false)),
                "01" => return self.push(Value::Bool(true)),
                digits => match digits.parse() {
                    Ok(value) => Some(value),
                    Err(_) => return self.malformed("a number is not one"),
                },
            },
            _ => self.input.u64().map(|_| None)?, // BINFLOAT
        };
        self.push(value.map_or(Value::Number, Value::Int))
    }

    fn text(&mut self, opcode: u8) -> Done {
        let length = match opcode {
            0x8c | b'U' => self.input.byte()?.into(), // SHORT_BINUNICODE, SHORT_BINSTRING
            b'X' | b'T' => self.input.u32()? as usize, // BINUNICODE, BINSTRING
            _ => usize::try_from(self.input.u64()?).unwrap_or(usize::MAX), // BINUNICODE8
        };
        let text = self.input.text(length)?;
        self.push(Value::Text(text))
    }

    fn bytes(&mut self, opcode: u8) -> Done {
        let length = match opcode {
            b'C' => self.input.byte()?.into(),  // SHORT_BINBYTES
            b'B' => self.input.u32()? as usize, // BINBYTES
            _ => usize::try_from(self.input.u64()?).unwrap_or(usize::MAX), // BINBYTES8
        };
        self.input.take(length)?;
        self.push(Value::Bytes)
    }

    fn tuple(&mut self, opcode: u8) -> Done {
        let length = match opcode {
            b')' => 0,                                                      // EMPTY_TUPLE
            b't' => self.pop_mark().map(|start| self.stack.len() - start)?, // TUPLE
            opcode => usize::from(opcode - 0x84),                           // TUPLE1, TUPLE2, TUPLE3
        };
        let bottom = self.marks.last().copied().unwrap_or(0);
        let Some(start) = self.stack.len().checked_sub(length).filter(|&start| start >= bottom) else {
            return self.malformed("a tuple takes more values than there are");
        };
        let pool = &mut self.heap.pool;
        self.budget.grow(pool, length, self.at)?;
        let first = pool.len() as u32; // a table of 2³² values is far beyond the budget of any file
        pool.extend_from_slice(&self.stack[start..]);
        self.stack.truncate(start);
        self.push(Value::Tuple { first, length: length as u32 })
    }

    fn list(&mut self, opcode: u8) -> Done {
        match opcode {
            b']' => {
                let list = self.new_list()?; // EMPTY_LIST
                return self.push(list);
            }
            b'l' => {
                let start = self.pop_mark()?; // LIST
                let list = self.new_list()?;
                self.extend_list(list, start)?;
                return self.push(list);
            }
            _ => {}
        }
        let start = match opcode {
            b'a' => self.stack.len().saturating_sub(1), // APPEND
            _ => self.pop_mark()?,                      // APPENDS
        };
        match self.below(start)? {
            list @ Value::List(_) => self.extend_list(list, start),
            _ => self.malformed("items are appended to what is no list"),
        }
    }

    fn new_list(&mut self) -> Result<Value<'a>, PickleError> {
        self.budget.grow(&mut self.heap.lists, 1, self.at)?;
        self.heap.lists.push(Vec::new());
        Ok(Value::List(self.heap.lists.len() as u32 - 1))
    }

    /// Moves what lies on the stack from `start` on into `list`.
    fn extend_list(&mut self, list: Value<'a>, start: usize) -> Done {
        let Value::List(index) = list else { return self.malformed("items are appended to what is no list") };
        let items = &mut self.heap.lists[index as usize];
        self.budget.grow(items, self.stack.len() - start, self.at)?;
        items.extend_from_slice(&self.stack[start..]);
        self.stack.truncate(start);
        Ok(())
    }

    /// The value under those that begin at `start`.
    fn below(&self, start: usize) -> Result<Value<'a>, PickleError> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        match start.checked_sub(1).filter(|&below| below >= bottom) {
            Some(below) => Ok(self.stack[below]),
            None => self.malformed("an opcode takes more values than there are"),
        }
    }

    fn dict(&mut self, opcode: u8) -> Done {
        match opcode {
            b'}' => {
                let dict = self.new_dict()?; // EMPTY_DICT
                return self.push(dict);
            }
            b'd' => {
                let start = self.pop_mark()?; // DICT
                let dict = self.new_dict()?;
                self.extend_dict(dict, start)?;
                return self.push(dict);
            }
            _ => {}
        }
        let start = match opcode {
            b's' => self.stack.len().saturating_sub(2), // SETITEM
            _ => self.pop_mark()?,                      // SETITEMS
        };
        let dict = self.below(start)?;
        self.extend_dict(dict, start)
    }

    fn new_dict(&mut self) -> Result<Value<'a>, PickleError> {
        self.budget.grow(&mut self.heap.dicts, 1, self.at)?;
        self.heap.dicts.push(Vec::new());
        Ok(Value::Dict(self.heap.dicts.len() as u32 - 1))
    }

    /// Moves the keys and values that lie on the stack from `start` on into `dict`.
    fn extend_dict(&mut self, dict: Value<'a>, start: usize) -> Done {
        let Value::Dict(index) = dict else { return self.malformed("items are set in what is no dict") };
        let (pairs, rest) = self.stack[start..].as_chunks::<2>();
        if !rest.is_empty() {
            return self.malformed("a key has no value");
        }
        let dict = &mut self.heap.dicts[index as usize];
        self.budget.grow(dict, pairs.len(), self.at)?;
        dict.extend_from_slice(pairs);
        self.stack.truncate(start);
        Ok(())
    }

    fn put(&mut self, opcode: u8) -> Done {
        let index = match opcode {
            b'q' => self.input.byte()?.into(),  // BINPUT
            b'r' => self.input.u32()? as usize, // LONG_BINPUT
            _ => self.memo.len(),               // MEMOIZE
        };
        let value = self.top()?;
        if index >= self.memo.len() {
            let more = index + 1 - self.memo.len();
            self.budget.grow(&mut self.memo, more, self.at)?;
            self.memo.resize(index + 1, None);
        }
        self.memo[index] = Some(value);
        Ok(())
    }

    fn get(&mut self, opcode: u8) -> Done {
        let index = match opcode {
            b'h' => self.input.byte()?.into(), // BINGET
            _ => self.input.u32()? as usize,   // LONG_BINGET
        };
        match self.memo.get(index).copied().flatten() {
            Some(value) => self.push(value),
            None => self.malformed("a value is taken from the memo that was never put there"),
        }
    }

    fn global(&mut self, opcode: u8) -> Done {
        let (module, name) = match opcode {
            b'c' => (self.input.line()?, self.input.line()?), // GLOBAL
            _ => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => (module, name), // STACK_GLOBAL
                _ => return self.malformed("a name is no text"),
            },
        };
        match Global::named(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => {
                let name = format!("{module}.{name}").chars().take(SHOWN).collect();
                Err(PickleError::Global { at: self.at, name })
            }
        }
    }

    /// `('storage', class, key, location, elements)`, in old files with a sixth: a window on another storage, or none.
    fn persistent_id(&mut self) -> Done {
        let id = self.pop()?;
        let storage = match self.heap.items(id) {
            Some(
                &[
                    Value::Text("storage"),
                    Value::Global(Global::Storage(dtype)),
                    Value::Text(key),
                    _,
                    Value::Int(elements),
                ],
            )
            | Some(
                &[
                    Value::Text("storage"),
                    Value::Global(Global::Storage(dtype)),
                    Value::Text(key),
                    _,
                    Value::Int(elements),
                    Value::None,
                ],
            ) => u64::try_from(elements).ok().map(|elements| Storage { dtype, key, elements }),
            _ => None, // an id of something else
        };
        let Some(storage) = storage else { return self.malformed("a persistent id is none of a storage") };
        self.budget.grow(&mut self.heap.storages, 1, self.at)?;
        self.heap.storages.push(storage);
        self.push(Value::Storage(self.heap.storages.len() as u32 - 1))
    }

    fn reduce(&mut self) -> Done {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Value::Global(global) = callee else {
            return self.malformed("what is called is no name of Python");
        };
        let made = match global {
            Global::OrderedDict => self.ordered_dict(arguments)?,
            Global::RebuildTensor => self.tensor(arguments)?,
            Global::RebuildParameter => match self.heap.items(arguments) {
                Some(&[tensor @ Value::Tensor(_), ..]) => tensor,
                _ => return self.malformed("a parameter is made of something else than a tensor"),
            },
            Global::Storage(_) => return self.malformed("a storage is made without its elements"),
        };
        self.push(made)
    }

    /// `OrderedDict()`, or `OrderedDict([[key, value], …])` as Python 2 writes it.
    fn ordered_dict(&mut self, arguments: Value<'a>) -> Result<Value<'a>, PickleError> {
        let dict = self.new_dict()?;
        let Value::Dict(index) = dict else { return Ok(dict) };
        let wrong = PickleError::Malformed {
            at: self.at,
            what: "an OrderedDict is made of something else than pairs",
        };
        match self.heap.items(arguments) {
            Some([]) => {}
            Some(&[pairs]) => {
                let count = self.heap.items(pairs).ok_or(wrong.clone())?.len();
                let mut made = Vec::new();
                self.budget.grow(&mut made, count, self.at)?;
                for &pair in self.heap.items(pairs).unwrap_or_default() {
                    let Some(&[key, value]) = self.heap.items(pair) else { return Err(wrong) };
                    made.push([key, value]);
                }
                self.heap.dicts[index as usize] = made;
            }
            _ => return Err(wrong),
        }
        Ok(dict)
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`.
    fn tensor(&mut self, arguments: Value<'a>) -> Result<Value<'a>, PickleError> {
        let tensor = match self.heap.items(arguments) {
            Some(&[Value::Storage(storage), Value::Int(offset), shape, strides, ..]) => {
                let storage = self.heap.storages[storage as usize];
                Tensor { storage, offset, shape, strides }
            }
            _ => return self.malformed("a tensor is made of something else than a storage and its window"),
        };
        self.budget.grow(&mut self.heap.tensors, 1, self.at)?;
        self.heap.tensors.push(tensor);
        Ok(Value::Tensor(self.heap.tensors.len() as u32 - 1))
    }

    /// Attributes of a dict, `_metadata` of a state dict: versions of modules, which say nothing about its tensors.
    fn build(&mut self) -> Done {
        self.pop()?;
        match self.top()? {
            Value::Dict(_) => Ok(()),
            _ => self.malformed("attributes are set of what is no dict"),
        }
    }
}
