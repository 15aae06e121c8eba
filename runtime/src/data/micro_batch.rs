//! The tables that a compiled plan takes for one micro-step.
//!
//! Does: lay the slots of all windows back to back and list segments, windows and labelled slots as index tables.
//! Does not: check token ids or lengths; [`super::window`] did when the windows were made.

use super::window::Window;

/// The data of one micro-step as the compiled plan takes it: slots of all windows back to back, no pad slot.
///
/// Indices of slots count over the whole micro-batch. Every table is in ascending order, so that sums taken in the
/// order of a table are the same however windows were grouped into micro-batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MicroBatch {
    /// Token id of each slot: `[slots]`.
    pub tokens: Vec<i32>,
    /// Position id of each slot: `[slots]`.
    pub positions: Vec<i32>,
    /// Index into `segment_table` of each slot: `[slots]`.
    pub segment: Vec<i32>,
    /// First slot and length of each segment.
    pub segment_table: Vec<[i32; 2]>,
    /// First slot and length of each window.
    pub window_table: Vec<[i32; 2]>,
    /// Slots that have a target, ascending.
    pub labelled: Vec<i32>,
    /// The target of each slot in `labelled`.
    pub labels: Vec<i32>,
    /// Per window: first index into `labelled`, and how many.
    pub row_table: Vec<[i32; 2]>,
}

impl MicroBatch {
    /// An empty micro-batch with room for `windows` windows of `window_length` slots, so that packing within these
    /// bounds never allocates.
    pub fn with_capacity(windows: usize, window_length: usize) -> Self {
        let slots = windows * window_length;
        Self {
            tokens: Vec::with_capacity(slots),
            positions: Vec::with_capacity(slots),
            segment: Vec::with_capacity(slots),
            segment_table: Vec::with_capacity(slots), // at worst every segment is one token
            window_table: Vec::with_capacity(windows),
            labelled: Vec::with_capacity(slots),
            labels: Vec::with_capacity(slots),
            row_table: Vec::with_capacity(windows),
        }
    }

    /// Replaces what is here by `windows`, in their order. Capacity is kept: no allocation once warm.
    pub fn pack(&mut self, windows: &[&Window]) {
        self.clear();
        for window in windows {
            self.push(window);
        }
    }

    /// Token slots in use.
    pub fn slots(&self) -> usize {
        self.tokens.len()
    }

    fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.segment.clear();
        self.segment_table.clear();
        self.window_table.clear();
        self.labelled.clear();
        self.labels.clear();
        self.row_table.clear();
    }

    fn push(&mut self, window: &Window) {
        let first_slot = self.tokens.len() as i32;
        let first_row = self.labelled.len();
        self.tokens.extend(window.tokens.iter().map(|&id| id as i32));
        self.positions.extend(window.positions.iter().map(|&position| position as i32));
        let mut segment_start = first_slot;
        for &length in &window.segments {
            let index = self.segment_table.len() as i32;
            self.segment_table.push([segment_start, length as i32]);
            self.segment.extend(std::iter::repeat_n(index, length as usize));
            segment_start += length as i32;
        }
        for (slot, target) in window.targets.iter().enumerate() {
            if let Some(target) = *target {
                self.labelled.push(first_slot + slot as i32);
                self.labels.push(target as i32);
            }
        }
        self.window_table.push([first_slot, window.tokens.len() as i32]);
        self.row_table.push([first_row as i32, (self.labelled.len() - first_row) as i32]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::WindowLimits;
    use super::*;
    use proptest::prelude::*;

    fn windows() -> impl Strategy<Value = Vec<Window>> {
        let label = prop_oneof![Just(None), (0u32..50).prop_map(Some)];
        let segment = prop::collection::vec((0u32..50, label), 0..7);
        let window = prop::collection::vec(segment, 0..5).prop_map(|segments| {
            let limits = WindowLimits { window_length: 64, n_positions: 64, vocab_size: 50 };
            let mut window = Window::default();
            for segment in segments {
                let (ids, labels): (Vec<u32>, Vec<Option<u32>>) = segment.into_iter().unzip();
                window.push_segment(&ids, &labels, &limits).unwrap();
            }
            window
        });
        prop::collection::vec(window, 0..6)
    }

    /// Reads the windows back from the tables alone.
    fn unpack(batch: &MicroBatch) -> Vec<Window> {
        let mut targets = vec![None; batch.slots()];
        for (&slot, &label) in batch.labelled.iter().zip(&batch.labels) {
            targets[slot as usize] = Some(label as u32);
        }
        let unsigned = |values: &[i32]| values.iter().map(|&value| value as u32).collect::<Vec<_>>();
        let read = |&[first, length]: &[i32; 2]| {
            let slots = first as usize..(first + length) as usize;
            let inside = |[start, _]: &&[i32; 2]| slots.contains(&(*start as usize));
            Window {
                tokens: unsigned(&batch.tokens[slots.clone()]),
                positions: unsigned(&batch.positions[slots.clone()]),
                segments: batch.segment_table.iter().filter(inside).map(|entry| entry[1] as u32).collect(),
                targets: targets[slots.clone()].to_vec(),
            }
        };
        batch.window_table.iter().map(read).collect()
    }

    proptest! {
        #[test]
        fn tables_are_consistent(windows in windows()) {
            let mut batch = MicroBatch::default();
            batch.pack(&windows.iter().collect::<Vec<_>>());
            prop_assert_eq!(&unpack(&batch), &windows);
            prop_assert!(batch.labelled.is_sorted_by(|a, b| a < b));
            for (slot, &index) in batch.segment.iter().enumerate() {
                let [first, length] = batch.segment_table[index as usize];
                prop_assert!((first..first + length).contains(&(slot as i32)));
                prop_assert_eq!(batch.positions[slot], slot as i32 - first);
            }
            let mut next_row = 0;
            for (&[first, length], &[row, count]) in batch.window_table.iter().zip(&batch.row_table) {
                prop_assert_eq!(row, next_row);
                next_row += count;
                let rows = &batch.labelled[row as usize..next_row as usize];
                prop_assert!(rows.iter().all(|slot| (first..first + length).contains(slot)));
            }
            prop_assert_eq!(next_row as usize, batch.labelled.len());
            prop_assert_eq!(batch.labels.len(), batch.labelled.len());
        }

        #[test]
        fn packing_replaces_and_does_not_allocate_once_warm(first in windows(), second in windows()) {
            let mut reused = MicroBatch::with_capacity(6, 64);
            let room = (reused.tokens.as_ptr(), reused.segment_table.as_ptr(), reused.labelled.as_ptr());
            reused.pack(&first.iter().collect::<Vec<_>>());
            reused.pack(&second.iter().collect::<Vec<_>>());
            let mut fresh = MicroBatch::default();
            fresh.pack(&second.iter().collect::<Vec<_>>());
            prop_assert_eq!(&reused, &fresh);
            prop_assert_eq!(room, (reused.tokens.as_ptr(), reused.segment_table.as_ptr(), reused.labelled.as_ptr()));
        }
    }

    #[test]
    fn two_windows_by_hand() {
        let limits = WindowLimits { window_length: 8, n_positions: 8, vocab_size: 100 };
        let (mut one, mut two) = (Window::default(), Window::default());
        one.push_segment(&[1, 2], &[None, Some(2)], &limits).unwrap();
        one.push_segment(&[3, 4, 5], &[None, None, Some(5)], &limits).unwrap();
        two.push_segment(&[6, 7], &[Some(6), Some(7)], &limits).unwrap();
        let mut batch = MicroBatch::default();
        batch.pack(&[&one, &two]);
        assert_eq!(batch.tokens, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(batch.positions, [0, 1, 0, 1, 2, 0, 1]);
        assert_eq!(batch.segment, [0, 0, 1, 1, 1, 2, 2]);
        assert_eq!(batch.segment_table, [[0, 2], [2, 3], [5, 2]]);
        assert_eq!(batch.window_table, [[0, 5], [5, 2]]);
        assert_eq!(batch.labelled, [0, 3, 5]);
        assert_eq!(batch.labels, [2, 5, 7]);
        assert_eq!(batch.row_table, [[0, 2], [2, 1]]);
    }
}
