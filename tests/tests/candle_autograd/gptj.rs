//! GPT-J with LoRA, written a second time, over candle's tensors in f64: one sequence at a time, no packing, no tables.
//!
//! Of candle it uses only what it differentiates rightly: its `layer_norm`, `softmax_last_dim` and `rope_i` have no
//! gradient and do not say so, and the gradient of its `gelu` has constants of six digits.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use gptjc_graphs::plan::{CompileOptions, LoraOptions, ModelConfig};
use gptjc_tests::random_model::{LabelledToken, Tensors};
use std::collections::BTreeMap;

/// Loss and gradients, both summed over labelled tokens.
pub(crate) struct Sums {
    pub(crate) loss: f64,
    pub(crate) labelled: usize,
    pub(crate) gradients: BTreeMap<String, Vec<f64>>,
}

/// The model.
pub(crate) struct Gptj<'o> {
    config: &'o ModelConfig,
    lora: Option<&'o LoraOptions>,
    tensors: BTreeMap<String, Tensor>,
}

impl<'o> Gptj<'o> {
    /// The model of `options` with these tensors; those that `options` trains are candle's variables.
    pub(crate) fn new(options: &'o CompileOptions, tensors: &Tensors) -> Result<Self> {
        let lora = options.lora.as_ref();
        let mut all = BTreeMap::new();
        for (name, tensor) in tensors {
            let values = Tensor::from_slice(&tensor.values, tensor.shape.as_slice(), &Device::Cpu)?;
            let mut values = values.to_dtype(DType::F64)?;
            if lora.is_none() || name.contains(".lora_") {
                values = Var::from_tensor(&values)?.into_inner();
            }
            all.insert(name.clone(), values);
        }
        Ok(Self { config: &options.model, lora, tensors: all })
    }

    /// Loss and gradients of `segments`, each a sequence of its own.
    pub(crate) fn sums<'s>(&self, segments: impl Iterator<Item = &'s Vec<LabelledToken>>) -> Result<Sums> {
        let mut loss = Tensor::new(0f64, &Device::Cpu)?;
        let mut labelled = 0;
        for segment in segments {
            if let Some((sum, count)) = self.loss(segment)? {
                loss = (loss + sum)?;
                labelled += count;
            }
        }
        let store = loss.backward()?;
        let mut gradients = BTreeMap::new();
        for (name, tensor) in self.tensors.iter().filter(|(_, tensor)| tensor.is_variable()) {
            // Everything reaches the loss: what is missing was lost on the way.
            let lost = || candle_core::Error::Msg(format!("candle has no gradient of {name}"));
            let gradient = store.get(tensor).ok_or_else(lost)?;
            gradients.insert(name.clone(), gradient.flatten_all()?.to_vec1()?);
        }
        Ok(Sums { loss: loss.to_scalar()?, labelled, gradients })
    }

    /// Sum of the negative log-likelihoods and number of the labels of a sequence, if it has any.
    fn loss(&self, sequence: &[LabelledToken]) -> Result<Option<(Tensor, usize)>> {
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for (row, (_, label)) in sequence.iter().skip(1).enumerate() {
            if let Some(label) = label {
                rows.push(row as u32);
                labels.push(*label);
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let count = rows.len();
        let index = |values: Vec<u32>| Tensor::from_vec(values, count, &Device::Cpu);
        let tokens: Vec<u32> = sequence.iter().map(|(token, _)| *token).collect();
        let logits = self.logits(&tokens)?.index_select(&index(rows)?, 0)?;
        let log_likelihood = log_softmax(&logits)?.gather(&index(labels)?.unsqueeze(1)?, 1)?;
        Ok(Some((log_likelihood.sum_all()?.neg()?, count)))
    }

    /// `[n, V]`.
    fn logits(&self, tokens: &[u32]) -> Result<Tensor> {
        let tokens = Tensor::new(tokens, &Device::Cpu)?;
        let mut x = self.tensors["transformer.wte.weight"].index_select(&tokens, 0)?;
        for layer in 0..self.config.n_layer {
            let h = self.layer_norm(&format!("transformer.h.{layer}.ln_1"), &x)?;
            let attention = self.attention(&format!("transformer.h.{layer}.attn"), &h)?;
            let mlp = self.mlp(&format!("transformer.h.{layer}.mlp"), &h)?;
            x = ((attention + mlp)? + x)?;
        }
        let h = self.layer_norm("transformer.ln_f", &x)?;
        self.biased("lm_head", &h)
    }

    fn attention(&self, module: &str, h: &Tensor) -> Result<Tensor> {
        let (n, heads) = (h.dim(0)?, self.config.n_head as usize);
        let head_dim = self.config.head_dim() as usize;
        let split = |name: &str| self.linear(&format!("{module}.{name}"), h)?.reshape((n, heads, head_dim));
        let by_head = |x: Tensor| x.transpose(0, 1)?.contiguous();
        let q = by_head(self.rotate(&split("q_proj")?)?)?;
        let k = by_head(self.rotate(&split("k_proj")?)?)?;
        let v = by_head(split("v_proj")?)?;
        let future = |row: usize, column: usize| if column > row { f64::NEG_INFINITY } else { 0.0 };
        let mask: Vec<f64> = (0..n * n).map(|index| future(index / n, index % n)).collect();
        let mask = Tensor::from_vec(mask, (1, n, n), &Device::Cpu)?;
        let scores = (q.matmul(&k.t()?.contiguous()?)? / (head_dim as f64).sqrt())?.broadcast_add(&mask)?;
        let mixed = log_softmax(&scores)?.exp()?.matmul(&v)?;
        let mixed = mixed.transpose(0, 1)?.contiguous()?.reshape((n, heads * head_dim))?;
        self.linear(&format!("{module}.out_proj"), &mixed)
    }

    /// Rotates the lanes `(2i, 2i + 1)` of `x[n, heads, head_dim]` below `rotary_dim`.
    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let (n, heads, head_dim) = x.dims3()?;
        let lanes = self.config.rotary_dim as usize;
        // The angles are f32 in Hugging Face's GPT-J, whatever the dtype of the model.
        let angle = |position: usize, pair: usize| {
            let exponent = (2 * pair) as f32 / lanes as f32;
            f64::from(position as f32 * (1.0 / 10000f64.powf(f64::from(exponent)) as f32))
        };
        let table = |function: fn(f64) -> f64| {
            let angles = (0..n).flat_map(|position| (0..lanes / 2).map(move |pair| angle(position, pair)));
            Tensor::from_vec(angles.map(function).collect::<Vec<f64>>(), (n, 1, lanes / 2), &Device::Cpu)
        };
        let (sin, cos) = (table(f64::sin)?, table(f64::cos)?);
        let pairs = x.narrow(2, 0, lanes)?.reshape((n, heads, lanes / 2, 2))?;
        let (even, odd) = (pairs.narrow(3, 0, 1)?.squeeze(3)?, pairs.narrow(3, 1, 1)?.squeeze(3)?);
        let turned_even = (even.broadcast_mul(&cos)? - odd.broadcast_mul(&sin)?)?;
        let turned_odd = (odd.broadcast_mul(&cos)? + even.broadcast_mul(&sin)?)?;
        let turned = Tensor::stack(&[turned_even, turned_odd], 3)?.reshape((n, heads, lanes))?;
        if lanes == head_dim {
            return Ok(turned);
        }
        Tensor::cat(&[turned, x.narrow(2, lanes, head_dim - lanes)?], 2)
    }

    fn mlp(&self, module: &str, h: &Tensor) -> Result<Tensor> {
        let up = self.biased(&format!("{module}.fc_in"), h)?;
        let cube = up.mul(&up)?.mul(&up)?;
        let inner = ((up.clone() + (cube * 0.044715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
        let gelu = (up * 0.5)?.mul(&(inner.tanh()? + 1.0)?)?;
        self.biased(&format!("{module}.fc_out"), &gelu)
    }

    fn biased(&self, module: &str, x: &Tensor) -> Result<Tensor> {
        self.linear(module, x)?.broadcast_add(&self.tensors[&format!("{module}.bias")])
    }

    /// A linear layer with its adapter, if it has one, and without its bias.
    fn linear(&self, module: &str, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.tensors[&format!("{module}.weight")].t()?)?;
        let adapter = |matrix| self.tensors.get(&format!("base_model.model.{module}.{matrix}.weight"));
        let (Some(lora), Some(a), Some(b)) = (self.lora, adapter("lora_A"), adapter("lora_B")) else {
            return Ok(y);
        };
        let rank = lora.rank as f64;
        let scaling = lora.alpha / if lora.use_rslora { rank.sqrt() } else { rank };
        y + (x.matmul(&a.t()?)?.matmul(&b.t()?)? * scaling)?
    }

    fn layer_norm(&self, module: &str, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.mul(&centred)?.mean_keepdim(D::Minus1)?;
        let normal = centred.broadcast_div(&(variance + self.config.layer_norm_epsilon)?.sqrt()?)?;
        let [weight, bias] = ["weight", "bias"].map(|name| &self.tensors[&format!("{module}.{name}")]);
        normal.broadcast_mul(weight)?.broadcast_add(bias)
    }
}

/// Logarithm of the softmax over the last dimension.
fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    shifted.broadcast_sub(&log_sum)
}
