//! Which kernels there are, and what binding refuses.

use super::testing::{Batch, Case};
use super::{Call, View, bind};
use gptjc_graphs::attributes::Attributes;
use gptjc_graphs::dtype::DType::{self, Bf16, F32, I32};
use gptjc_graphs::ops::Op;
use gptjc_graphs::plan::{KernelId, Partition};
use gptjc_graphs::shape::{Dim, TensorType};

/// A view of no memory, for calls that are bound and never run.
pub(super) fn dangling(dtype: DType, dims: &[Dim]) -> View {
    // SAFETY: the view is never read or written.
    unsafe { View::new(std::ptr::without_provenance_mut(64), TensorType::new(dtype, dims)) }
}

fn slots() -> Dim {
    Dim::slots(6)
}

/// The types of an attention op's operands: `first`, then `[slots, 4]`, the segment of each slot and their table.
fn with_segments(first: &[TensorType]) -> Vec<TensorType> {
    let tables = [TensorType::i32([slots()]), TensorType::i32([Dim::segments(3), 2.into()])];
    [first, &tables].concat()
}

/// Attributes and operands of a call of the op. A new op gets a line here, and a kernel.
fn sample(name: &str) -> (Attributes, Vec<TensorType>) {
    let none = Attributes::new;
    let (x, w) = (TensorType::f32([slots(), 4.into()]), TensorType::f32([4.into()]));
    let s = TensorType::f32([slots(), 2.into(), 3.into()]);
    let (tokens, of_slot) = (TensorType::i32([slots()]), TensorType::f32([slots()]));
    let (windows, counter) = (TensorType::i32([Dim::windows(2), 2.into()]), TensorType::i32([4.into()]));
    let labelled = TensorType::i32([Dim::rows(5)]);
    let (one, hyper) = (TensorType::f32([1.into()]), TensorType::f32([gptjc_graphs::hyper::LEN.into()]));
    let (matrix, stack) = (TensorType::f32([3.into(), 4.into()]), TensorType::f32([3.into(), 7.into()]));
    let totals = TensorType::i32([2.into()]);
    let table = TensorType::f32([9.into(), 1.into()]);
    let (p, hw) = (Attributes::new().float("p", 0.5).int("site", 1), none().int("heads", 2).int("window", 3));
    match name {
        "embedding" => (none(), vec![matrix, tokens]),
        "embedding_grad" => (none().int("vocab_size", 3), vec![x, tokens, windows]),
        "layer_norm" => (none().float("epsilon", 1e-5).word("dtype", "f32"), vec![x, w.clone(), w]),
        "layer_norm_grad" => (none(), vec![x.clone(), x, w, of_slot.clone(), of_slot]),
        "layer_norm_param_grad" => (none(), vec![x.clone(), x, of_slot.clone(), of_slot, windows]),
        "matmul" => (none().word("form", "nt"), vec![x, matrix]),
        "window_matmul" => (none(), vec![x.clone(), x, windows]),
        "add" | "gelu_tanh_grad" => (none(), vec![x.clone(), x]),
        "bias_add" => (none(), vec![x, w]),
        "scale" => (none().float("factor", 2.0), vec![x]),
        "cast" => (none().word("dtype", "bf16"), vec![x]),
        "fill" => (none().float("value", 2.0), vec![x]),
        "rotary_table" => (none().int("positions", 9).int("rotary_dim", 2), Vec::new()),
        "rotary" => (none().int("heads", 2).int("inverse", 0), vec![x, tokens, table.clone(), table]),
        "segment_scores" => (hw, with_segments(&[x.clone(), x])),
        "segment_mix" | "segment_mix_transposed" => (none(), with_segments(&[s, x])),
        "attention" | "attention_grad" => {
            let tail = [tokens, table.clone(), table];
            let lse = TensorType::f32([slots(), 2.into()]);
            let attributes = hw.float("scale", 0.5).word("dtype", "f32");
            match name {
                "attention" => (attributes, with_segments(&[&[x.clone(), x.clone(), x], &tail[..]].concat())),
                _ => {
                    let first = [x.clone(), x.clone(), x.clone(), x.clone(), x, lse];
                    (attributes.int("wanted", 7), with_segments(&[&first, &tail[..]].concat()))
                }
            }
        }
        "masked_softmax" => (none(), with_segments(&[s])),
        "masked_softmax_grad" => (none(), with_segments(&[s.clone(), s])),
        "gelu_tanh" => (none(), vec![x]),
        "dropout" => (p, vec![x, windows, counter]),
        "cache_store" => (none(), vec![matrix, x, tokens]),
        "cached_scores" => (hw, vec![x, matrix, tokens.clone(), tokens]),
        "cached_softmax" => (none(), vec![s, tokens]),
        "cached_mix" => (none(), vec![s, matrix, tokens.clone(), tokens]),
        "gather_rows" => (none(), vec![x, labelled]),
        "scatter_rows" => (none().int("slots", 6), vec![TensorType::f32([Dim::rows(5), 4.into()]), labelled]),
        "cross_entropy" => (none(), vec![TensorType::f32([Dim::rows(5), 4.into()]), labelled]),
        "cross_entropy_grad" => {
            let row = TensorType::f32([Dim::rows(5)]);
            (none(), vec![row.clone(), TensorType::f32([Dim::rows(5), 4.into()]), labelled, row])
        }
        "window_sum" => (none(), vec![x, windows]),
        "tree_accumulate" => (none(), vec![stack, TensorType::f32([Dim::windows(2), 7.into()]), counter]),
        "tree_finish" => (none(), vec![stack, totals]),
        "sum_squares" => (none(), vec![matrix]),
        "clip_scale" => (none(), vec![totals, hyper, one]),
        "adamw" => (none(), vec![w.clone(), w.clone(), w.clone(), w, one, hyper]),
        name => fused_sample(name),
    }
}

/// The same of the fused ops: two members with adapters and dropout, and all that may be added to one.
fn fused_sample(name: &str) -> (Attributes, Vec<TensorType>) {
    let (x, matrix) = (TensorType::f32([slots(), 4.into()]), TensorType::f32([4.into(), 4.into()]));
    let (low, half) = (TensorType::f32([slots(), 2.into()]), TensorType::f32([2.into(), 4.into()]));
    let (upper, bias) = (TensorType::f32([4.into(), 2.into()]), TensorType::f32([4.into()]));
    let (windows, counter) = (TensorType::i32([Dim::windows(2), 2.into()]), TensorType::i32([4.into()]));
    let own = |members| Attributes::new().int("members", members);
    let dropped = |attributes: Attributes| attributes.float("p", 0.5).int("site0", 1).int("site1", 65535);
    match name {
        "projection" => {
            let sets = own(1).int("biased", 1).int("adapted", 1).int("gelu", 1).int("residuals", 1);
            let types = sets.float("scale", 2.0).word("dtype", "f32").word("activation", "f32");
            (types, vec![x.clone(), matrix, bias, low, upper, x])
        }
        "projection_grad" => {
            let sets = own(2).int("adapted", 3).int("gelu", 1).int("residuals", 1).word("dtype", "f32");
            let first =
                vec![x.clone(), x.clone(), matrix.clone(), matrix, low.clone(), half.clone(), low, half];
            (dropped(sets), [first, vec![windows, counter, x.clone(), x]].concat())
        }
        "adapter_down" => (dropped(own(2)), vec![x, half.clone(), half, windows, counter]),
        "adapter_up_grad" => (own(2).float("scale", 2.0), vec![x.clone(), upper.clone(), x, upper]),
        "adapter_grad" => {
            let first = vec![x.clone(), x.clone(), low.clone(), low.clone(), x, low.clone(), low];
            (dropped(own(2)).float("scale", 2.0), [first, vec![windows.clone(), windows, counter]].concat())
        }
        "vocab_loss" => {
            let (h, labels) = (TensorType::f32([Dim::rows(5), 4.into()]), TensorType::i32([Dim::rows(5)]));
            let attributes = Attributes::new().int("chunk", 2).int("gradient", 1).word("dtype", "f32");
            (attributes, vec![h, matrix, bias, labels])
        }
        other => panic!("op `{other}` has no sample call: write one here, and the op's kernel"),
    }
}

/// A call of the op with operands of these types.
fn call_of(name: &str, attributes: Attributes, operands: &[TensorType]) -> Call {
    let op = Op::from_parts(name, &attributes).unwrap().unwrap();
    let types: Vec<_> = operands.iter().collect();
    let results = op.infer(&types).unwrap();
    let workspace = op.workspace(&types, &results.iter().collect::<Vec<_>>());
    let views = |types: &[TensorType]| types.iter().map(|ty| dangling(ty.dtype, &ty.dims)).collect();
    Call {
        kernel: KernelId { op: name.into(), dtype: "f32".into(), isa: "portable".into() },
        attributes,
        partition: Partition { rows: 1, columns: 0 },
        operands: views(operands),
        results: views(&results),
        workspace: views(&workspace),
    }
}

fn refusal(call: &Call) -> Option<String> {
    bind(call).err().map(|error| error.to_string())
}

#[test]
fn every_op_has_a_kernel() {
    for name in Op::NAMES {
        let (attributes, operands) = sample(name);
        let call = call_of(name, attributes, &operands);
        assert_eq!(refusal(&call), None, "op `{name}`");
    }
}

#[test]
fn what_the_precision_pass_makes_bf16_is_taken() {
    for (name, of_bf16) in [
        ("matmul", vec![0]),
        ("matmul", vec![1]),
        ("matmul", vec![0, 1]),
        ("embedding", vec![0]),
        ("layer_norm_grad", vec![0]),
        ("projection", vec![0, 1]),
        ("projection_grad", vec![0, 1, 2, 3, 10]),
        ("adapter_down", vec![0]),
        ("adapter_up_grad", vec![0, 2]),
        ("adapter_grad", vec![0, 1, 4]),
        ("vocab_loss", vec![0, 1]),
    ] {
        let (attributes, mut operands) = sample(name);
        of_bf16.iter().for_each(|&index: &usize| operands[index].dtype = Bf16);
        assert_eq!(refusal(&call_of(name, attributes, &operands)), None, "`{name}` of {operands:?}");
    }
    let back = Attributes::new().word("dtype", "f32");
    let operands = [TensorType::new(Bf16, [slots()])];
    assert_eq!(refusal(&call_of("cast", back, &operands)), None);
}

#[test]
fn another_number_of_operands_or_results_is_refused() {
    for name in Op::NAMES {
        let (attributes, operands) = sample(name);
        let call = || call_of(name, attributes.clone(), &operands);
        let (mut more, mut fewer, mut results) = (call(), call(), call());
        // Two: the last operand of some is optional.
        more.operands.extend([(); 2].map(|()| dangling(I32, &[slots()])));
        assert!(refusal(&more).is_some(), "`{name}` takes operands too many");
        if fewer.operands.pop().is_some() {
            assert!(refusal(&fewer).is_some(), "`{name}` takes an operand too few");
        }
        results.results.pop();
        assert!(refusal(&results).is_some(), "`{name}` takes a result too few");
    }
}

#[test]
fn other_types_are_refused() {
    for name in Op::NAMES {
        let (attributes, operands) = sample(name);
        let call = || call_of(name, attributes.clone(), &operands);
        let other = |view: &View, bf16: bool| match view.ty().dtype {
            F32 | Bf16 if bf16 => None,
            F32 | Bf16 => Some(dangling(I32, &view.ty().dims)),
            I32 if bf16 => Some(dangling(Bf16, &view.ty().dims)),
            I32 => Some(dangling(F32, &view.ty().dims)),
        };
        for index in 0..operands.len() {
            for bf16 in [false, true] {
                let mut call = call();
                let Some(view) = other(&call.operands[index], bf16) else { continue };
                call.operands[index] = view;
                assert!(
                    refusal(&call).is_some(),
                    "`{name}` takes {} as operand {index}",
                    call.operands[index].ty()
                );
            }
        }
        for index in 0..call().results.len() {
            let mut call = call();
            call.results[index] = dangling(I32, &call.results[index].ty().dims);
            assert!(refusal(&call).is_some(), "`{name}` takes integers as result {index}");
        }
    }
}

#[test]
fn bf16_is_refused_where_no_kernel_reads_it() {
    // Operands that a kernel reads as bf16, if it is given no other than that.
    let read = |name: &str| match name {
        "matmul" | "vocab_loss" | "projection" => vec![0, 1],
        "embedding"
        | "cast"
        | "layer_norm_grad"
        | "layer_norm_param_grad"
        | "adapter_down"
        | "adapter_grad" => {
            vec![0]
        }
        "projection_grad" => vec![10],
        "attention" => vec![0, 1, 2],
        "attention_grad" => vec![0, 1, 2, 3, 4],
        _ => Vec::new(),
    };
    for name in Op::NAMES {
        let (attributes, operands) = sample(name);
        let is_read = read(name);
        for index in
            (0..operands.len()).filter(|index| operands[*index].dtype == F32 && !is_read.contains(index))
        {
            let mut call = call_of(name, attributes.clone(), &operands);
            call.operands[index] = dangling(Bf16, &operands[index].dims);
            assert!(refusal(&call).is_some(), "`{name}` takes bf16 as operand {index}");
        }
    }
}

#[test]
fn missing_attributes_are_refused() {
    for name in Op::NAMES {
        let (attributes, operands) = sample(name);
        // `cast` and these read sizes off their operands.
        let reads = !["cast", "embedding_grad", "scatter_rows"].contains(name);
        if reads && !attributes.is_empty() {
            let mut call = call_of(name, attributes, &operands);
            call.attributes = Attributes::new();
            let error = refusal(&call).unwrap_or_else(|| panic!("`{name}` is bound without attributes"));
            assert!(error.starts_with(&format!("kernel `{name}-f32-portable`: attribute `")), "{error}");
        }
    }
}

#[test]
fn what_is_not_part_of_this_version_is_refused() {
    let unknown = |op: &str, isa: &str| {
        let (attributes, operands) = sample("add");
        let mut call = call_of("add", attributes, &operands);
        call.kernel = KernelId { op: op.into(), dtype: "f32".into(), isa: isa.into() };
        refusal(&call).unwrap()
    };
    let rest = "is not part of this gptjc; compile the plan again for this machine with `gptjc compile`";
    assert_eq!(unknown("add", "neon"), format!("kernel `add-f32-neon` {rest}"));
    assert_eq!(unknown("add2", "portable"), format!("kernel `add2-f32-portable` {rest}"));
}

#[test]
fn a_refusal_says_what_was_found() {
    let (attributes, operands) = sample("bias_add");
    let mut call = call_of("bias_add", attributes, &operands);
    call.operands[1] = dangling(Bf16, &[4.into()]);
    let message = "kernel `bias_add-f32-portable` does not take bf16[4] as its operand 1, only f32";
    assert_eq!(refusal(&call).as_deref(), Some(message));
    call.operands.pop();
    assert_eq!(refusal(&call).as_deref(), Some("kernel `bias_add-f32-portable` does not take 1 operands"));
}

#[test]
fn a_batch_that_contradicts_itself_panics_and_reads_nothing_else() {
    use gptjc_graphs::ops::segment_matmul::{SegmentMix, SegmentScores};
    // A slot in a segment that does not exist, before its segment, and in one that is too long.
    for (of_slot, table) in [([0, 9], [0, 2]), ([0, -1], [0, 2]), ([0, 0], [1, 1]), ([0, 0], [-5, 9])] {
        let extents = gptjc_graphs::shape::Extents { slots: 2, rows: 0, windows: 1, segments: 1 };
        let x = Batch::given(&[Dim::slots(2), 2.into()], &[2, 2], vec![1.0; 4]);
        let p = Batch::given(&[Dim::slots(2), 1.into(), 1.into()], &[2, 1, 1], vec![1.0; 2]);
        let segment = Batch::fixed(&of_slot);
        let segment = (TensorType::i32([Dim::slots(2)]), segment.1);
        let table = gptjc_graphs::interp::Tensor::int([1, 2], table.to_vec());
        let tables = [segment, (TensorType::i32([Dim::segments(1), 2.into()]), table)];
        let with = |first: &[_]| [first, &tables].concat();
        let scores = Case::new(SegmentScores { heads: 1, window: 1 }, extents, with(&[x.clone(), x.clone()]));
        let mix = Case::new(SegmentMix, extents, with(&[p, x]));
        for case in [scores, mix] {
            let run = std::panic::AssertUnwindSafe(|| case.run(case.partition, &[], 0, 1));
            assert!(std::panic::catch_unwind(run).is_err(), "{:?} of segments {of_slot:?}", case.op);
        }
    }
}
