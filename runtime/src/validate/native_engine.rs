//! The compiled `decode` entry point as an engine.
//!
//! Each sequence of a batch has its own rows of the key/value cache. Tokens of all sequences stand back to back in a
//! run, without padding; a prompt that is longer than a run is taken in parts.

use super::engine::{Engine, EngineError, RowLogits, argmax, log_probability};
use crate::executor::{Executor, ExecutorError, WeightStore};
use crate::topology::Topology;
use crate::train::{Start, TrainError, parameters};
use crate::weights::Checkpoint;
use gptjc_graphs::plan::Plan;
use gptjc_graphs::shape::Extents;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// New tokens of one sequence.
struct Feed<'t> {
    sequence: usize,
    /// Position of the first of them: tokens of the sequence that the cache has already.
    position: usize,
    tokens: &'t [u32],
    /// First token whose logits are wanted.
    wanted_from: usize,
}

/// One new token on its way into a run.
struct Slot {
    token: u32,
    position: usize,
    cache_slot: usize,
    /// Index of the feed that wants its logits, if one does.
    wanted_by: Option<usize>,
}

/// A bound decoding plan.
pub struct NativeEngine {
    executor: Executor,
    sequences: usize,
    window: usize,
    slots: usize,
    vocabulary: usize,
}

impl NativeEngine {
    /// Binds a plan that was compiled to decode.
    ///
    /// # Errors
    /// [`TrainError`] if checkpoint or adapter are not what the plan was compiled for, or memory is refused.
    pub fn new(
        plan: Plan,
        checkpoint: Arc<Checkpoint>,
        start: Start,
        threads: usize,
    ) -> Result<Self, TrainError> {
        Self::stopped_by(plan, checkpoint, start, threads, Arc::default())
    }

    /// As [`new`](Self::new), with a flag that ends what it does, with [`EngineError::Stopped`].
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn stopped_by(
        plan: Plan,
        checkpoint: Arc<Checkpoint>,
        start: Start,
        threads: usize,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, TrainError> {
        checkpoint.check(&parameters::checkpoint_specs(&plan))?;
        let initial = parameters::initial(&plan, &checkpoint, start, 0)?;
        let options = plan.options.clone();
        let weights = WeightStore::new(checkpoint);
        let mut executor = Executor::stopped_by(&Topology::host(), plan, weights, threads, stop)?;
        for (name, values) in initial {
            executor.write(&name, &values)?;
        }
        executor.run("setup", &Extents::default())?;
        Ok(Self {
            executor,
            sequences: options.decode_sequences as usize,
            window: options.max_seq_length as usize,
            slots: options.decode_slots as usize,
            vocabulary: options.model.vocab_size as usize,
        })
    }

    /// Runs `feeds` and returns, for each, the logits of its tokens from `wanted_from` on, `[tokens, V]`.
    fn run(&mut self, feeds: &[Feed<'_>]) -> Result<Vec<Vec<f32>>, EngineError> {
        let mut logits = vec![Vec::new(); feeds.len()];
        let mut slots = Vec::new();
        for (index, feed) in feeds.iter().enumerate() {
            for (offset, &token) in feed.tokens.iter().enumerate() {
                let position = feed.position + offset;
                let wanted_by = (offset >= feed.wanted_from).then_some(index);
                slots.push(Slot {
                    token,
                    position,
                    cache_slot: feed.sequence * self.window + position,
                    wanted_by,
                });
            }
        }
        for run in slots.chunks(self.slots) {
            self.run_slots(run, &mut logits).map_err(|error| failed(&error))?;
        }
        Ok(logits)
    }

    fn run_slots(&mut self, slots: &[Slot], logits: &mut [Vec<f32>]) -> Result<(), ExecutorError> {
        let column =
            |value: fn(&Slot) -> usize| slots.iter().map(|slot| value(slot) as i32).collect::<Vec<_>>();
        let wanted: Vec<(usize, i32)> =
            (0..).zip(slots).filter_map(|(index, slot)| Some((slot.wanted_by?, index))).collect();
        let labelled: Vec<i32> = wanted.iter().map(|&(_, index)| index).collect();
        self.executor.write("tokens", &column(|slot| slot.token as usize))?;
        self.executor.write("position", &column(|slot| slot.position))?;
        self.executor.write("cache_slot", &column(|slot| slot.cache_slot))?;
        self.executor.write("labelled", &labelled)?;
        let extents = Extents { slots: slots.len(), rows: labelled.len(), ..Extents::default() };
        self.executor.run("decode", &extents)?;
        let rows = self.executor.read_first::<f32>("logits", labelled.len() * self.vocabulary)?;
        for (row, (feed, _)) in rows.chunks_exact(self.vocabulary).zip(wanted) {
            logits[feed].extend_from_slice(row);
        }
        Ok(())
    }

    /// Refuses a row that the engine cannot run.
    fn check(&self, row: usize, tokens: &[u32], extra: usize) -> Result<(), EngineError> {
        if tokens.is_empty() {
            return Err(EngineError::EmptyPrompt { row });
        }
        let needed = tokens.len() + extra;
        if needed > self.window {
            return Err(EngineError::TooLong { row, needed, limit: self.window });
        }
        match tokens.iter().find(|&&token| token as usize >= self.vocabulary) {
            Some(&token) => Err(EngineError::Token { token, vocabulary: self.vocabulary }),
            None => Ok(()),
        }
    }

    /// The last logits of each prompt of one batch, which fills the cache.
    fn prefill(&mut self, prompts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EngineError> {
        let feeds: Vec<Feed<'_>> = prompts
            .iter()
            .enumerate()
            .map(|(sequence, tokens)| Feed { sequence, position: 0, tokens, wanted_from: tokens.len() - 1 })
            .collect();
        self.run(&feeds)
    }

    fn generate_batch(
        &mut self,
        prompts: &[Vec<u32>],
        max_new_tokens: usize,
        eos: u32,
    ) -> Result<Vec<Vec<u32>>, EngineError> {
        let mut answers = vec![Vec::new(); prompts.len()];
        if max_new_tokens == 0 {
            return Ok(answers);
        }
        let mut next: Vec<(usize, u32)> = Vec::new();
        for (sequence, logits) in self.prefill(prompts)?.iter().enumerate() {
            next.push((sequence, argmax(logits) as u32));
        }
        loop {
            next.retain(|&(_, token)| token != eos);
            for &(sequence, token) in &next {
                answers[sequence].push(token);
            }
            next.retain(|&(sequence, _)| answers[sequence].len() < max_new_tokens);
            if next.is_empty() {
                return Ok(answers);
            }
            let feeds: Vec<Feed<'_>> = next
                .iter()
                .map(|(sequence, token)| {
                    let position = prompts[*sequence].len() + answers[*sequence].len() - 1;
                    let tokens = std::slice::from_ref(token);
                    Feed { sequence: *sequence, position, tokens, wanted_from: 0 }
                })
                .collect();
            let logits = self.run(&feeds)?;
            next = next
                .iter()
                .zip(logits)
                .map(|(&(sequence, _), row)| (sequence, argmax(&row) as u32))
                .collect();
        }
    }

    /// Log-probability of `candidate` after each prompt of one batch, whose last logits are given.
    fn score_candidate(
        &mut self,
        prompts: &[Vec<u32>],
        last: &[Vec<f32>],
        candidate: &[u32],
    ) -> Result<Vec<f32>, EngineError> {
        let mut scores: Vec<f64> =
            last.iter().map(|row| log_probability(row, candidate[0] as usize)).collect();
        let (_, but_last) = candidate.split_last().unwrap_or((&0, &[]));
        if !but_last.is_empty() {
            let feeds: Vec<Feed<'_>> = prompts
                .iter()
                .enumerate()
                .map(|(sequence, prompt)| Feed {
                    sequence,
                    position: prompt.len(),
                    tokens: but_last,
                    wanted_from: 0,
                })
                .collect();
            for (score, logits) in scores.iter_mut().zip(self.run(&feeds)?) {
                for (row, &token) in logits.chunks_exact(self.vocabulary).zip(&candidate[1..]) {
                    *score += log_probability(row, token as usize);
                }
            }
        }
        Ok(scores.into_iter().map(|score| score as f32).collect())
    }
}

/// What runs `plan`, with its version: for reports.
pub(crate) fn name(plan: &Plan) -> String {
    format!("gptjc {} ({})", env!("CARGO_PKG_VERSION"), plan.options.precision())
}

fn failed(error: &ExecutorError) -> EngineError {
    if matches!(error, ExecutorError::Stopped(_)) {
        return EngineError::Stopped;
    }
    EngineError::Failed { engine: "gptjc".to_owned(), action: "run `decode`", reason: error.to_string() }
}

impl Engine for NativeEngine {
    fn name(&self) -> String {
        name(self.executor.plan())
    }

    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        max_new_tokens: usize,
        eos: u32,
    ) -> Result<Vec<Vec<u32>>, EngineError> {
        for (row, prompt) in prompts.iter().enumerate() {
            self.check(row, prompt, max_new_tokens)?;
        }
        let mut answers = Vec::with_capacity(prompts.len());
        for batch in prompts.chunks(self.sequences) {
            answers.extend(self.generate_batch(batch, max_new_tokens, eos)?);
        }
        Ok(answers)
    }

    fn score(&mut self, prompts: &[Vec<u32>], candidates: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EngineError> {
        if let Some(candidate) = candidates.iter().position(Vec::is_empty) {
            return Err(EngineError::EmptyCandidate { candidate });
        }
        let longest = candidates.iter().map(Vec::len).max().unwrap_or(0);
        for (row, tokens) in prompts.iter().enumerate() {
            self.check(row, tokens, longest)?;
        }
        for tokens in candidates {
            self.check(0, tokens, 0)?;
        }
        let mut scores = Vec::with_capacity(prompts.len());
        for batch in prompts.chunks(self.sequences) {
            let last = self.prefill(batch)?;
            let mut of_batch = vec![Vec::with_capacity(candidates.len()); batch.len()];
            for candidate in candidates {
                for (row, score) in of_batch.iter_mut().zip(self.score_candidate(batch, &last, candidate)?) {
                    row.push(score);
                }
            }
            scores.extend(of_batch);
        }
        Ok(scores)
    }

    fn logits(&mut self, rows: &[Vec<u32>]) -> Result<Vec<RowLogits>, EngineError> {
        for (row, tokens) in rows.iter().enumerate() {
            self.check(row, tokens, 0)?;
        }
        let mut all = Vec::with_capacity(rows.len());
        for tokens in rows {
            let values = self.run(&[Feed { sequence: 0, position: 0, tokens, wanted_from: 0 }])?.remove(0);
            all.push(RowLogits { vocabulary: self.vocabulary, values });
        }
        Ok(all)
    }
}
