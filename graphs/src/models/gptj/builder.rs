//! What building the graphs of one model shares: the graph, its inputs, its bounds.

use super::names::Projection;
use crate::autodiff::AutodiffError;
use crate::entities::ValueId;
use crate::graph::{Graph, GraphError, Role};
use crate::plan::{CompileOptions, LoraOptions};
use crate::shape::{Dim, TensorType};

/// Options that no graph can be built for.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// An adapter on a module that is not there.
    #[error("`{target}` is no projection of a GPT-J block: LoRA targets are {known}")]
    UnknownTarget {
        /// What was asked for.
        target: String,
        /// What there is.
        known: String,
    },
    /// No adapter at all.
    #[error("no LoRA target is given: choose some of {known}")]
    NoTarget {
        /// What there is.
        known: String,
    },
    /// Layers of a target that are none, not ascending, or not of the model.
    #[error(
        "the LoRA target `{target}` is put on layers {found:?}: expected at least one of the layers 0 to {last}, ascending"
    )]
    TargetLayers {
        /// The target.
        target: String,
        /// Its layers.
        found: Vec<u64>,
        /// The model's last layer.
        last: u64,
    },
    /// An option outside of its range.
    #[error("{option}: expected {expected}, found {found}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What it should have been.
        expected: String,
        /// What it was.
        found: String,
    },
    /// A node that does not type-check.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A gradient that cannot be built.
    #[error(transparent)]
    Autodiff(#[from] AutodiffError),
}

/// The values that carry a micro-batch.
#[derive(Clone, Copy)]
pub(super) struct Batch {
    pub(super) tokens: ValueId,
    pub(super) position: ValueId,
    pub(super) segment: ValueId,
    pub(super) segment_table: ValueId,
    pub(super) window_table: ValueId,
    pub(super) labelled: ValueId,
    pub(super) labels: ValueId,
    pub(super) row_table: ValueId,
}

/// Which slots the rows of a matrix are: what dropout masks depend on.
#[derive(Clone, Copy)]
pub(super) struct Tokens {
    pub(super) window_table: ValueId,
    /// The slot of each row, if rows are the labelled slots; else they are all slots.
    pub(super) labelled: Option<ValueId>,
}

impl Batch {
    /// All slots.
    pub(super) fn slots(&self) -> Tokens {
        Tokens { window_table: self.window_table, labelled: None }
    }

    /// The slots that have a label.
    pub(super) fn rows(&self) -> Tokens {
        Tokens { window_table: self.window_table, labelled: Some(self.labelled) }
    }
}

/// A graph in the making.
pub(super) struct Builder<'o> {
    pub(super) graph: Graph,
    pub(super) options: &'o CompileOptions,
    /// True while adapters' inputs are dropped.
    pub(super) training: bool,
    pub(super) micro_batch: usize,
    /// Names of the parameters, in the order of their declaration.
    pub(super) parameters: Vec<String>,
}

impl<'o> Builder<'o> {
    pub(super) fn new(name: &str, options: &'o CompileOptions, micro_batch: usize, training: bool) -> Self {
        Self { graph: Graph::new(name), options, training, micro_batch, parameters: Vec::new() }
    }

    pub(super) fn width(&self) -> usize {
        self.options.model.n_embd as usize
    }

    pub(super) fn heads(&self) -> usize {
        self.options.model.n_head as usize
    }

    pub(super) fn window_length(&self) -> usize {
        self.options.max_seq_length as usize
    }

    fn slots(&self) -> usize {
        self.micro_batch * self.window_length()
    }

    /// Declares a tensor of the checkpoint: frozen, or a parameter if all are trained.
    pub(super) fn weight(&mut self, name: &str, dims: &[usize]) -> Result<ValueId, ModelError> {
        let frozen = self.options.lora.is_some() || self.options.decode_sequences > 0;
        let role = if frozen { Role::Weight } else { Role::Parameter };
        self.tensor(name, role, dims)
    }

    /// Declares a parameter.
    pub(super) fn parameter(&mut self, name: &str, dims: &[usize]) -> Result<ValueId, ModelError> {
        self.tensor(name, Role::Parameter, dims)
    }

    fn tensor(&mut self, name: &str, role: Role, dims: &[usize]) -> Result<ValueId, ModelError> {
        if role == Role::Parameter {
            self.parameters.push(name.to_owned());
        }
        let dims: Vec<Dim> = dims.iter().copied().map(Dim::fixed).collect();
        Ok(self.graph.input(name, role, TensorType::f32(dims))?)
    }

    /// Declares the data of a micro-batch.
    pub(super) fn batch(&mut self) -> Result<Batch, ModelError> {
        let slots = self.slots();
        // A segment has at least one token. Evaluation fills micro-batches with them, whatever the packing of training.
        let segments = slots;
        let (windows, pair) = (Dim::windows(self.micro_batch), Dim::fixed(2));
        let mut input = |name: &str, dims: &[Dim]| self.graph.input(name, Role::Batch, TensorType::i32(dims));
        Ok(Batch {
            tokens: input("tokens", &[Dim::slots(slots)])?,
            position: input("position", &[Dim::slots(slots)])?,
            segment: input("segment", &[Dim::slots(slots)])?,
            segment_table: input("segment_table", &[Dim::segments(segments), pair])?,
            window_table: input("window_table", &[windows, pair])?,
            labelled: input("labelled", &[Dim::rows(slots)])?,
            labels: input("labels", &[Dim::rows(slots)])?,
            row_table: input("row_table", &[windows, pair])?,
        })
    }

    /// Declares the tables of rotary sines and cosines, `[n_positions, rotary_dim / 2]`.
    pub(super) fn rotary_tables(&mut self) -> Result<(ValueId, ValueId), ModelError> {
        let model = &self.options.model;
        let dims = [Dim::fixed(model.n_positions as usize), Dim::fixed(model.rotary_dim as usize / 2)];
        let sin = self.graph.input("rotary.sin", Role::State, TensorType::f32(dims))?;
        let cos = self.graph.input("rotary.cos", Role::State, TensorType::f32(dims))?;
        Ok((sin, cos))
    }

    /// The adapters' options, if `projection` of `layer` has one.
    pub(super) fn adapter(&self, layer: usize, projection: Projection) -> Option<&'o LoraOptions> {
        self.options.lora.as_ref().filter(|lora| lora.is_on(projection.name(), layer as u64))
    }
}
