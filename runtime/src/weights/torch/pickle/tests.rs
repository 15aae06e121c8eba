//! Tests of `pickle`: what Python writes is read, and everything else is refused by name.

use safetensors::Dtype;

use super::*;

fn value_of(bytes: &[u8]) -> String {
    let unpickled = load(bytes).unwrap();
    assert_eq!(unpickled.length, bytes.len());
    show(&unpickled.heap, unpickled.value)
}

/// A value as Python would print it, more or less.
fn show<'a>(heap: &Heap<'a>, value: Value<'a>) -> String {
    if let Some(items) = heap.items(value) {
        let items: Vec<String> = items.iter().map(|item| show(heap, *item)).collect();
        return format!("({})", items.join(" "));
    }
    if let Some(pairs) = heap.pairs(value) {
        let pairs: Vec<String> = pairs
            .iter()
            .map(|[key, value]| format!("{}: {}", show(heap, *key), show(heap, *value)))
            .collect();
        return format!("{{{}}}", pairs.join(" "));
    }
    match value {
        Value::Int(number) => number.to_string(),
        Value::Text(text) => text.to_owned(),
        other => format!("{other:?}"),
    }
}

fn error_of(bytes: &[u8]) -> String {
    load(bytes).map(|found| found.length).unwrap_err().to_string()
}

/// What Python 3.11 gives for `pickle.dumps(VALUE, PROTOCOL)`.
#[test]
fn values_that_python_pickled_are_read() {
    // [1, 300, -5, 2**40, None, True, 1.5, 'é', (1, 2), {}, {'a': ()}], protocols 2 and 4
    let two: &[u8] = b"\x80\x02]q\x00(K\x01M,\x01J\xfb\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01N\x88G?\xf8\x00\
        \x00\x00\x00\x00\x00X\x02\x00\x00\x00\xc3\xa9q\x01K\x01K\x02\x86q\x02}q\x03}q\x04X\x01\x00\x00\x00aq\x05)se.";
    let four: &[u8] = b"\x80\x04\x957\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01M,\x01J\xfb\xff\xff\xff\x8a\x06\x00\x00\x00\
        \x00\x00\x01N\x88G?\xf8\x00\x00\x00\x00\x00\x00\x8c\x02\xc3\xa9\x94K\x01K\x02\x86\x94}\x94}\x94\x8c\x01a\x94)se.";
    let expected = "(1 300 -5 1099511627776 None Bool(true) Number é (1 2) {} {a: ()})";
    assert_eq!(value_of(two), expected);
    assert_eq!(value_of(four), expected);
    // Whole numbers beyond 64 bits are there, and nobody looks at them.
    assert_eq!(value_of(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."), "Number");
    assert_eq!(value_of(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f."), i64::MAX.to_string());
    assert_eq!(value_of(b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00."), "Number");
    assert_eq!(value_of(b"\x8a\x00."), "0");
    assert_eq!(value_of(b"\x8a\x01\xff."), "-1");
    // Python 2: texts are bytes, large numbers and truth are lines.
    assert_eq!(value_of(b"(U\x01aT\x02\x00\x00\x00bcI4294967296\nI01\nt."), "(a bc 4294967296 Bool(true))");
}

#[test]
fn an_ordered_dict_is_made_in_both_ways() {
    assert_eq!(value_of(b"ccollections\nOrderedDict\n)R(U\x01aK\x01U\x01bK\x02u."), "{a: 1 b: 2}");
    assert_eq!(value_of(b"ccollections\nOrderedDict\n(](]U\x01aaK\x01a]U\x01baK\x02aetR."), "{a: 1 b: 2}");
    assert_eq!(value_of(b"ccollections\nOrderedDict\n((U\x01aK\x01\x86ttR."), "{a: 1}");
    assert!(error_of(b"ccollections\nOrderedDict\nK\x01\x85R.").contains("something else than pairs"));
    assert!(error_of(b"ccollections\nOrderedDict\n]K\x01a\x85R.").contains("something else than pairs"));
}

#[test]
fn a_tensor_is_a_window_on_a_storage() {
    let pickle = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nHalfStorage\nX\x01\x00\x00\x007\
        X\x03\x00\x00\x00cpuK\x0ctQK\x02K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtR.";
    let found = load(pickle).unwrap();
    let tensor = found.heap.tensor(found.value).unwrap();
    assert_eq!(tensor.storage, Storage { dtype: Dtype::F16, key: "7", elements: 12 });
    assert_eq!(tensor.offset, 2);
    assert_eq!(found.heap.ints(tensor.shape).unwrap(), [2, 3]);
    assert_eq!(found.heap.ints(tensor.strides).unwrap(), [3, 1]);
    // A parameter is its tensor.
    let wrapped =
        [b"ctorch._utils\n_rebuild_parameter\n(", &pickle[..pickle.len() - 1], b"\x88NtR."].concat();
    let found = load(&wrapped).unwrap();
    assert_eq!(found.heap.tensor(found.value), Some(tensor));
}

#[test]
fn what_is_no_part_of_a_state_dict_is_refused_by_name() {
    let system = error_of(b"cos\nsystem\n(U\x04echotR.");
    assert!(
        system.contains("asks for `os.system` (byte 0") && system.contains("runs no code of a file"),
        "{system}"
    );
    let stack = error_of(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.");
    assert!(stack.contains("asks for `builtins.eval`"), "{stack}");
    for (module, name) in [
        ("posix", "system"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("torch.jit._pickle", "build_intlist"),
        ("collections", "OrderedDict.fromkeys"),
        ("", ""),
    ] {
        assert!(error_of(format!("c{module}\n{name}\n.").as_bytes()).contains(&format!("`{module}.{name}`")));
    }
    let long = error_of(format!("c{}\nx\n.", "m".repeat(5000)).as_bytes());
    assert!(long.len() < 400, "{long}");
    for opcode in [b"i" as &[u8], b"o", b"\x81", b"\x92", b"\x82", b"\x97", b"P", b"S", b"\x8f", b"\xff"] {
        let text = error_of(&[b"NN", opcode, b"x\nx\n."].concat());
        assert!(text.contains(&format!("byte 2 of the pickle is opcode {:#04x}", opcode[0])), "{text}");
    }
}

#[test]
fn opcodes_that_do_not_fit_are_refused() {
    for bytes in [
        b"." as &[u8],
        b"0.",
        b"2.",
        b"t.",
        b"1.",
        b"u.",
        b"e.",
        b"s.",
        b"NNs.",
        b"NNNs.",
        b"a.",
        b"NNa.",
        b"N\x86.",
        b"(N\x86.",
        b"h\x00.",
        b"j\xff\xff\xff\xff.",
        b"q\x00.",
        b"}(Nu.",
        b"R.",
        b"N)R.",
        b"Q.",
        b"NQ.",
        b"b.",
        b"NNb.",
        b"\x93.",
        b"NN\x93.",
        b"\x80\x06.",
        b"I1x\n.",
        b"(NN0s.",
        b"(0",
        b"X\x01\x00\x00\x00\xff.",
        b"ctorch\nFloatStorage\n)R.",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"ctorch._utils\n_rebuild_parameter\nN\x85R.",
        b"(l(Ne(dQ.",
        b"}(t}Nsb.",
    ] {
        let error = load(bytes).map(|found| found.length).unwrap_err();
        assert!(matches!(error, PickleError::Malformed { .. }), "{bytes:?}: {error}");
    }
}

#[test]
fn every_truncation_is_noticed() {
    let whole = b"\x80\x02ccollections\nOrderedDict\nq\x00)R(X\x01\x00\x00\x00aK\x01U\x01bM\x01\x02u.";
    load(whole).unwrap();
    for length in 0..whole.len() {
        let error = load(&whole[..length]).map(|found| found.length).unwrap_err();
        assert_eq!(error, PickleError::Truncated { at: length });
    }
}

#[test]
fn memory_is_refused_before_it_is_taken() {
    let is_refused = |bytes: &[u8]| {
        let error = load(bytes).map(|found| found.length).unwrap_err();
        assert!(matches!(error, PickleError::Memory { .. }), "{error}");
    };
    is_refused(b"Nr\xff\xff\xff\xff."); // a memo of 2³² values
    is_refused(&[b'N'; 1 << 20]);
    is_refused(&[b'}'; 1 << 20]);
    is_refused(&b"]\x85".repeat(1 << 20));
    // The same list copied again and again.
    let list = [b"]q\x00(".as_slice(), &b"(NNt".repeat(1000), b"e"].concat();
    let copies = [list, b"ccollections\nOrderedDict\nh\x00\x85R".repeat(3000)].concat();
    is_refused(&copies);
    // Text lengths are those of the input.
    assert!(matches!(load(b"X\xff\xff\xff\xff").map(|f| f.length), Err(PickleError::Truncated { .. })));
    assert!(matches!(
        load(&[&[0x8d], [0xff; 8].as_slice()].concat()).map(|f| f.length),
        Err(PickleError::Truncated { .. })
    ));
}
