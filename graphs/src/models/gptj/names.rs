//! Names of tensors, as Hugging Face's checkpoints and PEFT's adapters have them.
//!
//! Does not: name what training keeps; that is [`crate::plan::state`]'s.

use crate::plan::ModelConfig;

/// A projection of a block: a weight that an adapter can be put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Projection {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention's output.
    Out,
    /// MLP's input.
    FcIn,
    /// MLP's output.
    FcOut,
}

impl Projection {
    /// Every projection, in the order of the model and of the dropout sites.
    pub const ALL: [Projection; 6] =
        [Projection::Q, Projection::K, Projection::V, Projection::Out, Projection::FcIn, Projection::FcOut];

    /// Name of the module (`q_proj`).
    pub const fn name(self) -> &'static str {
        match self {
            Projection::Q => "q_proj",
            Projection::K => "k_proj",
            Projection::V => "v_proj",
            Projection::Out => "out_proj",
            Projection::FcIn => "fc_in",
            Projection::FcOut => "fc_out",
        }
    }

    /// Path of the module (`transformer.h.3.attn.q_proj`).
    pub fn module(self, layer: usize) -> String {
        let part = match self {
            Projection::Q | Projection::K | Projection::V | Projection::Out => "attn",
            Projection::FcIn | Projection::FcOut => "mlp",
        };
        format!("transformer.h.{layer}.{part}.{}", self.name())
    }

    /// (outputs, inputs) of the weight.
    pub fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let (width, inner) = (config.n_embd as usize, config.n_inner as usize);
        match self {
            Projection::Q | Projection::K | Projection::V | Projection::Out => (width, width),
            Projection::FcIn => (inner, width),
            Projection::FcOut => (width, inner),
        }
    }

    /// Number of the dropout site: each adapter of the model draws its own mask.
    pub fn dropout_site(self, layer: usize) -> usize {
        let index = Self::ALL.iter().position(|&projection| projection == self).unwrap_or_default();
        layer * 8 + index
    }
}

/// PEFT's name of an adapter's first matrix, `[r, inputs]`.
pub fn lora_a(module: &str) -> String {
    format!("base_model.model.{module}.lora_A.weight")
}

/// PEFT's name of an adapter's second matrix, `[outputs, r]`.
pub fn lora_b(module: &str) -> String {
    format!("base_model.model.{module}.lora_B.weight")
}

/// Names and shapes of all tensors of a checkpoint, in the model's order.
pub fn checkpoint_tensors(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (width, inner, vocab) = (config.n_embd as usize, config.n_inner as usize, config.vocab_size as usize);
    let mut tensors = vec![("transformer.wte.weight".to_owned(), vec![vocab, width])];
    for layer in 0..config.n_layer as usize {
        let block = format!("transformer.h.{layer}");
        tensors.push((format!("{block}.ln_1.weight"), vec![width]));
        tensors.push((format!("{block}.ln_1.bias"), vec![width]));
        for projection in Projection::ALL {
            let (outputs, inputs) = projection.shape(config);
            tensors.push((format!("{}.weight", projection.module(layer)), vec![outputs, inputs]));
        }
        tensors.push((format!("{block}.mlp.fc_in.bias"), vec![inner]));
        tensors.push((format!("{block}.mlp.fc_out.bias"), vec![width]));
    }
    tensors.push(("transformer.ln_f.weight".to_owned(), vec![width]));
    tensors.push(("transformer.ln_f.bias".to_owned(), vec![width]));
    tensors.push(("lm_head.weight".to_owned(), vec![vocab, width]));
    tensors.push(("lm_head.bias".to_owned(), vec![vocab]));
    tensors
}
