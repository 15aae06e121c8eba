//! Where and when streamed tensors are read, and what that costs.
//!
//! The stream region is a row of equal slots. A *unit* (a block's frozen matrices, or lm_head) is read into one slot; in
//! a run of an entry point units are visited in the order of the steps that read them. When a unit is needed that is in
//! no slot, the slot is taken whose unit is needed again last (Belady 1966), so that the units at the turn from forward
//! to backward are read once. Within a slot, a tensor may be read in as soon as the last step is finished that reads
//! what lay there, in this run or, at its beginning, in the one before: so reading goes on across micro-batches.

use gptjc_graphs::plan::{Load, STREAM_ALIGNMENT};

/// A frozen tensor that may be streamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Name in the checkpoint.
    pub name: String,
    /// Bytes, in the type that the kernels read.
    pub bytes: u64,
    /// The unit that it belongs to.
    pub unit: usize,
    /// Where it lies in the unit's slot.
    pub offset: u64,
}

/// A step reads a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Index of the step.
    pub step: usize,
    /// Index of the tensor.
    pub tensor: usize,
}

/// A tensor in the stream region, from a load to the last step that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// Index of the tensor.
    pub tensor: usize,
    /// Where it lies in the region.
    pub offset: u64,
    /// First and last step that read it.
    pub steps: (usize, usize),
    /// Its load; the buffer is not known yet.
    pub load: Load,
}

/// A unit in a slot, from its first to its last visit there.
struct UnitStay {
    unit: usize,
    slot: usize,
    /// Reads of its tensors, in the order of steps.
    reads: Vec<Read>,
}

/// Plans the stays of the streamed tensors of one entry point in `slots` slots of `slot_bytes` each, in the order of
/// their loads; none if a step reads more units than there are slots.
///
/// `reads` are those of streamed tensors, in the order of steps.
pub fn plan_stays(tensors: &[Tensor], reads: &[Read], slots: usize, slot_bytes: u64) -> Option<Vec<Stay>> {
    let units = assign_slots(tensors, reads, slots)?;
    let mut stays: Vec<Stay> = Vec::new();
    for stay in &units {
        let mut first: Vec<Stay> = Vec::new();
        for read in &stay.reads {
            match first.iter_mut().find(|other| other.tensor == read.tensor) {
                Some(other) => other.steps.1 = read.step,
                None => first.push(Stay {
                    tensor: read.tensor,
                    offset: stay.slot as u64 * slot_bytes + tensors[read.tensor].offset,
                    steps: (read.step, read.step),
                    load: Load { before_step: read.step as u32, ..Load::default() },
                }),
            }
        }
        stays.extend(first);
    }
    set_waits(tensors, &mut stays);
    stays.sort_by_key(|stay| stay.load.before_step); // stable
    Some(stays)
}

/// Says for each load which steps must be finished before it; `stays` of one slot are in the order of time.
fn set_waits(tensors: &[Tensor], stays: &mut [Stay]) {
    for index in 0..stays.len() {
        let (start, end) = (stays[index].offset, stays[index].offset + tensors[stays[index].tensor].bytes);
        let (mut after, mut previous) = (0, 0);
        for (other, stay) in stays.iter().enumerate() {
            if stay.offset < end && start < stay.offset + tensors[stay.tensor].bytes {
                previous = previous.max(stay.steps.1 + 1);
                if other < index {
                    after = after.max(stay.steps.1 + 1);
                }
            }
        }
        stays[index].load.after_step = after as u32;
        stays[index].load.previous_after_step = previous as u32;
    }
}

/// Which unit is in which slot, and when.
fn assign_slots(tensors: &[Tensor], reads: &[Read], slots: usize) -> Option<Vec<UnitStay>> {
    // Visits: runs of reads of one unit.
    let unit = |read: &Read| tensors[read.tensor].unit;
    let visits: Vec<&[Read]> = reads.chunk_by(|a, b| unit(a) == unit(b)).collect();
    let next_visit = |wanted: usize, from: usize| {
        visits[from..].iter().position(|visit| unit(&visit[0]) == wanted).unwrap_or(usize::MAX)
    };
    let mut stays: Vec<UnitStay> = Vec::new();
    let mut content: Vec<Option<usize>> = vec![None; slots]; // index of the stay in each slot
    for (index, visit) in visits.iter().enumerate() {
        let wanted = unit(&visit[0]);
        let found = content.iter().flatten().copied().find(|&stay| stays[stay].unit == wanted);
        if let Some(stay) = found {
            stays[stay].reads.extend_from_slice(visit);
            continue;
        }
        let last_step = |stay: usize| stays[stay].reads.last().map_or(0, |read| read.step);
        let slot = match content.iter().position(Option::is_none) {
            Some(slot) => slot,
            None => (0..slots)
                .filter(|&slot| content[slot].is_some_and(|stay| last_step(stay) < visit[0].step))
                .max_by_key(|&slot| {
                    let stay = content[slot].unwrap_or_default();
                    // Needed again last; among those that are not, the one that was used first.
                    (next_visit(stays[stay].unit, index), std::cmp::Reverse(last_step(stay)))
                })?,
        };
        stays.push(UnitStay { unit: wanted, slot, reads: visit.to_vec() });
        content[slot] = Some(stays.len() - 1);
    }
    Some(stays)
}

/// Seconds of a run, waiting included, when the same entry point ran before, and the seconds of it that steps wait.
pub fn simulate(steps: &[f64], stays: &[Stay], tensors: &[Tensor], disk_bandwidth: f64) -> (f64, f64) {
    const RUNS: usize = 4; // the last follows runs like itself
    let work: f64 = steps.iter().sum();
    let mut previous: Vec<f64> = vec![0.0; steps.len() + 1];
    let (mut reader, mut start): (f64, f64) = (0.0, 0.0);
    let mut seconds = work;
    for _ in 0..RUNS {
        // When the first n steps are finished; only those before a load's own step are known when it is asked for.
        let mut finished: Vec<f64> = vec![start; steps.len() + 1];
        let mut loads = stays.iter().peekable();
        for (step, &own) in steps.iter().enumerate() {
            let mut begin: f64 = finished[step];
            while let Some(stay) = loads.next_if(|stay| stay.load.before_step as usize <= step) {
                let load = &stay.load;
                let own_run: f64 =
                    if load.after_step == 0 { 0.0 } else { finished[load.after_step as usize] };
                let ready = own_run.max(previous[load.previous_after_step as usize]);
                reader = reader.max(ready) + tensors[stay.tensor].bytes as f64 / disk_bandwidth;
                begin = begin.max(reader);
            }
            finished[step + 1] = begin + own;
        }
        let end = finished[steps.len()];
        seconds = end - start;
        (start, previous) = (end, finished);
    }
    // Sums of many steps differ in their last digits.
    let wait = seconds - work;
    if wait > work * 1e-9 { (seconds, wait) } else { (work, 0.0) }
}

/// Bytes of one slot for units of these tensors, and the tensors' offsets in it.
pub fn lay_out(tensors: &mut [Tensor], units: usize) -> Vec<u64> {
    let mut ends = vec![0; units];
    for tensor in tensors {
        tensor.offset = ends[tensor.unit];
        ends[tensor.unit] += tensor.bytes.next_multiple_of(STREAM_ALIGNMENT);
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Units of one tensor of a page each.
    fn tensors(count: usize) -> Vec<Tensor> {
        let tensor = |unit| Tensor { name: format!("t{unit}"), bytes: 4096, unit, offset: 0 };
        (0..count).map(tensor).collect()
    }

    fn reads(order: &[usize]) -> Vec<Read> {
        order.iter().enumerate().map(|(step, &tensor)| Read { step, tensor }).collect()
    }

    fn loads(order: &[usize], slots: usize) -> Vec<(usize, u32, u32, u32)> {
        let stays = plan_stays(&tensors(4), &reads(order), slots, 4096).unwrap();
        stays
            .iter()
            .map(|s| (s.tensor, s.load.before_step, s.load.after_step, s.load.previous_after_step))
            .collect()
    }

    #[test]
    fn units_at_the_turn_are_read_once() {
        // Forward 0 1 2 3, backward 3 2 1 0.
        let found = loads(&[0, 1, 2, 3, 3, 2, 1, 0], 2);
        // 2 stays in slot 0 and 3 in slot 1; then 1 takes the slot of 3, which was used first, and 0 that of 2.
        let expected = [(0, 0, 0, 8), (1, 1, 0, 7), (2, 2, 1, 8), (3, 3, 2, 7), (1, 6, 5, 7), (0, 7, 6, 8)];
        assert_eq!(found, expected);
        assert_eq!(loads(&[0, 1, 2, 3, 3, 2, 1, 0], 4).len(), 4);
        assert_eq!(loads(&[0, 1, 2, 3, 3, 2, 1, 0], 1).len(), 7);
    }

    #[test]
    fn reading_hides_behind_work_or_shows() {
        let tensors = tensors(4);
        let stays = plan_stays(&tensors, &reads(&[0, 1, 2, 3, 3, 2, 1, 0]), 2, 4096).unwrap();
        let (seconds, wait) = simulate(&[1.0; 8], &stays, &tensors, 4096.0 / 0.25);
        // All but that of unit 0, which the last step reads where the first of the next run will.
        assert!((seconds - 8.25).abs() < 1e-9 && (wait - 0.25).abs() < 1e-9, "{seconds} {wait}");
        // Six loads of two seconds each: the disk is the bottleneck.
        let (seconds, wait) = simulate(&[1.0; 8], &stays, &tensors, 4096.0 / 2.0);
        assert!((12.0..16.0).contains(&seconds) && (seconds - wait - 8.0).abs() < 1e-9, "{seconds} {wait}");
        // With one slot nothing is read while its unit is at work.
        let stays = plan_stays(&tensors, &reads(&[0, 1, 2, 3, 3, 2, 1, 0]), 1, 4096).unwrap();
        let (seconds, _) = simulate(&[1.0; 8], &stays, &tensors, 4096.0);
        assert!((seconds - 15.0).abs() < 1e-9, "{seconds}");
    }

    #[test]
    fn a_step_that_reads_two_units_needs_two_slots() {
        let both = [Read { step: 0, tensor: 0 }, Read { step: 0, tensor: 1 }];
        assert_eq!(plan_stays(&tensors(2), &both, 1, 4096), None);
        assert_eq!(plan_stays(&tensors(2), &both, 2, 4096).unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn loads_wait_for_what_they_replace(order in prop::collection::vec(0usize..5, 1..40), slots in 1usize..5) {
            let tensors = tensors(5);
            let stays = plan_stays(&tensors, &reads(&order), slots, 4096).unwrap();
            for (index, stay) in stays.iter().enumerate() {
                prop_assert!(stay.load.after_step <= stay.load.before_step);
                for (other, before) in stays.iter().enumerate() {
                    if other < index && before.offset == stay.offset {
                        prop_assert!(before.steps.1 < stay.load.after_step as usize);
                    }
                    if before.offset == stay.offset {
                        prop_assert!(before.steps.1 < stay.load.previous_after_step as usize);
                    }
                }
            }
            for read in reads(&order) {
                let there = |s: &&Stay| s.tensor == read.tensor && s.steps.0 <= read.step && read.step <= s.steps.1;
                prop_assert_eq!(stays.iter().filter(there).count(), 1);
            }
        }
    }
}
