//! An exported model as an engine: batches padded on the left, key/value cache, positions from the mask. A
//! [`StepSession`] runs the steps.
//!
//! A prompt batch is run once: generating and scoring the same prompts one after the other share it. The cache stays in
//! the library's own tensors, which are the next step's inputs as they are.
//!
//! Does not: sample; answers are greedy.

use std::fmt;

use super::batch::{LeftPadded, Limits, check_tokens};
use super::engine::{Engine, EngineError, RowLogits, argmax, log_probability};
use super::step::{Step, StepSession, Wanted};

/// A loaded model that answers.
pub struct CachedEngine<S: StepSession> {
    session: S,
    /// The newest prompts that were run.
    prefill: Option<Prefill<S::Value>>,
}

/// Prompts that were run: logits of their last tokens, and the cache after them.
struct Prefill<V> {
    prompts: Vec<Vec<u32>>,
    batch: LeftPadded,
    /// `[rows, vocabulary]`
    logits: Vec<f32>,
    cache: Vec<V>,
}

impl<S: StepSession> fmt::Debug for CachedEngine<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedEngine").field("session", &self.session.name()).finish_non_exhaustive()
    }
}

impl<S: StepSession> CachedEngine<S> {
    pub(super) fn new(session: S) -> Self {
        CachedEngine { session, prefill: None }
    }

    /// The token that ends a text, as the model's configuration says.
    pub fn eos_token_id(&self) -> Option<u32> {
        self.session.sizes().eos_token_id
    }

    /// As [`Engine::logits`], at most `chunk` slots of each row at a time, the rest through the cache: the same numbers
    /// up to the order of sums, with less memory for long rows. A `chunk` of 0 counts as 1.
    ///
    /// # Errors
    /// As [`Engine::logits`].
    pub fn logits_by_chunks(
        &mut self,
        rows: &[Vec<u32>],
        chunk: usize,
    ) -> Result<Vec<RowLogits>, EngineError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let batch = LeftPadded::new(rows, 0, self.limits())?;
        let vocabulary = self.session.sizes().vocab_size;
        let mut found: Vec<RowLogits> = vec![RowLogits { vocabulary, values: Vec::new() }; batch.rows];
        let mut cache = self.session.empty_cache(batch.rows)?;
        for first in (0..batch.width).step_by(chunk.clamp(1, batch.width)) {
            let last = batch.width.min(first.saturating_add(chunk.max(1)));
            let columns = batch.columns(first, last);
            let step = Step {
                rows: batch.rows,
                tokens: &columns.tokens,
                positions: &columns.positions,
                mask: &columns.mask,
                wanted: Wanted::All,
            };
            let output = self.session.run(&step, &cache)?;
            let all = self.session.logits(&output, &step)?;
            let all = all.chunks_exact((last - first) * vocabulary);
            for ((row, values), length) in found.iter_mut().zip(all).zip(&batch.lengths) {
                let pads = (batch.width - length).clamp(first, last) - first;
                row.values.extend_from_slice(&values[pads * vocabulary..]);
            }
            cache = output.present;
        }
        Ok(found)
    }

    fn limits(&self) -> Limits {
        Limits { vocabulary: self.session.sizes().vocab_size, positions: self.session.sizes().n_positions }
    }

    /// Runs prompts that leave room for `new_tokens`, or takes them from the last time.
    fn prefill(&mut self, prompts: &[Vec<u32>], new_tokens: usize) -> Result<Prefill<S::Value>, EngineError> {
        let batch = LeftPadded::new(prompts, new_tokens, self.limits())?;
        if let Some(prefill) = self.prefill.take_if(|prefill| prefill.prompts == prompts) {
            return Ok(prefill);
        }
        // Freed before the new cache is made.
        self.prefill = None;
        let step = Step {
            rows: batch.rows,
            tokens: &batch.tokens,
            positions: &batch.positions,
            mask: &batch.mask,
            wanted: Wanted::Last,
        };
        let empty = self.session.empty_cache(batch.rows)?;
        let output = self.session.run(&step, &empty)?;
        let logits = self.session.logits(&output, &step)?.into_owned();
        Ok(Prefill { prompts: prompts.to_vec(), batch, logits, cache: output.present })
    }

    /// The log-probabilities of the tokens of `candidate` from its second on, added to `scores`.
    fn score_rest(
        &mut self,
        prefill: &Prefill<S::Value>,
        candidate: &[u32],
        scores: &mut [f64],
    ) -> Result<(), EngineError> {
        let chunk = &candidate[..candidate.len() - 1];
        let columns: Vec<Vec<u32>> = vec![chunk.to_vec(); prefill.batch.rows];
        let step_data = Continuation::new(&prefill.batch, 0, &columns);
        let step = step_data.step();
        let output = self.session.run(&step, &prefill.cache)?;
        let logits = self.session.logits(&output, &step)?;
        let vocabulary = self.session.sizes().vocab_size;
        for (score, row) in scores.iter_mut().zip(logits.chunks_exact(chunk.len() * vocabulary)) {
            for (values, &token) in row.chunks_exact(vocabulary).zip(&candidate[1..]) {
                *score += log_probability(values, token as usize);
            }
        }
        Ok(())
    }
}

/// The inputs of a step that continues a batch.
struct Continuation {
    rows: usize,
    tokens: Vec<i64>,
    positions: Vec<i64>,
    mask: Vec<i64>,
}

impl Continuation {
    /// `tokens`, as many for each row, after the batch and `generated` tokens more.
    fn new(batch: &LeftPadded, generated: usize, tokens: &[Vec<u32>]) -> Self {
        let mut step = Continuation { rows: batch.rows, tokens: vec![], positions: vec![], mask: vec![] };
        for (row, tokens) in tokens.iter().enumerate() {
            let first = batch.lengths[row] + generated;
            step.tokens.extend(tokens.iter().map(|&token| i64::from(token)));
            step.positions.extend((first..first + tokens.len()).map(|position| position as i64));
            step.mask.extend(&batch.mask[row * batch.width..(row + 1) * batch.width]);
            step.mask.extend(std::iter::repeat_n(1, generated + tokens.len()));
        }
        step
    }

    fn step(&self) -> Step<'_> {
        Step {
            rows: self.rows,
            tokens: &self.tokens,
            positions: &self.positions,
            mask: &self.mask,
            wanted: Wanted::All,
        }
    }
}

impl<S: StepSession> Engine for CachedEngine<S> {
    fn name(&self) -> String {
        self.session.name().to_owned()
    }

    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        max_new_tokens: usize,
        eos: u32,
    ) -> Result<Vec<Vec<u32>>, EngineError> {
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let prefill = self.prefill(prompts, max_new_tokens)?;
        let vocabulary = self.session.sizes().vocab_size;
        let mut answers: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
        let mut ended = vec![false; prompts.len()];
        let mut logits = prefill.logits.clone();
        let mut grown: Option<Vec<S::Value>> = None;
        for generated in 0..max_new_tokens {
            let next: Vec<u32> = logits.chunks_exact(vocabulary).map(|row| argmax(row) as u32).collect();
            for ((answer, ended), &token) in answers.iter_mut().zip(&mut ended).zip(&next) {
                *ended |= token == eos;
                if !*ended {
                    answer.push(token);
                }
            }
            if ended.iter().all(|&ended| ended) || generated + 1 == max_new_tokens {
                break;
            }
            let columns: Vec<Vec<u32>> = next.into_iter().map(|token| vec![token]).collect();
            let inputs = Continuation::new(&prefill.batch, generated, &columns);
            let output = self.session.run(&inputs.step(), grown.as_ref().unwrap_or(&prefill.cache))?;
            logits = self.session.logits(&output, &inputs.step())?.into_owned();
            grown = Some(output.present);
        }
        self.prefill = Some(prefill);
        Ok(answers)
    }

    fn score(&mut self, prompts: &[Vec<u32>], candidates: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EngineError> {
        for (candidate, tokens) in candidates.iter().enumerate() {
            if tokens.is_empty() {
                return Err(EngineError::EmptyCandidate { candidate });
            }
            check_tokens(tokens, self.limits())?;
        }
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let longest = candidates.iter().map(Vec::len).max().unwrap_or(0);
        let prefill = self.prefill(prompts, longest)?;
        let vocabulary = self.session.sizes().vocab_size;
        let mut scores = vec![Vec::with_capacity(candidates.len()); prompts.len()];
        for candidate in candidates {
            let first = candidate[0] as usize;
            let rows = prefill.logits.chunks_exact(vocabulary);
            let mut sums: Vec<f64> = rows.map(|row| log_probability(row, first)).collect();
            if candidate.len() > 1 {
                self.score_rest(&prefill, candidate, &mut sums)?;
            }
            scores.iter_mut().zip(sums).for_each(|(row, sum): (&mut Vec<f32>, f64)| row.push(sum as f32));
        }
        self.prefill = Some(prefill);
        Ok(scores)
    }

    fn logits(&mut self, rows: &[Vec<u32>]) -> Result<Vec<RowLogits>, EngineError> {
        self.logits_by_chunks(rows, usize::MAX)
    }
}
