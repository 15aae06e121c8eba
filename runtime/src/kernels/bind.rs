//! From a step's kernel id to a bound kernel.

use super::{Kernel, Portable, View, row_arithmetic};
use super::{
    adapter, attention, cache, masked_softmax, matmul, projection, rotary, segment_matmul, vocab_loss,
};
use crate::isa;
use gptjc_graphs::attributes::{AttributeError, Attributes};
use gptjc_graphs::dtype::DType;
use gptjc_graphs::layout;
use gptjc_graphs::plan::{Isa, KernelId, Partition};
use gptjc_graphs::shape::Extent;

/// What a kernel is bound to.
pub struct Call {
    /// Kernel asked for.
    pub kernel: KernelId,
    /// The op's attributes.
    pub attributes: Attributes,
    /// How the work is cut into tiles.
    pub partition: Partition,
    /// Views of the operands, in the op's order.
    pub operands: Vec<View>,
    /// Views of the results, in the op's order.
    pub results: Vec<View>,
    /// Views of the op's workspace: memory of all threads together, undefined before and after the call.
    pub workspace: Vec<View>,
}

/// A call that no kernel takes.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// There is no kernel of this name.
    #[error(
        "kernel `{0}` is not part of this gptjc; compile the plan again for this machine with `gptjc compile`"
    )]
    Unknown(KernelId),
    /// The kernel needs instructions that this CPU lacks.
    #[error(
        "kernel `{kernel}` needs {isa}, which this CPU lacks; compile the plan again for this machine with \
         `gptjc compile --from OLD.plan -o NEW.plan`"
    )]
    Isa {
        /// The kernel.
        kernel: KernelId,
        /// What it needs.
        isa: Isa,
    },
    /// The kernel does not take these operands.
    #[error("kernel `{kernel}` does not take {what}")]
    Operands {
        /// The kernel.
        kernel: KernelId,
        /// What it does not take.
        what: String,
    },
    /// Attributes that the kernel does not take.
    #[error("kernel `{kernel}`: {source}")]
    Attributes {
        /// The kernel.
        kernel: KernelId,
        /// What is wrong with them.
        source: Box<AttributeError>,
    },
}

impl Call {
    /// The operands and the results, if they are of these types.
    ///
    /// # Errors
    /// [`KernelError::Operands`] if there is another number of them, or one has another type.
    pub fn views<const N: usize, const M: usize>(
        &self,
        operands: [DType; N],
        results: [DType; M],
    ) -> Result<([View; N], [View; M]), KernelError> {
        let views = (self.operands()?, self.results()?);
        self.check_types("operand", &views.0, &operands)?;
        self.check_types("result", &views.1, &results)?;
        Ok(views)
    }

    /// As [`views`](Self::views), of an op whose queries may be labelled rows: then it has one operand more.
    ///
    /// # Errors
    /// As [`views`](Self::views).
    pub fn views_of_queries<const N: usize, const M: usize>(
        &self,
        operands: [DType; N],
        results: [DType; M],
    ) -> Result<([View; N], Option<View>, [View; M]), KernelError> {
        let (operands, labelled) = self.operands_of_queries(operands)?;
        let of_results = self.results()?;
        self.check_types("result", &of_results, &results)?;
        Ok((operands, labelled, of_results))
    }

    /// The operands, if they are of these types, and behind them the slots i32`[rows]` of the queries, if there are so
    /// many.
    ///
    /// # Errors
    /// [`KernelError::Operands`] if there is another number of them, or one has another type.
    pub fn operands_of_queries<const N: usize>(
        &self,
        types: [DType; N],
    ) -> Result<([View; N], Option<View>), KernelError> {
        let (first, labelled) = match self.operands.split_last() {
            Some((last, first)) if first.len() == N => (first, Some(last.clone())),
            _ => (&self.operands[..], None),
        };
        let first: [View; N] = first
            .to_vec()
            .try_into()
            .map_err(|views: Vec<View>| self.refuse(format!("{} operands", views.len())))?;
        self.check_types("operand", &first, &types)?;
        match labelled {
            Some(view)
                if view.ty().dtype != DType::I32
                    || view.ty().dims.first().is_none_or(|dim| dim.extent != Extent::Rows) =>
            {
                Err(self.refuse(format!("{} as its operand {N}, only i32[rows:_]", view.ty())))
            }
            labelled => Ok((first, labelled)),
        }
    }

    /// Refuses views of other types than `expected`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] with the first that has another type.
    pub fn check_types(&self, what: &str, views: &[View], expected: &[DType]) -> Result<(), KernelError> {
        for (index, (view, &expected)) in views.iter().zip(expected).enumerate() {
            if view.ty().dtype != expected {
                return Err(self.refuse(format!("{} as its {what} {index}, only {expected}", view.ty())));
            }
        }
        Ok(())
    }

    /// The operands, if there are `N`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] if there is another number.
    pub fn operands<const N: usize>(&self) -> Result<[View; N], KernelError> {
        self.operands
            .clone()
            .try_into()
            .map_err(|views: Vec<View>| self.refuse(format!("{} operands", views.len())))
    }

    /// The results, if there are `N`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] if there is another number.
    pub fn results<const N: usize>(&self) -> Result<[View; N], KernelError> {
        self.results
            .clone()
            .try_into()
            .map_err(|views: Vec<View>| self.refuse(format!("{} results", views.len())))
    }

    /// Type of operand `index`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] if there are fewer.
    pub fn dtype_of_operand(&self, index: usize) -> Result<DType, KernelError> {
        let operand = self.operands.get(index).ok_or_else(|| self.refuse(format!("{index} operands")))?;
        Ok(operand.ty().dtype)
    }

    /// The error of a call that the kernel does not take.
    pub fn refuse(&self, what: impl Into<String>) -> KernelError {
        KernelError::Operands { kernel: self.kernel.clone(), what: what.into() }
    }

    /// The integer attribute `name`.
    ///
    /// # Errors
    /// [`KernelError::Attributes`] if it is not there.
    pub fn int(&self, name: &'static str) -> Result<usize, KernelError> {
        self.attributes.get_int(name).map_err(|source| self.attribute_error(source))
    }

    /// The real attribute `name`.
    ///
    /// # Errors
    /// [`KernelError::Attributes`] if it is not there.
    pub fn float(&self, name: &'static str) -> Result<f64, KernelError> {
        self.attributes.get_float(name).map_err(|source| self.attribute_error(source))
    }

    /// The word `name`; `expected` says in the error which words there are.
    ///
    /// # Errors
    /// [`KernelError::Attributes`] if it is not there.
    pub fn word(&self, name: &'static str, expected: &'static str) -> Result<&str, KernelError> {
        self.attributes.get_word(name, expected).map_err(|source| self.attribute_error(source))
    }

    /// The flag `name`.
    ///
    /// # Errors
    /// [`KernelError::Attributes`] if it is not there.
    pub fn flag(&self, name: &'static str) -> Result<bool, KernelError> {
        self.attributes.get_flag(name).map_err(|source| self.attribute_error(source))
    }

    /// The floating-point type that the attribute `name` names.
    ///
    /// # Errors
    /// [`KernelError::Attributes`] if it is not there.
    pub fn float_type(&self, name: &'static str) -> Result<DType, KernelError> {
        self.attributes.get_float_type(name).map_err(|source| self.attribute_error(source))
    }

    /// The dropout sites of `count` adapters.
    ///
    /// # Errors
    /// [`KernelError`] if there is another number of them, or one that the counter does not hold.
    pub fn sites(&self, count: usize) -> Result<Vec<u16>, KernelError> {
        let sites = layout::sites(&self.attributes).map_err(|source| self.attribute_error(source))?;
        if sites.len() != count {
            return Err(self.refuse(format!("{} dropout sites for {count} adapters", sites.len())));
        }
        let narrow = |site| u16::try_from(site).map_err(|_| self.refuse(format!("site {site}")));
        sites.into_iter().map(narrow).collect()
    }

    /// Refuses a view of another type than `expected`; `what` says what it is.
    ///
    /// # Errors
    /// [`KernelError::Operands`] if it has another type.
    pub fn check_type(&self, what: &str, view: &View, expected: DType) -> Result<(), KernelError> {
        if view.ty().dtype == expected {
            return Ok(());
        }
        Err(self.refuse(format!("{} as its {what}, only {expected}", view.ty())))
    }

    /// Refuses a view of integers; `what` says what it is.
    ///
    /// # Errors
    /// [`KernelError::Operands`] if it is of integers.
    pub fn check_float(&self, what: &str, view: &View) -> Result<(), KernelError> {
        if view.ty().dtype.is_float() {
            return Ok(());
        }
        Err(self.refuse(format!("{} as its {what}, only floating-point numbers", view.ty())))
    }

    /// The error of a call with other lists of operands or results than its attributes say.
    pub fn refuse_count(&self) -> KernelError {
        let (operands, results) = (self.operands.len(), self.results.len());
        self.refuse(format!("{operands} operands and {results} results with these attributes"))
    }

    fn attribute_error(&self, source: AttributeError) -> KernelError {
        KernelError::Attributes { kernel: self.kernel.clone(), source: Box::new(source) }
    }
}

/// Binds the kernel that the call asks for.
///
/// # Errors
/// [`KernelError`] if there is no such kernel or it does not take the operands or attributes.
pub fn bind(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    match call.kernel.isa.parse() {
        Ok(Isa::Portable) => bind_portable(call),
        Ok(isa) if isa::usable(isa) => bind_vector(call, isa),
        Ok(isa) => Err(KernelError::Isa { kernel: call.kernel.clone(), isa }),
        Err(_) => Err(KernelError::Unknown(call.kernel.clone())),
    }
}

/// The variants that use vector instructions by name. An op that is not here has none.
fn bind_vector(call: &Call, isa: Isa) -> Result<Box<dyn Kernel>, KernelError> {
    match call.kernel.op.as_str() {
        "matmul" => matmul::vector::bind_matmul(call, isa),
        "window_matmul" => matmul::vector::bind_window(call, isa),
        "projection" => projection::vector::bind_forward(call, isa),
        "projection_grad" => projection::vector::bind_grad(call, isa),
        "vocab_loss" => vocab_loss::vector::bind(call, isa),
        _ => attention::bind_vector(call, isa).unwrap_or_else(|| row_arithmetic::bind_vector(call, isa)),
    }
}

fn bind_portable(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    match call.kernel.op.as_str() {
        "matmul" => matmul::bind_matmul(call),
        "window_matmul" => matmul::bind_window(call),
        "rotary_table" => rotary::bind_table(call),
        "segment_scores" => segment_matmul::bind_scores(call),
        "segment_mix" => segment_matmul::bind_mix(call),
        "segment_mix_transposed" => segment_matmul::bind_mix_transposed(call),
        "attention" => attention::bind_forward(call),
        "attention_grad" => attention::bind_grad(call),
        "masked_softmax" => masked_softmax::bind_forward(call),
        "masked_softmax_grad" => masked_softmax::bind_grad(call),
        "cache_store" => cache::bind_store(call),
        "cached_scores" => cache::bind_scores(call),
        "cached_softmax" => cache::bind_softmax(call),
        "cached_mix" => cache::bind_mix(call),
        "projection" => projection::bind_forward(call),
        "projection_grad" => projection::bind_grad(call),
        "adapter_down" => adapter::bind_down(call),
        "adapter_up_grad" => adapter::bind_up_grad(call),
        "adapter_grad" => adapter::bind_grad(call),
        "vocab_loss" => vocab_loss::bind(call),
        _ => row_arithmetic::bind(call, Portable),
    }
}
