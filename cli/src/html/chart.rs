//! Curves as SVG.

use super::markup::{escape, px};
use std::fmt::Write;

const SIZE: (f64, f64) = (560.0, 250.0);
const LEFT: f64 = 62.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 38.0;
/// Points of a curve that are drawn; of more, neighbours are drawn as their mean.
const MOST_POINTS: usize = 400;
/// Curves up to this many points have a mark at each.
const MARKED: usize = 60;
/// Colours that curves have, in turn.
pub(crate) const COLOURS: usize = 6;

/// A curve.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Curve {
    /// What the legend and the marks call it.
    pub(crate) name: String,
    /// Number of its colour, below [`COLOURS`].
    pub(crate) colour: usize,
    /// True for a broken line.
    pub(crate) dashed: bool,
    /// x and y, by ascending x.
    pub(crate) points: Vec<(f64, f64)>,
    /// Lowest and highest y of some x, drawn as a bar.
    pub(crate) bars: Vec<(f64, [f64; 2])>,
}

/// A picture of curves.
pub(crate) struct Chart<'a> {
    /// What is written under the x axis.
    pub(crate) x: &'a str,
    /// How a value of y is written.
    pub(crate) y: fn(f64) -> String,
    /// The curves.
    pub(crate) curves: Vec<Curve>,
    /// True if the y axis begins at 0.
    pub(crate) from_zero: bool,
}

impl Chart<'_> {
    /// The picture with its legend; none if there is no point to draw.
    pub(crate) fn draw(mut self) -> Option<String> {
        for curve in &mut self.curves {
            curve.points.retain(|(x, y)| x.is_finite() && y.is_finite());
            curve.points = thinned(&curve.points);
        }
        self.curves.retain(|curve| !curve.points.is_empty());
        let all = || self.curves.iter().flat_map(|curve| &curve.points);
        let ends = self.curves.iter().flat_map(|curve| &curve.bars).flat_map(|(_, ends)| ends);
        let (low_x, high_x) = range(all().map(|point| point.0))?;
        let (low_y, high_y) = range(all().map(|point| point.1).chain(ends.copied()))?;
        let low_y = if self.from_zero { low_y.min(0.0) } else { low_y };
        let scale = Scale { x: Axis::new(low_x, high_x, 6), y: Axis::new(low_y, high_y, 5) };
        let mut svg = format!("<svg viewBox=\"0 0 {} {}\" class=\"chart\" role=\"img\">", SIZE.0, SIZE.1);
        self.axes(&scale, &mut svg);
        self.curves.iter().for_each(|curve| self.curve(curve, &scale, &mut svg));
        svg.push_str("</svg>");
        Some(svg + &self.legend())
    }

    fn axes(&self, scale: &Scale, svg: &mut String) {
        for tick in &scale.y.ticks {
            let (at, right) = (px(scale.y_of(*tick)), SIZE.0 - RIGHT);
            let label = escape(&(self.y)(*tick));
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at}H{right}\"/><text class=\"r\" x=\"{}\" y=\"{at}\" dy=\"4\">{label}</text>",
                LEFT - 6.0
            );
        }
        let bottom = SIZE.1 - BOTTOM;
        for tick in &scale.x.ticks {
            let at = px(scale.x_of(*tick));
            let _ = write!(
                svg,
                "<path class=\"tick\" d=\"M{at} {bottom}v4\"/><text class=\"m\" x=\"{at}\" y=\"{}\">{tick}</text>",
                bottom + 16.0
            );
        }
        let middle = px((LEFT + SIZE.0 - RIGHT) / 2.0);
        let _ =
            write!(svg, "<text class=\"m\" x=\"{middle}\" y=\"{}\">{}</text>", SIZE.1 - 6.0, escape(self.x));
    }

    fn curve(&self, curve: &Curve, scale: &Scale, svg: &mut String) {
        let Curve { name, colour, dashed, points, bars } = curve;
        let (class, name) = (if *dashed { " dashed" } else { "" }, escape(name));
        for (x, ends) in bars {
            let (x, [low, high]) = (px(scale.x_of(*x)), ends.map(|end| px(scale.y_of(end))));
            let _ = write!(svg, "<path class=\"line thin s{colour}\" d=\"M{x} {low}V{high}\"/>");
        }
        let mut path = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{} {}", px(scale.x_of(*x)), px(scale.y_of(*y)));
        }
        let _ = write!(svg, "<path class=\"line s{colour}{class}\" d=\"{path}\"/>");
        if points.len() > MARKED {
            return;
        }
        for (x, y) in points {
            let (at, value) = ([px(scale.x_of(*x)), px(scale.y_of(*y))], escape(&(self.y)(*y)));
            let _ = write!(
                svg,
                "<circle class=\"mark s{colour}\" cx=\"{}\" cy=\"{}\" r=\"2.6\"><title>{name}, {} {x}: {value}</title></circle>",
                at[0],
                at[1],
                escape(self.x)
            );
        }
    }

    fn legend(&self) -> String {
        let item = |curve: &Curve| {
            let class = if curve.dashed { " dashed" } else { "" };
            format!("<span><i class=\"stroke s{}{class}\"></i>{}</span>", curve.colour, escape(&curve.name))
        };
        format!("<div class=\"legend\">{}</div>", self.curves.iter().map(item).collect::<String>())
    }
}

struct Scale {
    x: Axis,
    y: Axis,
}

impl Scale {
    fn x_of(&self, x: f64) -> f64 {
        LEFT + (SIZE.0 - LEFT - RIGHT) * self.x.share(x)
    }

    fn y_of(&self, y: f64) -> f64 {
        TOP + (SIZE.1 - TOP - BOTTOM) * (1.0 - self.y.share(y))
    }
}

/// A range of numbers with marks.
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// An axis from `low` to `high`, a little more if they are equal, with about `marks` marks.
    fn new(low: f64, high: f64, marks: usize) -> Self {
        let (low, high) = if high > low { (low, high) } else { (low - spread(low), high + spread(high)) };
        let step = step((high - low) / marks.max(1) as f64);
        let first = (low / step).ceil();
        let ticks = (0..=2 * marks).map(|index| (first + index as f64) * step);
        // The sum of a round number and many steps is written as one too.
        let digits = (-step.log10().floor()).clamp(0.0, 12.0) as i32 + 1;
        let round = |tick: f64| (tick * 10f64.powi(digits)).round() / 10f64.powi(digits) + 0.0;
        let ticks = ticks.map(round).take_while(|tick| *tick <= high + step * 1e-6).collect();
        Self { low, high, ticks }
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// Half of the range that a single value is shown in.
fn spread(value: f64) -> f64 {
    if value == 0.0 { 1.0 } else { value.abs() * 0.1 }
}

/// The smallest of 1, 2 and 5 times a power of ten that is not below `rough`.
fn step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power)
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range: Option<(f64, f64)>, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// At most [`MOST_POINTS`] points: the means of as many neighbours as it takes.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |chunk: &[(f64, f64)]| {
        let count = chunk.len() as f64;
        let sum = chunk.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(every).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(curves: Vec<Curve>) -> Option<String> {
        Chart { x: "step", y: |y| format!("{y}"), curves, from_zero: false }.draw()
    }

    #[test]
    fn marks_are_round_numbers_inside() {
        let ticks = |low, high| Axis::new(low, high, 5).ticks;
        assert_eq!(ticks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(0.93, 1.41), [1.0, 1.1, 1.2, 1.3, 1.4]);
        assert_eq!(ticks(-0.5, 0.5), [-0.4, -0.2, 0.0, 0.2, 0.4]);
        assert_eq!(ticks(0.0, 0.00033), [0.0, 0.0001, 0.0002, 0.0003]);
        assert_eq!(ticks(3.0, 3.0), [2.8, 3.0, 3.2]);
    }

    #[test]
    fn many_points_are_drawn_as_means() {
        let points: Vec<(f64, f64)> =
            (0..1000).map(|index| (f64::from(index), f64::from(index % 2))).collect();
        let found = thinned(&points);
        assert_eq!(found.len(), 334);
        assert_eq!(found[0], (1.0, 1.0 / 3.0));
        assert_eq!(thinned(&points[..5]), points[..5]);
    }

    #[test]
    fn a_curve_is_a_path_with_a_mark_at_each_point() {
        let points = vec![(1.0, 3.0), (2.0, f64::NAN), (3.0, 1.0)];
        let curve =
            Curve { name: "a < b".to_owned(), points, bars: vec![(3.0, [0.5, 1.5])], ..Curve::default() };
        let svg = chart(vec![curve, Curve::default()]).unwrap();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("a &lt; b, step 3: 1</title>") && !svg.contains("NaN"), "{svg}");
        assert_eq!(svg.matches("line thin").count(), 1);
        assert_eq!(chart(vec![Curve::default()]), None);
    }
}
