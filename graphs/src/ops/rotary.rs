//! Rotary position embedding as GPT-J does it: a part of each head's lanes, in interleaved pairs.
//!
//! Letters: M slots, D width, P positions, R rotary lanes of a head.

use super::check::{self, TypeError};
use super::{AttributeError, Attributes, AutodiffError, EvalError, Operation, Real, Tensor, VjpContext};
use crate::attributes::AttributeValue;
use crate::dtype::DType;
use crate::interp::index_below;
use crate::shape::{Extents, TensorType};

/// Wave length base of the lanes.
const BASE: f64 = 10000.0;

/// `rotary_table {positions, rotary_dim}`: f32 `sin[P, R / 2]` and `cos[P, R / 2]` of the angle of each position and
/// pair of lanes.
///
/// Numerics: inverse frequency `1 / 10000^(2i / R)` and angle in f32, each operation rounded once, as Hugging Face
/// transformers computes them; sine and cosine of that angle in f64. The angles are the same in every arithmetic of
/// the interpreter.
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryTable {
    /// Positions from 0.
    pub positions: usize,
    /// Lanes of a head that are rotated; even.
    pub rotary_dim: usize,
}

impl RotaryTable {
    /// The angles, by position and pair of lanes.
    fn angles(&self) -> Vec<f32> {
        let inverse_frequency = |lane: usize| {
            let exponent = lane as f32 / self.rotary_dim as f32;
            // A power in f64 that is rounded to f32 is the f32 power that every library should give.
            1.0 / BASE.powf(f64::from(exponent)) as f32
        };
        let frequencies: Vec<f32> = (0..self.rotary_dim).step_by(2).map(inverse_frequency).collect();
        (0..self.positions)
            .flat_map(|position| frequencies.iter().map(move |f| position as f32 * f))
            .collect()
    }
}

impl Operation for RotaryTable {
    const NAME: &'static str = "rotary_table";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["positions", "rotary_dim"])?;
        Ok(Self {
            positions: attributes.get_int("positions")?,
            rotary_dim: attributes.get_int("rotary_dim")?,
        })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new().int("positions", self.positions).int("rotary_dim", self.rotary_dim)
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [] = check::operands(operands)?;
        if !self.rotary_dim.is_multiple_of(2) {
            return Err(check::attribute("rotary_dim", self.rotary_dim, "lanes are rotated in pairs"));
        }
        Ok(vec![TensorType::f32([self.positions.into(), (self.rotary_dim / 2).into()]); 2])
    }

    /// A constant: nothing flows back.
    fn vjp(&self, _rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        _operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let angles = self.angles();
        let table = |function: fn(f64) -> f64| {
            let elements = angles.iter().map(|&angle| F::from_f64(function(f64::from(angle)))).collect();
            Tensor::float([self.positions, self.rotary_dim / 2], elements)
        };
        Ok(vec![table(f64::sin), table(f64::cos)])
    }

    /// An angle, a sine and a cosine for each pair.
    fn flops(&self, _operands: &[&TensorType], results: &[&TensorType]) -> u64 {
        3 * results[0].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `rotary %x, %position, %sin, %cos {heads, inverse}`: rotates the first R lanes of every head of `x[M, D]` by the
/// slot's position i32`[M]`; the other lanes are copied.
///
/// For the pair of lanes (2i, 2i + 1): `y0 = x0 * cos - x1 * sin`, `y1 = x1 * cos + x0 * sin`, with `sin` and `cos`
/// f32`[P, R / 2]` of [`RotaryTable`]. The inverse rotates back: `sin` is negated.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// Heads of `x`.
    pub heads: usize,
    /// Rotate back.
    pub inverse: bool,
}

impl Operation for Rotary {
    const NAME: &'static str = "rotary";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["heads", "inverse"])?;
        let inverse = match attributes.get_int("inverse")? {
            0 => false,
            1 => true,
            other => {
                let found = AttributeValue::Int(other as i64);
                return Err(AttributeError::Invalid { name: "inverse", expected: "0 or 1", found });
            }
        };
        Ok(Self { heads: attributes.get_int("heads")?, inverse })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new().int("heads", self.heads).int("inverse", usize::from(self.inverse))
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, position, sin, cos] = check::operands(operands)?;
        check::float(0, x, 2)?;
        check::index_vector(1, position, x.dims[0])?;
        let width = x.dims[1].bound;
        if self.heads == 0 || !width.is_multiple_of(self.heads) {
            return Err(check::attribute(
                "heads",
                self.heads,
                format!("it does not divide the width {width}"),
            ));
        }
        let head_dim = width / self.heads;
        if sin.dtype != DType::F32 || sin.rank() != 2 || 2 * sin.dims[1].bound > head_dim {
            let expected = format!("a table f32[P, R / 2] with R at most the {head_dim} lanes of a head");
            return Err(check::mismatch(2, expected, sin));
        }
        check::same(3, cos, sin)?;
        Ok(vec![x.clone()])
    }

    /// A rotation is orthogonal: `dx` is `dy` rotated back. The tables are constants: nothing flows to them.
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        let Some(dy) = rule.cotangent(0) else { return Ok(()) };
        let back = Rotary { heads: self.heads, inverse: !self.inverse };
        let (position, sin, cos) = (rule.operand(1), rule.operand(2), rule.operand(3));
        let dx = rule.push(back, &[dy, position, sin, cos])?;
        rule.contribute(0, dx);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let mut y = operands[0].floats()?.to_vec();
        let (sin, cos) = (operands[2].floats()?, operands[3].floats()?);
        let (positions, pairs) = (operands[2].dims[0], operands[2].dims[1]);
        let (width, sign) = (operands[0].dims[1], if self.inverse { -F::one() } else { F::one() });
        for (slot, &position) in operands[1].ints()?.iter().enumerate() {
            let row = index_below("position", position, positions)?;
            for h in 0..self.heads {
                for i in 0..pairs {
                    let lane = slot * width + h * (width / self.heads) + 2 * i;
                    let (sin, cos) = (sign * sin[row * pairs + i], cos[row * pairs + i]);
                    let (x0, x1) = (y[lane], y[lane + 1]);
                    y[lane] = x0 * cos - x1 * sin;
                    y[lane + 1] = x1 * cos + x0 * sin;
                }
            }
        }
        Ok(vec![Tensor::float(operands[0].dims.clone(), y)])
    }

    /// Two products and an addition for each rotated lane.
    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        let rotary_dim = 2 * operands[2].dims[1].bound;
        3 * (operands[0].dims[0].bound * self.heads * rotary_dim) as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::check::check_vjp;
    use crate::shape::Dim;

    fn evaluate(op: &impl Operation, operands: &[&Tensor<f64>]) -> Result<Vec<Tensor<f64>>, EvalError> {
        op.evaluate(operands, &[], &Extents::default())
    }

    #[test]
    fn angles_are_those_of_transformers() {
        let table = RotaryTable { positions: 2048, rotary_dim: 64 };
        let angles = table.angles();
        // Bits of `1.0 / (10000 ** (torch.arange(0, 64, 2) / 64))` and of position 2047 times that. A
        // power that is off by one bit in f32 shows at 5 and 27.
        for (pair, frequency, last) in [
            (1, 0x3f3f_f911, 0x44bf_e112),
            (5, 0x3e72_d423, 0x43f2_b5c8),
            (27, 0x39dd_1725, 0x3f5c_fb82),
            (31, 0x390b_d472, 0x3e8b_c2f7),
        ] {
            assert_eq!(angles[32 + pair].to_bits(), frequency, "frequency of pair {pair}");
            assert_eq!(angles[2047 * 32 + pair].to_bits(), last, "angle of pair {pair} at position 2047");
        }
        let sin_cos = evaluate(&table, &[]).unwrap();
        let last = f64::from(angles[2047 * 32 + 1]);
        assert_eq!(sin_cos[0].floats().unwrap()[2047 * 32 + 1], last.sin());
        assert_eq!(sin_cos[1].floats().unwrap()[2047 * 32 + 1], last.cos());
    }

    #[test]
    fn pairs_of_neighbours_are_rotated_and_the_other_lanes_copied() {
        let x = Tensor::float([2, 6], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let position = Tensor::int([2], vec![1, 0]);
        // Position 0 is left alone; position 1 is turned by a right angle.
        let (sin, cos) = (Tensor::float([2, 1], vec![0.0, 1.0]), Tensor::float([2, 1], vec![1.0, 0.0]));
        let turn = |x: &Tensor<f64>, inverse| {
            evaluate(&Rotary { heads: 2, inverse }, &[x, &position, &sin, &cos]).unwrap().remove(0)
        };
        let y = turn(&x, false);
        let expected = vec![-2.0, 1.0, 3.0, -5.0, 4.0, 6.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(y, Tensor::float([2, 6], expected));
        assert_eq!(turn(&y, true), x);
    }

    #[test]
    fn a_position_outside_of_the_table_is_refused() {
        let (x, table) = (Tensor::zeros([1, 2]), Tensor::zeros([4, 1]));
        for position in [-1, 4] {
            let operands = [&x, &Tensor::int([1], vec![position]), &table, &table];
            let error = evaluate(&Rotary { heads: 1, inverse: false }, &operands).unwrap_err().to_string();
            assert_eq!(error, format!("position {position} is outside of 0..4"));
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let odd = RotaryTable { positions: 4, rotary_dim: 3 };
        let error = odd.infer(&[]).unwrap_err().to_string();
        assert_eq!(error, "attribute `rotary_dim` = 3: lanes are rotated in pairs");
        let x = TensorType::f32([Dim::slots(5), Dim::fixed(12)]);
        let position = TensorType::i32([Dim::slots(5)]);
        let table = TensorType::f32([4, 3].map(Dim::fixed));
        let infer = |heads| Rotary { heads, inverse: false }.infer(&[&x, &position, &table, &table]);
        assert_eq!(infer(2).unwrap(), std::slice::from_ref(&x));
        assert_eq!(
            infer(5).unwrap_err().to_string(),
            "attribute `heads` = 5: it does not divide the width 12"
        );
        let expected =
            "operand 2: expected a table f32[P, R / 2] with R at most the 4 lanes of a head, found f32[4, 3]";
        assert_eq!(infer(3).unwrap_err().to_string(), expected);
        let attributes = Attributes::new().int("heads", 2).int("inverse", 2);
        let error = Rotary::from_attributes(&attributes).unwrap_err().to_string();
        assert_eq!(error, "attribute `inverse`: expected 0 or 1, found `2`");
    }

    #[test]
    fn a_rotation_matches_finite_differences() {
        // Enough slots that segments have more positions than 0, which is not rotated.
        for inverse in [0, 1] {
            check_vjp(&format!(
                "graph @f(%x: batch \"x\" f32[slots:9, 12], %position: batch \"position\" i32[slots:9]) {{ \
                 %sin, %cos = rotary_table {{positions = 64, rotary_dim = 4}} : f32[64, 2], f32[64, 2] \
                 %y = rotary %x, %position, %sin, %cos {{heads = 2, inverse = {inverse}}} : f32[slots:9, 12] \
                 return \"y\" %y }}"
            ));
        }
    }
}
