//! The core against plain sums, for every engine that this CPU has and for those in software.

use super::software::Software;
use super::{Elements, Engine, Finish, Form, Left, Right, Term, scratch_elements};
use gptjc_graphs::plan::Isa;
use half::bf16;
use std::cell::RefCell;
use std::ops::Range;

/// Engines of this CPU by name, and those in software.
fn engines() -> Vec<(String, Engine)> {
    let of_cpu = Isa::ALL.into_iter().filter_map(|isa| Some((isa.to_string(), Engine::of(isa)?)));
    let software = [Software::Dots, Software::Tiles];
    let software = software.into_iter().map(|kind| (format!("software {kind:?}"), Engine::Software(kind)));
    of_cpu.chain(software).collect()
}

/// A matrix in one of the dtypes.
#[derive(Clone, Debug)]
enum Matrix {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Matrix {
    fn new(is_bf16: bool, elements: usize, number: impl FnMut(usize) -> f32) -> Self {
        let numbers: Vec<f32> = (0..elements).map(number).collect();
        match is_bf16 {
            true => Self::Bf16(numbers.into_iter().map(bf16::from_f32).collect()),
            false => Self::F32(numbers),
        }
    }

    fn elements(&self) -> Elements<'_> {
        match self {
            Self::F32(elements) => Elements::F32(elements),
            Self::Bf16(elements) => Elements::Bf16(elements),
        }
    }

    fn at(&self, index: usize) -> f32 {
        match self {
            Self::F32(elements) => elements[index],
            Self::Bf16(elements) => elements[index].to_f32(),
        }
    }
}

/// A small whole number: sums of products of some thousand of them are exact in f32.
fn small(seed: usize) -> impl FnMut(usize) -> f32 {
    move |index| ((index * 31 + seed * 17 + index / 7) % 9) as f32 - 4.0
}

/// A number whose bits are all in use.
fn dense(seed: usize) -> impl FnMut(usize) -> f32 {
    move |index| {
        let x = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ (seed as u64).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ x >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Collects finished sums and sees that every element comes once.
struct Collect {
    columns: usize,
    sums: RefCell<Vec<Option<f32>>>,
}

impl Finish for Collect {
    fn finish(&self, row: usize, column: usize, sums: &mut [f32]) {
        let start = row * self.columns + column;
        for (slot, &mut sum) in self.sums.borrow_mut()[start..][..sums.len()].iter_mut().zip(sums) {
            assert!(slot.replace(sum).is_none(), "row {row}, column {column} came twice");
        }
    }
}

/// The product of `rows` and `columns` of matrices of `m` rows and `n` columns.
fn run(engine: Engine, terms: &[Term], n: usize, rows: Range<usize>, columns: Range<usize>) -> Vec<f32> {
    let collect = Collect { columns: n, sums: RefCell::new(vec![None; rows.end * n]) };
    // From an odd place: scratch need not be aligned.
    let mut scratch = vec![f32::NAN; 1 + scratch_elements(rows.len(), columns.len())];
    engine.run(terms, rows.clone(), columns.clone(), &collect, &mut scratch[1..]);
    let sums = collect.sums.into_inner();
    let wanted = rows.flat_map(|row| columns.clone().map(move |column| row * n + column));
    wanted.map(|at| sums[at].unwrap()).collect()
}

/// Operands of a term.
#[derive(Clone, Debug)]
struct Operands {
    left: Matrix,
    right: Matrix,
    m: usize,
    n: usize,
    k: usize,
    form: Form,
    transposed: bool,
    scale: f32,
    rounded: bool,
}

impl Operands {
    /// Plain ones; rows of both operands have some elements more than are used.
    fn new(m: usize, n: usize, k: usize, form: Form, of_left: bool, of_right: bool) -> Self {
        let left = Matrix::new(of_left, m * (k + 3), small(m + k));
        let right = match form {
            Form::Nt => n * (k + 5),
            Form::Nn => k * (n + 5),
        };
        let right = Matrix::new(of_right, right, small(n));
        Self { left, right, m, n, k, form, transposed: false, scale: 1.0, rounded: false }
    }

    fn left_stride(&self) -> usize {
        if self.transposed { self.m + 3 } else { self.k + 3 }
    }

    fn right_stride(&self) -> usize {
        5 + if self.form == Form::Nt { self.k } else { self.n }
    }

    fn term(&self) -> Term<'_> {
        let left = Left {
            elements: self.left.elements(),
            stride: self.left_stride(),
            transposed: self.transposed,
            scale: self.scale,
            rounded: self.rounded,
        };
        let right = Right { elements: self.right.elements(), stride: self.right_stride(), form: self.form };
        Term { left, right, inner: self.k }
    }

    fn left_at(&self, row: usize, k: usize) -> f32 {
        let (slow, fast) = if self.transposed { (k, row) } else { (row, k) };
        self.left.at(slow * self.left_stride() + fast) * self.scale
    }

    fn right_at(&self, k: usize, column: usize) -> f32 {
        let (slow, fast) = if self.form == Form::Nt { (column, k) } else { (k, column) };
        self.right.at(slow * self.right_stride() + fast)
    }

    /// One fused chain for each element, on top of `sums`.
    fn add_to(&self, sums: &mut [f32]) {
        for (at, sum) in sums.iter_mut().enumerate() {
            let (row, column) = (at / self.n, at % self.n);
            *sum =
                (0..self.k).fold(*sum, |sum, k| self.left_at(row, k).mul_add(self.right_at(k, column), sum));
        }
    }
}

/// Every engine's product of small numbers is exactly the sum.
#[track_caller]
fn check(operands: &[Operands]) {
    let terms: Vec<Term> = operands.iter().map(Operands::term).collect();
    let (m, n) = (operands[0].m, operands[0].n);
    let mut expected = vec![0.0; m * n];
    operands.iter().for_each(|operands| operands.add_to(&mut expected));
    for (name, engine) in engines() {
        let found = run(engine, &terms, n, 0..m, 0..n);
        let shape = |o: &Operands| (o.m, o.n, o.k, o.form, o.transposed, o.scale);
        let shapes: Vec<_> = operands.iter().map(shape).collect();
        for at in 0..m * n {
            assert!(
                found[at] == expected[at],
                "{name}, {shapes:?}: [{}, {}] is {}, expected {}",
                at / n,
                at % n,
                found[at],
                expected[at]
            );
        }
    }
}

const BOTH: [bool; 2] = [false, true];

#[test]
fn shapes_around_tiles_are_whole() {
    let shapes = [(1, 1, 1), (5, 15, 7), (6, 16, 8), (7, 17, 9), (11, 31, 15), (12, 32, 16), (13, 33, 17)];
    let more = [(16, 48, 31), (17, 47, 32), (24, 64, 33), (31, 65, 63), (33, 8, 65), (45, 40, 129)];
    for (m, n, k) in shapes.into_iter().chain(more) {
        for form in [Form::Nt, Form::Nn] {
            for (left, right) in BOTH.into_iter().flat_map(|left| BOTH.map(|right| (left, right))) {
                check(&[Operands::new(m, n, k, form, left, right)]);
            }
        }
    }
}

#[test]
fn sums_go_on_from_block_to_block() {
    for k in [511, 512, 513, 1023, 1024, 1025, 1027] {
        for form in [Form::Nt, Form::Nn] {
            for is_bf16 in BOTH {
                check(&[Operands::new(14, 35, k, form, is_bf16, is_bf16)]);
            }
        }
    }
}

#[test]
fn parts_of_rows_and_columns_are_whole() {
    check(&[Operands::new(1030, 3, 5, Form::Nt, true, true)]);
    check(&[Operands::new(2, 1101, 3, Form::Nn, true, true)]);
}

#[test]
fn nothing_to_sum_is_zero() {
    check(&[Operands::new(3, 40, 0, Form::Nt, true, true)]);
    for (_, engine) in engines() {
        assert_eq!(run(engine, &[], 3, 0..2, 0..3), [0.0; 6]);
        assert!(run(engine, &[], 3, 2..2, 0..3).is_empty());
        assert!(run(engine, &[], 3, 0..2, 1..1).is_empty());
    }
}

#[test]
fn terms_are_summed_in_one_chain() {
    let mut low = Operands::new(13, 37, 8, Form::Nt, false, false);
    low.scale = 0.5;
    let first = Operands::new(13, 37, 600, Form::Nn, true, true);
    let second = Operands::new(13, 37, 70, Form::Nn, true, true);
    check(&[first.clone(), second.clone(), low.clone()]);
    check(&[low, second, first]);
}

#[test]
fn a_left_operand_may_be_transposed_scaled_or_rounded() {
    for (m, k) in [(1, 1), (12, 16), (13, 17), (35, 31), (40, 530)] {
        for is_bf16 in BOTH {
            let mut operands = Operands::new(m, 33, k, Form::Nn, is_bf16, false);
            operands.left = Matrix::new(is_bf16, k * (m + 3), small(3));
            operands.transposed = true;
            operands.scale = -2.0;
            check(&[operands]);
            let mut operands = Operands::new(m, 33, k, Form::Nt, false, true);
            operands.rounded = true;
            check(&[operands]);
        }
    }
}

/// With fused multiply-adds the bits are those of one chain in ascending order, whatever the instruction set is.
#[test]
fn f32_is_one_chain_of_fused_multiply_adds() {
    for form in [Form::Nt, Form::Nn] {
        let mut operands = Operands::new(15, 39, 1100, form, false, false);
        operands.left = Matrix::new(false, 15 * 1103, dense(1));
        operands.right = Matrix::new(false, 1105 * 1105, dense(2));
        let mut expected = vec![0.0; 15 * 39];
        operands.add_to(&mut expected);
        for (name, engine) in engines() {
            assert!(run(engine, &[operands.term()], 39, 0..15, 0..39) == expected, "{name}, {form:?}");
        }
    }
}

fn dense_pairs(m: usize, n: usize, k: usize, form: Form) -> Operands {
    let mut operands = Operands::new(m, n, k, form, true, true);
    operands.left = Matrix::new(true, m * (k + 3), dense(5));
    operands.right = Matrix::new(true, (k + 5) * (n + 5), dense(6));
    operands
}

/// Bits of an element depend neither on the rows and columns beside it nor on its place among them.
#[test]
fn an_element_has_the_same_bits_alone() {
    let (m, n) = (37, 70);
    for form in [Form::Nt, Form::Nn] {
        let operands = dense_pairs(m, n, 1300, form);
        let mut as_f32 = operands.clone();
        as_f32.left = Matrix::new(false, m * 1303, dense(5));
        for operands in [operands, as_f32] {
            for (name, engine) in engines() {
                let together = run(engine, &[operands.term()], n, 0..m, 0..n);
                for (rows, columns) in [(0..1, 0..n), (5..6, 3..4), (7..36, 31..66), (36..37, 69..70)] {
                    let alone = run(engine, &[operands.term()], n, rows.clone(), columns.clone());
                    let all = rows.flat_map(|row| columns.clone().map(move |column| row * n + column));
                    let expected: Vec<f32> = all.map(|at| together[at]).collect();
                    assert!(alone == expected, "{name}, {form:?}, columns {columns:?}");
                }
            }
        }
    }
}

/// Sums of pairs are near those in f64, and those of the hardware have the bits of its software.
#[test]
fn pairs_are_summed_as_the_manual_says() {
    for k in [1, 2, 31, 32, 700, 1300] {
        let operands = dense_pairs(13, 40, k, Form::Nt);
        let of = |software| run(Engine::Software(software), &[operands.term()], 40, 0..13, 0..40);
        for (isa, software) in [(Isa::Avx512Bf16, Software::Dots), (Isa::Amx, Software::Tiles)] {
            let found = of(software);
            for (at, &found) in found.iter().enumerate() {
                let product =
                    |k| f64::from(operands.left_at(at / 40, k)) * f64::from(operands.right_at(k, at % 40));
                let (sum, magnitude) = (0..k).map(product).fold((0.0, 0.0), |(s, m), p| (s + p, m + p.abs()));
                let bound = 1e-7 * k as f64 * magnitude;
                assert!((f64::from(found) - sum).abs() <= bound, "{software:?} at {at}: {found}, {sum}");
            }
            if let Some(engine) = Engine::of(isa) {
                assert!(run(engine, &[operands.term()], 40, 0..13, 0..40) == found, "{isa}, {k} summed");
            }
        }
    }
}

/// A subnormal factor of a pair counts as zero; with fused multiply-adds it counts.
#[test]
fn subnormal_factors_of_pairs_are_zero() {
    let tiny = bf16::from_bits(0x0040).to_f32(); // half of the smallest normal number
    assert!(tiny.is_subnormal());
    let mut operands = Operands::new(2, 33, 4, Form::Nt, true, true);
    operands.right = Matrix::new(true, 33 * 9, |_| 2.0f32.powi(100));
    operands.left = Matrix::new(true, 2 * 7, |k| [0.0, tiny, 0.0, tiny, 0.0, 0.0, 0.0][k % 7]);
    let kept = 2.0 * tiny * 2.0f32.powi(100);
    for (name, engine) in engines() {
        let expected = match engine {
            Engine::Avx2(_) | Engine::Avx512(_) => kept,
            Engine::Avx512Bf16(_) | Engine::Amx(_) | Engine::Software(_) => 0.0,
        };
        let found = run(engine, &[operands.term()], 33, 0..2, 0..33);
        assert!(found.iter().all(|&x| x == expected), "{name}: {} for {expected}", found[0]);
    }
}

#[test]
#[should_panic(expected = "left operand")]
fn rows_outside_of_the_operand_are_refused() {
    let operands = Operands::new(3, 3, 3, Form::Nt, false, false);
    run(Engine::Software(Software::Dots), &[operands.term()], 3, 0..5, 0..3);
}
