//! `Trilu` for tract, with a diagonal that is computed from the shape of an input, as the causal mask of a model with a
//! cache has it. tract's own wants a 64-bit integer there, and its shapes are symbols.
//!
//! Does not: batch; it is the operator of tract with a cast before it.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops;

/// Reads the operator from a file.
pub(super) fn trilu(
    _context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let upper = node.attribute.iter().find(|attribute| attribute.name == "upper");
    let upper = upper.is_none_or(|attribute| attribute.i == 1);
    Ok((expand(Trilu { upper, has_k: node.input.len() == 2 }), Vec::new()))
}

#[derive(Clone, Debug)]
struct Trilu {
    upper: bool,
    has_k: bool,
}

impl Expansion for Trilu {
    fn name(&self) -> StaticName {
        "Trilu".into()
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let k = if self.has_k {
            model.wire_node(format!("{prefix}.k"), ops::cast::cast(i64::datum_type()), &[inputs[1]])?[0]
        } else {
            model.add_const(format!("{prefix}.k"), tensor0(0_i64))?
        };
        model.wire_node(prefix, ops::array::Trilu { upper: self.upper }, &[inputs[0], k])
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1 + usize::from(self.has_k))?;
        check_output_arity(outputs, 1)?;
        solver.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        solver.equals(&inputs[0].shape, &outputs[0].shape)?;
        if self.has_k {
            solver.equals(&inputs[1].rank, 0)?;
        }
        Ok(())
    }
}
