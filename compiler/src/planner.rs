//! Chooses micro-batch, number of recomputed blocks and weight residency together.
//!
//! For each micro-batch the graphs are built and fused once; for each number of recomputed blocks the training graph is
//! rewritten, its temporaries are packed and its steps are priced; for what memory is left, each way to keep or stream
//! the weights ([`Weights::options`]) is simulated. The fastest optimizer step that fits the budget is taken; of steps
//! that are equally fast, the one that needs the least memory.

use crate::compile::{entry_graphs, fusions};
use crate::cost::CostModel;
use crate::lower::{arena_bytes, lower};
use crate::memory::residency::{Residency, Weights};
use crate::memory::stream::simulate;
use crate::{CompileError, MemoryNeed, pass_manager, pipeline};
use gptjc_graphs::graph::Graph;
use gptjc_graphs::plan::CompileOptions;

/// Memory of the process besides the plan's: program, tokenizer, data.
const PROCESS_BYTES: u64 = 64 << 20;

/// The same for each thread: stack and packing buffers.
const THREAD_BYTES: u64 = 4 << 20;

/// What is left to the system and to others when no budget is given: a sixteenth of the machine's memory, and at least
/// this, or half of a machine that is smaller than two of it.
const RESERVE_BYTES: u64 = 512 << 20;

/// Share of the disk's bandwidth that is counted on when ways are compared: disks are shared, and reading beside work
/// seldom reaches what was measured alone. Predictions count on all of it.
const CAUTIOUS_DISK: f64 = 0.7;

/// Steps whose times differ by less than this share count as equally fast.
const EQUALLY_FAST: f64 = 0.002;

/// The graphs of one micro-batch, fused.
pub(crate) struct Fused {
    /// Windows of the micro-batch, or sequences that are decoded.
    pub(crate) micro_batch: u64,
    /// Graphs of all entry points.
    pub(crate) graphs: Vec<Graph>,
    /// What the passes said.
    pub(crate) remarks: Vec<String>,
    /// The frozen weights.
    pub(crate) weights: Weights,
}

impl Fused {
    /// Name of the graph with a backward pass.
    pub(crate) const TRAINING: &'static str = "micro_step";

    /// Builds and fuses the graphs.
    pub(crate) fn build(options: &CompileOptions, micro_batch: u64) -> Result<Self, CompileError> {
        let mut graphs = entry_graphs(options, micro_batch)?;
        let passes = fusions(options)?;
        let mut remarks = Vec::new();
        for graph in &mut graphs {
            remarks.extend(pass_manager::run(&passes, graph)?);
        }
        let weights = Weights::of(&graphs);
        Ok(Self { micro_batch, graphs, remarks, weights })
    }

    /// The graph with a backward pass, if there is one.
    fn training(&self) -> Option<&Graph> {
        self.graphs.iter().find(|graph| graph.name == Self::TRAINING)
    }

    /// Floating-point operations of a micro-step, nothing recomputed.
    pub(crate) fn flops(&self) -> u64 {
        self.training().map_or(0, Graph::flops)
    }
}

/// One way to compile.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// Blocks that are recomputed.
    pub(crate) blocks: usize,
    /// What becomes of the weights.
    pub(crate) residency: Residency,
    /// Memory that it takes.
    pub(crate) need: MemoryNeed,
    /// Seconds of an optimizer step, or of a run of each entry point if the plan decodes.
    pub(crate) seconds: f64,
    /// The same with [`CAUTIOUS_DISK`]: what ways are compared by.
    cautious_seconds: f64,
    /// Seconds of a micro-step that it waits for the disk.
    wait: f64,
    /// Bytes that a micro-step reads.
    read_bytes: u64,
}

impl Choice {
    /// True if this is what to take rather than `other`.
    fn is_better_than(&self, other: &Choice) -> bool {
        let (fast, slow) = (1.0 - EQUALLY_FAST, 1.0 + EQUALLY_FAST);
        self.cautious_seconds < other.cautious_seconds * fast
            || (self.cautious_seconds <= other.cautious_seconds * slow
                && self.need.total() < other.need.total())
    }
}

/// What is known of one micro-batch and number of recomputed blocks.
struct Variant<'f> {
    fused: &'f Fused,
    blocks: usize,
    /// The graph of the entry point that counts, and the times of its steps.
    graph: Graph,
    steps: Vec<f64>,
    /// Seconds of the rest of an optimizer step.
    apply: f64,
    /// Without units and stream region.
    need: MemoryNeed,
}

/// Bytes of memory that a plan of `options` may take: the budget, or the machine's memory without what is left to others.
pub fn budget(options: &CompileOptions) -> u64 {
    let memory = options.target.with_guesses().memory_bytes;
    match options.memory_budget {
        0 => memory - (memory / 16).max(RESERVE_BYTES.min(memory / 2)),
        bytes => bytes,
    }
}

/// The search.
pub(crate) struct Planner<'o> {
    options: &'o CompileOptions,
    cost: CostModel,
    budget: u64,
    fused: Vec<Fused>,
    /// The best of each micro-batch that fits, beside its index in `fused`.
    best: Vec<(usize, Choice)>,
    /// The one that needs the least, whether it fits or not.
    least: Option<(u64, usize, MemoryNeed)>,
    considered: usize,
    fitting: usize,
    remarks: Vec<String>,
}

impl<'o> Planner<'o> {
    pub(crate) fn new(options: &'o CompileOptions) -> Self {
        let cost = CostModel::new(&options.target);
        let (memory, budget) = (cost.target().memory_bytes, budget(options));
        let whose = match options.memory_budget {
            0 => format!("of the target's {memory}, with a reserve of {}", memory - budget),
            _ => "given".to_owned(),
        };
        let remarks = vec![format!("memory budget: {budget} bytes, {whose}")];
        Self {
            options,
            cost,
            budget,
            fused: Vec::new(),
            best: Vec::new(),
            least: None,
            considered: 0,
            fitting: 0,
            remarks,
        }
    }

    /// Considers one micro-batch with every number of recomputed blocks that may help.
    pub(crate) fn consider(&mut self, fused: Fused) -> Result<(), CompileError> {
        let blocks = if fused.training().is_some() { self.options.model.n_layer as usize } else { 0 };
        let base = self.base(&fused)?;
        let mut best: Option<Choice> = None;
        let mut first = None; // with nothing recomputed
        for blocks in 0..=blocks {
            let variant = self.variant(&fused, blocks, &base)?;
            let choices = self.choices(&variant);
            let work = self.step_seconds(&variant, variant.steps.iter().sum(), 0.0);
            for choice in choices {
                if best.as_ref().is_none_or(|best| choice.is_better_than(best)) {
                    best = Some(choice);
                }
            }
            if blocks == 0 {
                first.clone_from(&best);
            }
            // More recomputation is more work: it cannot be faster than this work without waiting.
            if best.as_ref().is_some_and(|best| best.cautious_seconds <= work * (1.0 + EQUALLY_FAST)) {
                break;
            }
        }
        self.explain(&fused, best.as_ref(), first.as_ref());
        if let Some(best) = best {
            self.best.push((self.fused.len(), best));
        }
        self.fused.push(fused);
        Ok(())
    }

    /// True if a smaller micro-batch than those considered cannot be faster: the last neither recomputes nor waits, and
    /// products of fewer rows reach less of the peak.
    pub(crate) fn is_settled(&mut self) -> bool {
        let Some((index, best)) = self.best.last() else { return false };
        let settled = index + 1 == self.fused.len()
            && best.blocks == 0
            && best.cautious_seconds <= best.seconds
            && best.wait <= 0.0;
        if settled {
            self.remarks
                .push("smaller micro-batches: not considered, as nothing is recomputed or waits".to_owned());
        }
        settled
    }

    /// The best of all micro-batches, and what led to it.
    pub(crate) fn choose(mut self) -> Result<(Fused, Choice, Vec<String>), CompileError> {
        let mut best: Option<(usize, Choice)> = None;
        for (index, choice) in std::mem::take(&mut self.best) {
            if best.as_ref().is_none_or(|(_, best)| choice.is_better_than(best)) {
                best = Some((index, choice));
            }
        }
        let Some((index, mut choice)) = best else { return Err(self.impossible()) };
        let fused = self.fused.swap_remove(index);
        let line = format!(
            "chosen: micro-batch {}, the fastest of {} ways that fit out of {} considered (equally fast: the least memory)",
            fused.micro_batch, self.fitting, self.considered
        );
        self.remarks.push(line);
        self.copy_weights(&fused, &mut choice);
        let remarks = self.remarks.iter().map(|remark| format!("planner: {remark}")).collect();
        Ok((fused, choice, remarks))
    }

    /// Gives each of several NUMA nodes a copy of the weights that stay, if the budget has room for them. Each reads its own
    /// then; otherwise they are spread over the nodes, and all nodes read most of them across the links between sockets. What
    /// is copied after the choice does not change it: predictions price neither.
    fn copy_weights(&mut self, fused: &Fused, choice: &mut Choice) {
        let nodes = self.options.target.nodes();
        let resident = choice.residency.resident_bytes(&fused.weights);
        // A run of a plan that decodes has few rows, and tiles of columns: each node reads a part of every weight.
        if nodes < 2 || resident == 0 || self.options.decode_sequences > 0 {
            return;
        }
        let copies = (nodes - 1) * resident;
        let room = self.budget.saturating_sub(choice.need.total());
        if copies <= room {
            choice.need.copies = copies;
            self.remarks.push(format!("weights: a copy on each of {nodes} NUMA nodes, {copies} bytes more"));
        } else {
            self.remarks.push(format!(
                "weights: spread over {nodes} NUMA nodes, as a copy on each takes {copies} bytes more and the budget has {room}"
            ));
        }
    }

    /// The error of a budget that nothing fits.
    fn impossible(&self) -> CompileError {
        let (windows, blocks, need) = self.least.unwrap_or_default();
        let (tokens, decodes) = (self.options.max_seq_length, self.options.decode_sequences > 0);
        let (budget, needed) = (self.budget, need.total());
        CompileError::Budget { budget, windows, tokens, blocks, need, needed, decodes }
    }

    /// Memory that does not depend on recomputation; of the arena, what the other entry points need.
    fn base(&self, fused: &Fused) -> Result<MemoryNeed, CompileError> {
        let plan = lower(&fused.graphs, self.options)?;
        let mut arena = 0;
        for graph in fused.graphs.iter().filter(|graph| graph.name != Fused::TRAINING) {
            arena = arena.max(arena_bytes(graph)?);
        }
        let threads = u64::from(self.cost.target().threads);
        Ok(MemoryNeed {
            weights: fused.weights.always,
            copies: 0,
            stream: 0,
            persistent: plan.persistent_bytes,
            arena,
            process: PROCESS_BYTES + threads * THREAD_BYTES,
        })
    }

    /// The graph with `blocks` blocks recomputed, its memory and times.
    fn variant<'f>(
        &self,
        fused: &'f Fused,
        blocks: usize,
        base: &MemoryNeed,
    ) -> Result<Variant<'f>, CompileError> {
        let seconds = |graph: &Graph| -> Vec<f64> {
            graph.nodes().map(|(_, node)| self.cost.seconds(graph, node)).collect()
        };
        let mut need = *base;
        let (graph, apply) = match fused.training() {
            Some(graph) => {
                let mut graph = graph.clone();
                for pass in pipeline::memory_passes(blocks) {
                    pass.run(&mut graph, &mut Vec::new())?; // verified when it is chosen
                }
                need.arena = need.arena.max(arena_bytes(&graph)?);
                let apply = fused.graphs.iter().find(|graph| graph.name == "apply");
                (graph, apply.map_or(0.0, |graph| seconds(graph).iter().sum()))
            }
            None => {
                let last = fused.graphs.last().cloned();
                (last.unwrap_or_else(|| Graph::new("none")), 0.0)
            }
        };
        Ok(Variant { fused, blocks, steps: seconds(&graph), graph, apply, need })
    }

    /// Every way to place the weights of a variant that fits the budget.
    fn choices(&mut self, variant: &Variant<'_>) -> Vec<Choice> {
        let weights = &variant.fused.weights;
        let mut least = variant.need;
        least.weights += weights.least();
        if self.least.is_none_or(|(.., need)| least.total() < need.total()) {
            self.least = Some((variant.fused.micro_batch, variant.blocks, least));
        }
        self.considered += 1;
        let Some(left) = self.budget.checked_sub(variant.need.total()) else { return Vec::new() };
        let options = weights.options(left);
        self.fitting += usize::from(!options.is_empty());
        options.into_iter().filter_map(|residency| self.choice(variant, residency)).collect()
    }

    /// One way to place the weights, simulated; none if some step reads more units than there are slots.
    fn choice(&self, variant: &Variant<'_>, residency: Residency) -> Option<Choice> {
        let weights = &variant.fused.weights;
        for graph in variant.fused.graphs.iter().filter(|graph| graph.name != variant.graph.name) {
            weights.stays(&weights.reads(graph, &residency.streamed), &residency)?;
        }
        let stays = weights.stays(&weights.reads(&variant.graph, &residency.streamed), &residency)?;
        let read_bytes: u64 = stays.iter().map(|stay| weights.tensors[stay.tensor].bytes).sum();
        let with = |disk: f64| {
            let (run, wait) = simulate(&variant.steps, &stays, &weights.tensors, disk);
            (self.step_seconds(variant, run, read_bytes as f64 / disk), wait)
        };
        let disk = self.cost.target().disk_bandwidth;
        let ((seconds, wait), (cautious_seconds, _)) = (with(disk), with(disk * CAUTIOUS_DISK));
        let mut need = variant.need;
        need.stream = residency.stream_bytes();
        need.weights += residency.bytes(weights) - need.stream;
        let blocks = variant.blocks;
        Some(Choice { blocks, residency, need, seconds, cautious_seconds, wait, read_bytes })
    }

    /// Seconds of an optimizer step whose micro-steps take `run`; the last has what windows are left, and reads as much.
    fn step_seconds(&self, variant: &Variant<'_>, run: f64, reading: f64) -> f64 {
        let micro_batch = variant.fused.micro_batch.max(1);
        if self.options.decode_sequences > 0 {
            return run;
        }
        let (full, rest) = (self.options.step_windows / micro_batch, self.options.step_windows % micro_batch);
        let work: f64 = variant.steps.iter().sum();
        let last =
            if rest > 0 { (work * rest as f64 / micro_batch as f64).max(reading.min(run)) } else { 0.0 };
        full as f64 * run + last + variant.apply
    }

    /// Notes the best of a micro-batch.
    fn explain(&mut self, fused: &Fused, best: Option<&Choice>, first: Option<&Choice>) {
        let name = fused.micro_batch;
        let Some(best) = best else {
            self.remarks.push(format!("micro-batch {name}: nothing fits"));
            return;
        };
        self.remarks.push(format!("micro-batch {name}: {}", describe(best, &fused.weights)));
        match first {
            Some(first) if first.blocks != best.blocks => {
                let line = format!("micro-batch {name}, otherwise: {}", describe(first, &fused.weights));
                self.remarks.push(line);
            }
            Some(_) => {}
            None => self.remarks.push(format!("micro-batch {name}: without recomputation nothing fits")),
        }
    }
}

/// A choice in one line.
fn describe(choice: &Choice, weights: &Weights) -> String {
    let streamed = choice.residency.streamed_count();
    let residency = match streamed {
        0 => "all weights resident".to_owned(),
        _ => format!(
            "{streamed} of {} units streamed through {} slots of {} bytes",
            weights.units.len(),
            choice.residency.slots,
            choice.residency.slot_bytes
        ),
    };
    format!(
        "{} blocks recomputed, {residency}: {:.3} s a step, of a micro-step {:.3} s waiting and {} bytes read; {} bytes at \
         the peak, {} bytes of it temporaries",
        choice.blocks,
        choice.seconds,
        choice.wait,
        choice.read_bytes,
        choice.need.total(),
        choice.need.arena
    )
}
