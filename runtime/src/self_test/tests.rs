//! What becomes of verdicts.

use super::*;

#[test]
fn an_instruction_set_that_differs_is_named_with_what_differs() {
    let verdict = Verdict {
        isa: "amx".into(),
        agree: vec!["add-f32-amx".into()],
        differ: vec!["matmul-bf16-amx (h.0): result 0 at element 3".into()],
    };
    let report = Report { verdicts: vec![verdict] };
    let mut off = Vec::new();
    let messages = report.apply(|isa| off.push(isa));
    assert_eq!(off, [Isa::Amx]);
    assert_eq!(messages.len(), 1);
    assert!(
        messages[0].starts_with("kernels for amx are switched off: on this CPU 1 of them"),
        "{messages:?}"
    );
    assert!(Report::default().apply(|isa| panic!("{isa}")).is_empty());
}
