//! How likely each of a few candidates is as the continuation of a prompt, by the plan's `forward` entry.
//!
//! The loss of a token is that of its label, and a slot may be asked for several labels at a time. So what all candidates
//! have in common, the prompt and the place of their first token, is computed once: a prompt is one segment, continued
//! by the longest candidate without its last token, and each candidate that is not on that way costs a segment more. Of
//! labels of one and two tokens that is one segment where one for each would be three.
//!
//! Does not: cut a prompt. One that has no room in a window with every candidate has no scores.

use super::EvaluateError;
use super::forward::gather;
use crate::data::micro_batch::MicroBatch;
use crate::data::window::Window;
use crate::train::{TrainError, Trainer};
use std::cmp::Reverse;

/// A continuation of the prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Branch {
    /// Tokens behind the prompt.
    tokens: Vec<u32>,
    /// Labels that are asked for: how many of `tokens` are before them, the label, and the candidate whose token it is.
    asked: Vec<(usize, u32, usize)>,
}

impl Branch {
    /// Asks for the tokens of a candidate, which must continue as this branch does.
    fn ask(&mut self, index: usize, candidate: &[u32]) {
        self.asked.extend(candidate.iter().enumerate().map(|(before, &token)| (before, token, index)));
        self.asked.sort_by_key(|&(before, ..)| before); // stable: the batch lists slots ascending
    }

    /// True if its segment has no more labels than slots behind a prompt of so many tokens: kernels have no room for more.
    fn fits(&self, prompt: usize) -> bool {
        self.asked.len() <= prompt + self.tokens.len()
    }
}

/// As few branches as the candidates need.
fn together(candidates: &[Vec<u32>]) -> Vec<Branch> {
    let mut longest_first: Vec<usize> = (0..candidates.len()).collect();
    longest_first.sort_by_key(|&index| Reverse(candidates[index].len())); // stable
    let mut branches: Vec<Branch> = Vec::new();
    for index in longest_first {
        let before = but_last(&candidates[index]);
        let place = branches.iter().position(|branch| branch.tokens.starts_with(before));
        let place = place.unwrap_or_else(|| {
            branches.push(Branch { tokens: before.to_vec(), asked: Vec::new() });
            branches.len() - 1
        });
        branches[place].ask(index, &candidates[index]);
    }
    branches
}

/// A branch for each candidate.
fn apart(candidates: &[Vec<u32>]) -> Vec<Branch> {
    let branch = |(index, candidate): (usize, &Vec<u32>)| {
        let mut branch = Branch { tokens: but_last(candidate).to_vec(), asked: Vec::new() };
        branch.ask(index, candidate);
        branch
    };
    candidates.iter().enumerate().map(branch).collect()
}

fn but_last(tokens: &[u32]) -> &[u32] {
    tokens.split_last().map_or(&[], |(_, before)| before)
}

/// Segments that run together.
#[derive(Default)]
struct Run {
    window: Window,
    /// Slot, label, prompt and candidate of each row, in the order of the slots.
    rows: Vec<(usize, u32, usize, usize)>,
}

impl Run {
    fn push(&mut self, index: usize, prompt: &[u32], branch: &Branch) {
        let Window { tokens, positions, segments, targets } = &mut self.window;
        let (first, length) = (tokens.len(), prompt.len() + branch.tokens.len());
        tokens.extend(prompt.iter().chain(&branch.tokens));
        positions.extend(0..length as u32);
        segments.push(length as u32);
        targets.resize(first + length, None);
        let last = first + prompt.len() - 1;
        self.rows.extend(branch.asked.iter().map(|&(before, token, of)| (last + before, token, index, of)));
    }

    /// The tables: those of the window, and a row for each label, of which a slot may have several.
    fn pack(&self, batch: &mut MicroBatch) {
        batch.pack(&[&self.window]);
        batch.labelled.extend(self.rows.iter().map(|row| row.0 as i32));
        batch.labels.extend(self.rows.iter().map(|row| row.1 as i32));
        batch.row_table = vec![[0, self.rows.len() as i32]];
    }
}

impl Trainer {
    /// Natural logarithms of the probabilities of `candidates` as continuations of `prompts`, without dropout:
    /// `[prompts][candidates]`, summed over a candidate's tokens in f64 and rounded once. None for a prompt that is empty or
    /// has no room in a window with the longest candidate. `progress` is told how many prompts are done.
    ///
    /// # Errors
    /// [`EvaluateError::Token`] for a token that the model does not know; [`TrainError`] if the entry point cannot run.
    pub fn score(
        &mut self,
        prompts: &[&[u32]],
        candidates: &[Vec<u32>],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Option<Vec<f32>>>, TrainError> {
        let options = &self.plan().options;
        let (window, slots) = (options.max_seq_length as usize, options.micro_batch as usize);
        let (slots, vocabulary) = (slots * window, options.model.vocab_size as usize);
        check_tokens(prompts.iter().copied().chain(candidates.iter().map(Vec::as_slice)), vocabulary)?;
        let longest = candidates.iter().map(Vec::len).max().unwrap_or(0);
        let (together, apart) = (together(candidates), apart(candidates));
        let mut sums: Vec<Option<Vec<f64>>> = vec![None; prompts.len()];
        let (mut run, mut batch) = (Run::default(), MicroBatch::default());
        for (index, prompt) in prompts.iter().enumerate() {
            if prompt.is_empty() || prompt.len() + longest > window {
                continue;
            }
            sums[index] = Some(vec![0.0; candidates.len()]);
            let all_fit = together.iter().all(|branch| branch.fits(prompt.len()));
            for branch in if all_fit { &together } else { &apart } {
                if run.window.tokens.len() + prompt.len() + branch.tokens.len() > slots {
                    self.add_scores(&mut run, &mut batch, &mut sums)?;
                    progress(index);
                }
                run.push(index, prompt, branch);
            }
        }
        self.add_scores(&mut run, &mut batch, &mut sums)?;
        progress(prompts.len());
        let round = |sums: Vec<f64>| sums.into_iter().map(|sum| sum as f32).collect();
        Ok(sums.into_iter().map(|sums| sums.map(round)).collect())
    }

    /// Runs what was gathered, adds it to `sums`, and empties `run`.
    fn add_scores(
        &mut self,
        run: &mut Run,
        batch: &mut MicroBatch,
        sums: &mut [Option<Vec<f64>>],
    ) -> Result<(), TrainError> {
        if run.rows.is_empty() {
            return Ok(());
        }
        run.pack(batch);
        let extents = self.write_batch(batch)?;
        self.executor().run("forward", &extents)?;
        let losses = self.executor().read_first::<f32>("row_loss", extents.rows)?;
        for (&(_, _, prompt, candidate), loss) in run.rows.iter().zip(losses) {
            if let Some(sums) = &mut sums[prompt] {
                sums[candidate] -= f64::from(loss);
            }
        }
        gather(&[], &mut run.window);
        run.rows.clear();
        Ok(())
    }
}

/// Checks that the model knows every token.
fn check_tokens<'t>(texts: impl Iterator<Item = &'t [u32]>, vocabulary: usize) -> Result<(), EvaluateError> {
    match texts.flatten().find(|&&token| token as usize >= vocabulary) {
        Some(&token) => Err(EvaluateError::Token { token, vocabulary }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(tokens: &[u32], asked: &[(usize, u32, usize)]) -> Branch {
        Branch { tokens: tokens.to_vec(), asked: asked.to_vec() }
    }

    #[test]
    fn candidates_share_what_they_have_in_common() {
        let labels = [vec![7, 8], vec![3], vec![4]];
        assert_eq!(together(&labels), [branch(&[7], &[(0, 7, 0), (0, 3, 1), (0, 4, 2), (1, 8, 0)])]);
        let more = [vec![1, 2, 3], vec![1, 5], vec![6, 5], vec![9]];
        let expected = [
            branch(&[1, 2], &[(0, 1, 0), (0, 1, 1), (0, 9, 3), (1, 2, 0), (1, 5, 1), (2, 3, 0)]),
            branch(&[6], &[(0, 6, 2), (1, 5, 2)]),
        ];
        assert_eq!(together(&more), expected);
        assert_eq!(apart(&labels[..2]), [branch(&[7], &[(0, 7, 0), (1, 8, 0)]), branch(&[], &[(0, 3, 1)])]);
    }

    #[test]
    fn a_segment_has_no_more_labels_than_slots() {
        let branches = together(&[vec![7, 8], vec![3], vec![4]]);
        assert!(branches[0].fits(3) && !branches[0].fits(2));
    }

    #[test]
    fn a_run_lists_slots_in_order() {
        let mut run = Run::default();
        let branch = branch(&[7], &[(0, 7, 0), (0, 3, 1), (1, 8, 0)]);
        run.push(0, &[1, 2], &branch);
        run.push(5, &[9], &branch);
        let mut batch = MicroBatch::default();
        run.pack(&mut batch);
        assert_eq!(batch.tokens, [1, 2, 7, 9, 7]);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1]);
        assert_eq!(batch.segment, [0, 0, 0, 1, 1]);
        assert_eq!(batch.labelled, [1, 1, 2, 3, 3, 4]);
        assert_eq!(batch.labels, [7, 3, 8, 7, 3, 8]);
        assert_eq!(batch.row_table, [[0, 6]]);
        assert_eq!(
            run.rows.iter().map(|row| (row.2, row.3)).collect::<Vec<_>>()[3..],
            [(5, 0), (5, 1), (5, 0)]
        );
    }
}
