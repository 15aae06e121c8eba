//! Values of a pickle, and the tables that hold what is in them.

use safetensors::Dtype;

use super::{BYTES_BESIDE, BYTES_PER_BYTE, PickleError};

/// A value. What is larger than this is in the [`Heap`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::weights::torch) enum Value<'a> {
    /// `None`
    None,
    /// `True` and `False`
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number that nobody looks at: a fraction, or a whole number beyond 64 bits.
    Number,
    /// A text.
    Text(&'a str),
    /// Bytes that nobody looks at.
    Bytes,
    /// Values of the heap's pool.
    Tuple {
        /// The first of them.
        first: u32,
        /// How many.
        length: u32,
    },
    /// A list of the heap.
    List(u32),
    /// A dict of the heap, ordered or not.
    Dict(u32),
    /// A tensor of the heap.
    Tensor(u32),
    /// A storage of the heap.
    Storage(u32),
    /// A name of Python that is known.
    Global(Global),
}

/// The names of Python that state dicts are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::weights::torch) enum Global {
    /// `collections.OrderedDict`
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`, and `_rebuild_tensor` before it.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`: a tensor that is trained, in a state dict that kept such.
    RebuildParameter,
    /// A class of storages, `torch.HalfStorage`: their element type.
    Storage(Dtype),
}

impl Global {
    /// The one called `name` in `module`.
    pub(super) fn named(module: &str, name: &str) -> Option<Global> {
        let storage = |dtype| Some(Global::Storage(dtype));
        match (module, name) {
            ("collections", "OrderedDict") => Some(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Some(Global::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
            ("torch", "FloatStorage") => storage(Dtype::F32),
            ("torch", "HalfStorage") => storage(Dtype::F16),
            ("torch", "BFloat16Storage") => storage(Dtype::BF16),
            ("torch", "DoubleStorage") => storage(Dtype::F64),
            ("torch", "LongStorage") => storage(Dtype::I64),
            ("torch", "IntStorage") => storage(Dtype::I32),
            ("torch", "ShortStorage") => storage(Dtype::I16),
            ("torch", "CharStorage") => storage(Dtype::I8),
            ("torch", "ByteStorage") => storage(Dtype::U8),
            ("torch", "BoolStorage") => storage(Dtype::BOOL),
            _ => None,
        }
    }
}

/// Elements in the file, of which tensors are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::weights::torch) struct Storage<'a> {
    /// Type of its elements.
    pub(in crate::weights::torch) dtype: Dtype,
    /// Which of the file's.
    pub(in crate::weights::torch) key: &'a str,
    /// How many elements it has.
    pub(in crate::weights::torch) elements: u64,
}

/// A tensor: a window on a storage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::weights::torch) struct Tensor<'a> {
    /// What it is a window on.
    pub(in crate::weights::torch) storage: Storage<'a>,
    /// Its first element there.
    pub(in crate::weights::torch) offset: i64,
    /// Its dimensions, a tuple.
    pub(in crate::weights::torch) shape: Value<'a>,
    /// Elements between neighbours of each dimension, a tuple.
    pub(in crate::weights::torch) strides: Value<'a>,
}

/// What values hold. Every table grows through [`Budget::grow`].
#[derive(Debug, Default)]
pub(in crate::weights::torch) struct Heap<'a> {
    pub(super) pool: Vec<Value<'a>>,
    pub(super) lists: Vec<Vec<Value<'a>>>,
    pub(super) dicts: Vec<Vec<[Value<'a>; 2]>>,
    pub(super) tensors: Vec<Tensor<'a>>,
    pub(super) storages: Vec<Storage<'a>>,
}

impl<'a> Heap<'a> {
    /// The values of a tuple or list; none if it is something else.
    pub(in crate::weights::torch) fn items(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match value {
            Value::Tuple { first, length } => self.pool.get(first as usize..first as usize + length as usize),
            Value::List(index) => self.lists.get(index as usize).map(Vec::as_slice),
            _ => None, // every other value holds no sequence
        }
    }

    /// Keys and values of a dict, in the order in which they were set; none if it is something else.
    pub(in crate::weights::torch) fn pairs(&self, value: Value<'a>) -> Option<&[[Value<'a>; 2]]> {
        match value {
            Value::Dict(index) => self.dicts.get(index as usize).map(Vec::as_slice),
            _ => None, // every other value has no keys
        }
    }

    /// The tensor; none if it is something else.
    pub(in crate::weights::torch) fn tensor(&self, value: Value<'a>) -> Option<Tensor<'a>> {
        match value {
            Value::Tensor(index) => self.tensors.get(index as usize).copied(),
            _ => None, // every other value is no tensor
        }
    }

    /// All storages that tensors were made of, in the order in which they were named.
    pub(in crate::weights::torch) fn storages(&self) -> &[Storage<'a>] {
        &self.storages
    }

    /// The whole numbers of a tuple or list; none if it is something else.
    pub(in crate::weights::torch) fn ints(&self, value: Value<'a>) -> Option<Vec<i64>> {
        let int = |value: &Value<'a>| match value {
            Value::Int(number) => Some(*number),
            _ => None, // every other value is no whole number
        };
        self.items(value)?.iter().map(int).collect()
    }
}

/// Memory that was taken, against what the bytes read so far allow.
#[derive(Debug, Default)]
pub(super) struct Budget {
    taken: usize,
}

impl Budget {
    /// Makes room for `more` items in `table`; `at` bytes were read.
    pub(super) fn grow<T>(&mut self, table: &mut Vec<T>, more: usize, at: usize) -> Result<(), PickleError> {
        let needed = table.len().saturating_add(more);
        if needed <= table.capacity() {
            return Ok(());
        }
        let capacity = needed.max(2 * table.capacity()).max(4);
        let bytes = (capacity - table.capacity()).saturating_mul(size_of::<T>());
        let taken = self.taken.saturating_add(bytes);
        if taken > at.saturating_mul(BYTES_PER_BYTE).saturating_add(BYTES_BESIDE) {
            return Err(PickleError::Memory { at });
        }
        self.taken = taken;
        table.reserve_exact(capacity - table.len());
        Ok(())
    }
}
