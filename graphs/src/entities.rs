//! Typed ids and the maps that they index.
//!
//! An id is an index that knows what it is an index of, and prints as it does in the text form, so that a log line and
//! a `.gir` file say the same thing.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// An index type made by [`entity!`](crate::entity).
pub trait Entity: Copy {
    /// The id with this index.
    fn new(index: usize) -> Self;
    /// The index of this id.
    fn index(self) -> usize;
}

/// Defines an id type: `entity!(/** doc */ Name, "prefix")`.
#[macro_export]
macro_rules! entity {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $crate::entities::Entity for $name {
            fn new(index: usize) -> Self {
                debug_assert!(index < u32::MAX as usize);
                Self(index as u32)
            }
            fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

entity!(
    /// An SSA value of a graph: an input, or one result of a node.
    ValueId,
    "%"
);
entity!(
    /// A node of a graph: one op applied to operands.
    NodeId,
    "node"
);
entity!(
    /// A planned region of memory.
    BufferId,
    "@buf"
);

/// A growable map from an id to what it names; ids are handed out in order and never freed.
#[derive(Clone, Debug, PartialEq)]
pub struct PrimaryMap<K, V> {
    items: Vec<V>,
    key: PhantomData<K>,
}

impl<K: Entity, V> PrimaryMap<K, V> {
    /// An empty map.
    pub fn new() -> Self {
        Self { items: Vec::new(), key: PhantomData }
    }

    /// Adds `value` and returns its id.
    pub fn push(&mut self, value: V) -> K {
        self.items.push(value);
        K::new(self.items.len() - 1)
    }

    /// The id that the next [`push`](Self::push) will return.
    pub fn next_key(&self) -> K {
        K::new(self.items.len())
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True if nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The entry of `key`, if there is one.
    pub fn get(&self, key: K) -> Option<&V> {
        self.items.get(key.index())
    }

    /// Entries with their ids, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (K, &V)> {
        self.items.iter().enumerate().map(|(index, item)| (K::new(index), item))
    }

    /// All ids, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = K> + use<K, V> {
        (0..self.items.len()).map(K::new)
    }
}

impl<K: Entity, V> Default for PrimaryMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Entity, V> Index<K> for PrimaryMap<K, V> {
    type Output = V;
    fn index(&self, key: K) -> &V {
        &self.items[key.index()]
    }
}

impl<K: Entity, V> IndexMut<K> for PrimaryMap<K, V> {
    fn index_mut(&mut self, key: K) -> &mut V {
        &mut self.items[key.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_in_the_text_form() {
        assert_eq!(ValueId::new(17).to_string(), "%17");
        assert_eq!(BufferId::new(3).to_string(), "@buf3");
    }

    #[test]
    fn a_map_hands_out_ids_in_order() {
        let mut map: PrimaryMap<NodeId, &str> = PrimaryMap::new();
        let first = map.push("a");
        assert_eq!(map.next_key().index(), 1);
        let second = map.push("b");
        assert_eq!((map[first], map[second], map.len()), ("a", "b", 2));
        assert_eq!(map.get(NodeId::new(2)), None);
    }
}
