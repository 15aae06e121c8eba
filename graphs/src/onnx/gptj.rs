//! GPT-J with key/value cache as an ONNX graph: what Optimum writes for text generation with past.
//!
//! Inputs `input_ids`, `attention_mask`, `position_ids` (int64) and `past_key_values.N.key/value`; outputs `logits` and
//! `present.N.key/value`; batch, sequence and past lengths are decided by the data. Nodes are named after the modules of
//! the Hugging Face model. The arithmetic is that of transformers' GPTJForCausalLM in f32: attention scores divided by
//! √head_dim, the smallest f32 added where a key may not be seen, attention and MLP side by side off one layer norm.
//!
//! Letters in shapes: B batch, S sequence, P past, T = P + S, D width, H heads, K head_dim, I inner width, V vocabulary.
//!
//! Does not: read a configuration file, or hold weights (see [`super::Recipe`]).

use super::builder::{BuildError, Dim, ModelBuilder, Value};
use super::recipe::{ElementType, Form, Initializer, OnnxModel, QuantizedPart, Recipe, Source};
use super::rotary_table::RotaryTable;
use super::storage::{Blockwise, Storage};
use crate::models::gptj::sites::Site;

pub use super::options::{ACCURACY_INT8, ExportOptions, LoraMerge};

const BATCH: Dim<'static> = Dim::Named("batch_size");
const SEQUENCE: Dim<'static> = Dim::Named("sequence_length");
const PAST: Dim<'static> = Dim::Named("past_sequence_length");
const TOTAL: Dim<'static> = Dim::Named("past_sequence_length + sequence_length");

/// The sizes of a GPT-J, as its `config.json` names them.
#[derive(Clone, Debug, PartialEq)]
pub struct GptjShape {
    /// Number of blocks.
    pub n_layer: usize,
    /// Width of the hidden state.
    pub n_embd: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Lanes of each head that are rotated.
    pub rotary_dim: usize,
    /// Width inside the MLP.
    pub n_inner: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Number of positions.
    pub n_positions: usize,
    /// Added to the variance in layer norms.
    pub layer_norm_epsilon: f64,
}

impl GptjShape {
    /// Lanes of a head.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head.max(1)
    }

    fn check(&self) -> Result<(), GptjError> {
        let sizes = [
            ("n_layer", self.n_layer),
            ("n_embd", self.n_embd),
            ("n_head", self.n_head),
            ("n_inner", self.n_inner),
            ("vocab_size", self.vocab_size),
            ("n_positions", self.n_positions),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(GptjError::Zero(name));
        }
        if !self.n_embd.is_multiple_of(self.n_head) {
            return Err(GptjError::Heads { n_embd: self.n_embd, n_head: self.n_head });
        }
        if !self.rotary_dim.is_multiple_of(2) || self.rotary_dim > self.head_dim() {
            return Err(GptjError::RotaryDim { rotary_dim: self.rotary_dim, head_dim: self.head_dim() });
        }
        Ok(())
    }
}

/// A model that cannot be expressed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GptjError {
    /// A size is zero.
    #[error("`{0}` is 0; expected a size of at least 1")]
    Zero(&'static str),
    /// Heads do not divide the width.
    #[error("`n_embd` is {n_embd} and `n_head` is {n_head}; expected a width that the heads divide")]
    Heads {
        /// Width.
        n_embd: usize,
        /// Heads.
        n_head: usize,
    },
    /// Rotated lanes do not fit.
    #[error(
        "`rotary_dim` is {rotary_dim}; expected an even number of at most {head_dim}, the lanes of a head"
    )]
    RotaryDim {
        /// Rotated lanes.
        rotary_dim: usize,
        /// Lanes of a head.
        head_dim: usize,
    },
    /// Matrices cannot be stored so.
    #[error("matrices cannot be stored as {}; expected float, float16 or bfloat16", .0.name())]
    Storage(ElementType),
    /// A level of accuracy that the operator does not have.
    #[error("the accuracy level is {0}; expected 0 (unset), 1 (f32), 2 (f16), 3 (bf16) or 4 (int8)")]
    AccuracyLevel(i64),
    /// A size of blocks that the operator does not have.
    #[error("the block size is {0}; expected 16, 32, 64, 128 or 256")]
    BlockSize(usize),
    /// An adapter on a module that is not there.
    #[error(
        "the adapted module `{module}` is none of this GPT-J; expected q_proj, k_proj, v_proj, out_proj, fc_in or fc_out of \
         {n_layer} layers, as in `transformer.h.0.attn.q_proj`"
    )]
    Module {
        /// The module.
        module: String,
        /// Layers of the model.
        n_layer: usize,
    },
    /// The graph itself is wrong.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// The inference graph of a GPT-J of this shape.
///
/// # Errors
/// [`GptjError`] if the shape is not one of a GPT-J, or an option does not fit it.
pub fn inference_model(shape: &GptjShape, options: &ExportOptions) -> Result<OnnxModel, GptjError> {
    shape.check()?;
    check_options(options)?;
    let is_unknown =
        |module: &&String| Site::of_module(module).is_none_or(|site| site.layer >= shape.n_layer as u64);
    if let Some(module) = options.lora.iter().flat_map(|lora| &lora.modules).find(is_unknown) {
        return Err(GptjError::Module { module: module.clone(), n_layer: shape.n_layer });
    }
    let mut gptj = Gptj { shape, options, graph: ModelBuilder::new("gptj") };
    gptj.model();
    Ok(gptj.graph.finish()?)
}

fn check_options(options: &ExportOptions) -> Result<(), GptjError> {
    for storage in [options.matrices, options.lm_head, Storage::Plain(options.embedding)] {
        match storage {
            Storage::Plain(ElementType::F32 | ElementType::F16 | ElementType::Bf16) => {}
            Storage::Plain(element) => return Err(GptjError::Storage(element)),
            Storage::Blocks(Blockwise { size, .. }) if Blockwise::SIZES.contains(&size) => {}
            Storage::Blocks(Blockwise { size, .. }) => return Err(GptjError::BlockSize(size)),
        }
    }
    match options.accuracy_level {
        0..=4 => Ok(()),
        level => Err(GptjError::AccuracyLevel(level)),
    }
}

/// What all blocks read: computed once, or constant.
struct Shared {
    /// `[B, S, 1, K]`: cosines of each slot's position.
    cos: Value,
    /// `[B, S, 1, K]`: signed sines of each slot's position.
    sin: Value,
    /// `[K]`: the lane that each lane is paired with.
    swap: Value,
    /// `[B, 1, S, T]`: 0 where a key may be seen, else the smallest f32.
    mask: Value,
    /// The shape that cuts `[B, S, D]` into heads: `[B, S, H, K]`.
    heads: Value,
    /// The shape that joins heads again: `[B, S, D]`.
    joined: Value,
    /// √K.
    sqrt_head_dim: Value,
    gelu: GeluConstants,
}

/// The numbers of `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
struct GeluConstants {
    half: Value,
    one: Value,
    three: Value,
    cubic: Value,
    sqrt_two_over_pi: Value,
}

/// A GPT-J being written down.
struct Gptj<'a> {
    shape: &'a GptjShape,
    options: &'a ExportOptions,
    graph: ModelBuilder,
}

impl Gptj<'_> {
    fn model(&mut self) {
        for (key, value) in self.options.metadata() {
            self.graph.metadata(key, value);
        }
        let input_ids = self.graph.input("input_ids", ElementType::I64, &[BATCH, SEQUENCE]);
        let attention_mask = self.graph.input("attention_mask", ElementType::I64, &[BATCH, TOTAL]);
        let position_ids = self.graph.input("position_ids", ElementType::I64, &[BATCH, SEQUENCE]);
        let past: Vec<[Value; 2]> = (0..self.shape.n_layer).map(|layer| self.past(layer)).collect();

        let mask = self.causal_and_padding_mask(&input_ids, &attention_mask, &past[0][0]);
        let shared = self.shared(&position_ids, mask);

        let mut hidden = self.embedding("transformer.wte", &input_ids);
        for (layer, past) in past.iter().enumerate() {
            hidden = self.block(layer, &hidden, past, &shared);
        }
        let normed = self.layer_norm("transformer.ln_f", &hidden);
        let logits = self.linear("lm_head", &normed, [self.shape.vocab_size, self.shape.n_embd], true);
        let logits = self.graph.publish(&logits, "logits");
        self.graph.output(
            logits.name(),
            ElementType::F32,
            &[BATCH, SEQUENCE, Dim::Fixed(self.shape.vocab_size)],
        );
        for layer in 0..self.shape.n_layer {
            self.declare_present(layer);
        }
    }

    /// `[B, S, D] -> [B, S, D]`: attention and MLP side by side off one layer norm, then the residual sum.
    fn block(&mut self, layer: usize, hidden: &Value, past: &[Value; 2], shared: &Shared) -> Value {
        let name = format!("transformer.h.{layer}");
        let normed = self.layer_norm(&format!("{name}.ln_1"), hidden);
        let attention = self.attention(layer, &normed, past, shared);
        let mlp = self.mlp(&format!("{name}.mlp"), &normed, shared);
        let both = self.graph.add(&format!("{name}/attn_and_mlp"), &attention, &mlp);
        self.graph.add(&format!("{name}/residual"), &both, hidden)
    }

    /// `[B, S, D] -> [B, S, D]`: causal self-attention over the past keys and values and the new ones.
    fn attention(&mut self, layer: usize, x: &Value, past: &[Value; 2], shared: &Shared) -> Value {
        let name = format!("transformer.h.{layer}.attn");
        let width = self.shape.n_embd;
        let heads = |gptj: &mut Self, projection: &str| {
            let projected = gptj.linear(&format!("{name}.{projection}"), x, [width, width], false);
            gptj.graph.reshape(&format!("{name}.{projection}/heads"), &projected, &shared.heads)
        };
        let (query, key, value) = (heads(self, "q_proj"), heads(self, "k_proj"), heads(self, "v_proj"));
        let query = self.rotary(&format!("{name}.q_proj"), &query, shared);
        let key = self.rotary(&format!("{name}.k_proj"), &key, shared);

        let by_head = [0, 2, 1, 3];
        let query = self.graph.transpose(&format!("{name}/query"), &query, &by_head);
        let key = self.graph.transpose(&format!("{name}/key"), &key, &by_head);
        let value = self.graph.transpose(&format!("{name}/value"), &value, &by_head);
        let keys = self.graph.concat(&format!("{name}/keys"), &[&past[0], &key], 2);
        let keys = self.graph.publish(&keys, &format!("present.{layer}.key"));
        let values = self.graph.concat(&format!("{name}/values"), &[&past[1], &value], 2);
        let values = self.graph.publish(&values, &format!("present.{layer}.value"));

        let columns = self.graph.transpose(&format!("{name}/keys_transposed"), &keys, &[0, 1, 3, 2]);
        let scores = self.graph.matmul(&format!("{name}/scores"), &query, &columns);
        let scaled = self.graph.div(&format!("{name}/scale"), &scores, &shared.sqrt_head_dim);
        let masked = self.graph.add(&format!("{name}/mask"), &scaled, &shared.mask);
        let weights = self.graph.softmax(&format!("{name}/softmax"), &masked);
        let mixed = self.graph.matmul(&format!("{name}/mix"), &weights, &values);
        let mixed = self.graph.transpose(&format!("{name}/mix_transposed"), &mixed, &by_head);
        let joined = self.graph.reshape(&format!("{name}/joined"), &mixed, &shared.joined);
        self.linear(&format!("{name}.out_proj"), &joined, [width, width], false)
    }

    /// `[B, S, H, K] -> [B, S, H, K]`: each pair of lanes turned by its slot's position.
    fn rotary(&mut self, name: &str, x: &Value, shared: &Shared) -> Value {
        let straight = self.graph.mul(&format!("{name}/rotary_cos"), x, &shared.cos);
        let swapped = self.graph.matmul(&format!("{name}/rotary_swap"), x, &shared.swap);
        let crossed = self.graph.mul(&format!("{name}/rotary_sin"), &swapped, &shared.sin);
        self.graph.add(&format!("{name}/rotary"), &straight, &crossed)
    }

    /// `[B, S, D] -> [B, S, D]` through the inner width.
    fn mlp(&mut self, name: &str, x: &Value, shared: &Shared) -> Value {
        let (width, inner) = (self.shape.n_embd, self.shape.n_inner);
        let expanded = self.linear(&format!("{name}.fc_in"), x, [inner, width], true);
        let activated = self.gelu_new(&format!("{name}.act"), &expanded, &shared.gelu);
        self.linear(&format!("{name}.fc_out"), &activated, [width, inner], true)
    }

    /// `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`; the operator Gelu came with a later operator set.
    fn gelu_new(&mut self, name: &str, x: &Value, constants: &GeluConstants) -> Value {
        let graph = &mut self.graph;
        let cube = graph.pow(&format!("{name}/cube"), x, &constants.three);
        let cubic = graph.mul(&format!("{name}/cubic"), &cube, &constants.cubic);
        let sum = graph.add(&format!("{name}/sum"), x, &cubic);
        let scaled = graph.mul(&format!("{name}/scaled"), &sum, &constants.sqrt_two_over_pi);
        let tanh = graph.tanh(&format!("{name}/tanh"), &scaled);
        let gate = graph.add(&format!("{name}/gate"), &tanh, &constants.one);
        let half = graph.mul(&format!("{name}/half"), x, &constants.half);
        graph.mul(name, &half, &gate)
    }

    /// `[B, 1, S, T]`: 0 where slot s may see key t, i.e. `t <= P + s` and the mask of t is not 0; else the smallest f32.
    fn causal_and_padding_mask(
        &mut self,
        input_ids: &Value,
        attention_mask: &Value,
        past_key: &Value,
    ) -> Value {
        let graph = &mut self.graph;
        let key_axes = graph.integers("mask/key_axes", &[2], &[1, 2]);
        let query_axes = graph.integers("mask/query_axes", &[2], &[1, 3]);
        let past_axis = graph.integers("mask/past_axis", &[], &[2]);
        let visible = graph.floats("mask/visible", &[], &[0.0]);
        let hidden = graph.floats("mask/hidden", &[], &[f32::MIN]);

        let real = graph.cast("mask/real", attention_mask, ElementType::Bool);
        let keys = graph.unsqueeze("mask/keys", &real, &key_axes);
        let queries = graph.unsqueeze("mask/queries", input_ids, &query_axes);
        let queries_shape = graph.shape("mask/queries_shape", &queries);
        let pairs = graph.expand("mask/pairs", &keys, &queries_shape);
        let past_shape = graph.shape("mask/past_shape", past_key);
        let past = graph.gather("mask/past", &past_shape, &past_axis, 0);
        let causal = graph.lower_triangle("mask/causal", &pairs, &past);
        graph.select("mask", &causal, &visible, &hidden)
    }

    fn shared(&mut self, position_ids: &Value, mask: Value) -> Shared {
        let (positions, head_dim) = (self.shape.n_positions, self.shape.head_dim());
        let table = RotaryTable::new(positions, head_dim, self.shape.rotary_dim);
        let graph = &mut self.graph;
        let cos = graph.floats("rotary.cos", &[positions, 1, head_dim], &table.cos);
        let sin = graph.floats("rotary.sin", &[positions, 1, head_dim], &table.sin);
        Shared {
            cos: graph.gather("rotary/cos", &cos, position_ids, 0),
            sin: graph.gather("rotary/sin", &sin, position_ids, 0),
            swap: graph.floats("rotary.swap", &[head_dim, head_dim], &table.swap),
            mask,
            heads: graph.integers("shape.heads", &[4], &[0, 0, self.shape.n_head as i64, head_dim as i64]),
            joined: graph.integers("shape.joined", &[3], &[0, 0, self.shape.n_embd as i64]),
            sqrt_head_dim: graph.floats("attn.sqrt_head_dim", &[], &[(head_dim as f32).sqrt()]),
            gelu: GeluConstants {
                half: graph.floats("gelu_new.half", &[], &[0.5]),
                one: graph.floats("gelu_new.one", &[], &[1.0]),
                three: graph.floats("gelu_new.three", &[], &[3.0]),
                cubic: graph.floats("gelu_new.cubic", &[], &[0.044715]),
                sqrt_two_over_pi: graph.floats(
                    "gelu_new.sqrt_two_over_pi",
                    &[],
                    &[std::f64::consts::FRAC_2_PI.sqrt() as f32],
                ),
            },
        }
    }

    /// `[B, S] -> [B, S, D]`: the vectors of tokens, in f32 from here on however they are stored.
    fn embedding(&mut self, name: &str, tokens: &Value) -> Value {
        let size = [self.shape.vocab_size, self.shape.n_embd];
        let (table, element) =
            self.matrix(name, size, Form::AsStored, Storage::Plain(self.options.embedding));
        if element == ElementType::F32 {
            return self.graph.gather(name, &table, tokens, 0);
        }
        let rows = self.graph.gather(&format!("{name}/stored"), &table, tokens, 0);
        self.graph.cast(name, &rows, ElementType::F32)
    }

    /// `x · Wᵀ`, with `+ b` if the module has a bias; `W` is `[out, in]` in the checkpoint.
    fn linear(&mut self, name: &str, x: &Value, out_in: [usize; 2], has_bias: bool) -> Value {
        let storage = if name == "lm_head" { self.options.lm_head } else { self.options.matrices };
        let product_name = if has_bias { format!("{name}/matmul") } else { name.to_owned() };
        let product = self.product(name, &product_name, x, out_in, storage);
        if !has_bias {
            return product;
        }
        let bias = self.vector(format!("{name}.bias"), out_in[0]);
        self.graph.add(name, &product, &bias)
    }

    /// `x · Wᵀ` with the weight of `module`, which is `[out, in]` in the checkpoint.
    fn product(
        &mut self,
        module: &str,
        name: &str,
        x: &Value,
        out_in: [usize; 2],
        storage: Storage,
    ) -> Value {
        if let (Storage::Blocks(blockwise), false) = (storage, self.options.widened) {
            let parts = self.quantised(module, out_in, blockwise);
            let [codes, scales, zero_points] = &parts;
            let parts = [codes, scales, zero_points];
            return self.graph.matmul_nbits(name, x, parts, out_in, blockwise, self.options.accuracy_level);
        }
        let (stored, element) = self.matrix(module, out_in, Form::Transposed, storage);
        let weight = match element {
            ElementType::F32 => stored,
            _ => self.graph.cast(&format!("{module}.weight/f32"), &stored, ElementType::F32),
        };
        self.graph.matmul(name, x, &weight)
    }

    /// The three parts of a module's quantised weight, named as ONNX Runtime's own tool names them.
    fn quantised(&mut self, module: &str, [rows, columns]: [usize; 2], blockwise: Blockwise) -> [Value; 3] {
        let blocks = blockwise.blocks(columns);
        let mut part = |suffix: String, part, element, shape| {
            let form = Form::Quantized { part, blockwise, columns };
            let recipe = Recipe { source: self.source(module), rounded_as: None, form };
            let name = format!("{module}.weight_{suffix}");
            self.graph.weight(Initializer { name, element, shape, recipe })
        };
        [
            part(
                format!("Q{}", blockwise.bits.number()),
                QuantizedPart::Codes,
                ElementType::U8,
                vec![rows, blocks, blockwise.blob()],
            ),
            part("scales".into(), QuantizedPart::Scales, ElementType::F32, vec![rows, blocks]),
            part(
                "zero_points".into(),
                QuantizedPart::ZeroPoints,
                ElementType::U8,
                vec![rows, blockwise.zero_point_bytes(columns)],
            ),
        ]
    }

    fn layer_norm(&mut self, name: &str, x: &Value) -> Value {
        let weight = self.vector(format!("{name}.weight"), self.shape.n_embd);
        let bias = self.vector(format!("{name}.bias"), self.shape.n_embd);
        self.graph.layer_norm(name, x, &weight, &bias, self.shape.layer_norm_epsilon as f32)
    }

    /// The weight of `module` as one tensor, and the type of its elements.
    fn matrix(
        &mut self,
        module: &str,
        rows_columns: [usize; 2],
        form: Form,
        storage: Storage,
    ) -> (Value, ElementType) {
        let mut shape = rows_columns.to_vec();
        if form == Form::Transposed {
            shape.reverse();
        }
        let (element, rounded_as) = match storage {
            Storage::Plain(element) if !self.options.widened => (element, None),
            Storage::Plain(ElementType::F32) => (ElementType::F32, None),
            Storage::Plain(_) | Storage::Blocks(_) => (ElementType::F32, Some(storage)),
        };
        let recipe = Recipe { source: self.source(module), rounded_as, form };
        let name = format!("{module}.weight");
        (self.graph.weight(Initializer { name, element, shape, recipe }), element)
    }

    fn vector(&mut self, name: String, length: usize) -> Value {
        let recipe = Recipe::as_stored(Source::Tensor(name.clone()));
        self.graph.weight(Initializer { name, element: ElementType::F32, shape: vec![length], recipe })
    }

    fn source(&self, module: &str) -> Source {
        let base = format!("{module}.weight");
        match &self.options.lora {
            Some(lora) if lora.modules.contains(module) => Source::LoraMerged {
                base,
                a: format!("base_model.model.{module}.lora_A.weight"),
                b: format!("base_model.model.{module}.lora_B.weight"),
                scaling: lora.scaling,
            },
            Some(_) | None => Source::Tensor(base),
        }
    }

    fn past(&mut self, layer: usize) -> [Value; 2] {
        let dims = self.cache_dims(PAST);
        ["key", "value"]
            .map(|part| self.graph.input(&format!("past_key_values.{layer}.{part}"), ElementType::F32, &dims))
    }

    fn declare_present(&mut self, layer: usize) {
        let dims = self.cache_dims(TOTAL);
        for part in ["key", "value"] {
            self.graph.output(&format!("present.{layer}.{part}"), ElementType::F32, &dims);
        }
    }

    fn cache_dims(&self, length: Dim<'static>) -> [Dim<'static>; 4] {
        [BATCH, Dim::Fixed(self.shape.n_head), length, Dim::Fixed(self.shape.head_dim())]
    }
}

#[cfg(test)]
#[path = "gptj_tests.rs"]
mod tests;
