//! Memory: what it is made of, and the arena over the steps of a run as a picture.

use crate::html::markup::{details, escape, legend, px, section, ticks};
use crate::inspect::View;
use crate::numbers::{bytes, humane, thousands};
use gptjc_compiler::explain::{ArenaBuffer, BufferKind, EntryReport, Group, MemoryFacts};
use std::fmt::Write;

const WIDTH: f64 = 1120.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 26.0;
const MAP: f64 = 380.0;
/// Height of the curve of live bytes, and what lies between the map and it.
const CURVE: f64 = 84.0;
const BETWEEN: f64 = 34.0;
/// Buffers that would be drawn thinner than this are left out.
const THINNEST: f64 = 0.25;

const fn class(kind: BufferKind) -> &'static str {
    match kind {
        BufferKind::Saved => "c-saved",
        BufferKind::Forward => "c-forward",
        BufferKind::Backward => "c-backward",
        BufferKind::Workspace => "c-workspace",
    }
}

pub(super) fn write(view: &View<'_>, entry: &EntryReport, out: &mut String) {
    let memory = &view.report.memory;
    let lead = format!(
        "{} predicted at the peak, {} of it for temporaries, which share one arena: {} live at most at one time.",
        bytes(memory.peak_bytes),
        bytes(memory.arena_bytes),
        bytes(entry.live_bytes)
    );
    let kinds: Vec<(&str, &str)> = BufferKind::ALL.iter().map(|&kind| (class(kind), kind.name())).collect();
    let map = Map::new(entry, memory);
    let body = format!(
        "<div class=\"card\"><h3>What it is made of</h3>{}{}</div><div class=\"card wide\"><h3>The arena during \
         <code>{}</code></h3><p class=\"note\">Time runs to the right, one column a step; a rectangle is a temporary at its \
         offset, from the step that writes it to the last that reads it. {}</p>{}<div class=\"scroll\">{}</div></div>",
        parts(memory),
        planner(&view.report.planner),
        escape(&entry.name),
        map.note(),
        legend(&kinds),
        map.draw()
    );
    let named = format!("{} buffers outside of the arena", thousands(memory.buffers.len() as u64));
    let body = format!("{body}{}", details(&named, &by_kind(memory), false));
    section(out, "memory", "Memory", &lead, &body);
}

/// A bar of the parts, as long as the budget.
fn parts(memory: &MemoryFacts) -> String {
    let mut parts = vec![
        ("c-weights", "weights that stay", memory.touched_weight_bytes),
        ("c-stream", "weights read in turns", memory.stream_bytes),
        ("c-kept", "parameters, state, batch", memory.persistent_bytes),
        ("c-arena", "temporaries", memory.arena_bytes),
        ("c-process", "process", memory.process_bytes),
    ];
    if memory.weight_copy_bytes > 0 {
        parts.insert(1, ("c-weights", "their copies on other NUMA nodes", memory.weight_copy_bytes));
    }
    let used: u64 = parts.iter().map(|(.., size)| size).sum();
    let whole = used.max(memory.budget_bytes).max(1) as f64;
    let mut html = "<div class=\"parts\">".to_owned();
    for (class, name, size) in parts.iter().filter(|(.., size)| *size > 0) {
        let (width, text) = (px(*size as f64 / whole * 100.0), bytes(*size));
        let _ = write!(html, "<i class=\"{class}\" style=\"width:{width}%\" data-t=\"{name}: {text}\"></i>");
    }
    let budget = px(memory.budget_bytes as f64 / whole * 100.0);
    let _ = write!(html, "<u style=\"left:{budget}%\"></u></div><div class=\"legend\">");
    for (class, name, size) in parts {
        let _ = write!(html, "<span><i class=\"dot {class}\"></i>{name} <b>{}</b></span>", bytes(size));
    }
    let whose = if memory.budget_given { "budget" } else { "the target's memory, but for a reserve" };
    let _ = write!(
        html,
        "<span><i class=\"mark\"></i>{whose} <b>{}</b></span></div>",
        bytes(memory.budget_bytes)
    );
    html
}

/// What was considered and chosen.
fn planner(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let line = |line: &String| match line.split_once(": ") {
        Some((what, rest)) => {
            let class = if what == "chosen" { " class=\"chosen\"" } else { "" };
            format!(
                "<tr{class}><td class=\"what\">{}</td><td>{}</td></tr>",
                escape(what),
                escape(&humane(rest))
            )
        }
        None => format!("<tr><td></td><td>{}</td></tr>", escape(&humane(line))),
    };
    let rows: String = lines.iter().map(line).collect();
    format!(
        "<h3 class=\"later\">What the planner considered</h3><div class=\"scroll\"><table><tbody>{rows}</tbody></table></div>"
    )
}

fn by_kind(memory: &MemoryFacts) -> String {
    let mut table = crate::html::markup::Table::new(&[("kind", 'l'), ("buffers", 'r'), ("bytes", 'r')]);
    for kind in &memory.kinds {
        table.row(&[
            kind.memory.to_owned(),
            crate::html::markup::number(kind.buffers as f64, &thousands(kind.buffers as u64)),
            crate::html::markup::number(kind.bytes as f64, &bytes(kind.bytes)),
        ]);
    }
    table.finish()
}

/// The picture.
struct Map<'e> {
    entry: &'e EntryReport,
    arena: u64,
    /// Bytes that the budget leaves for the arena.
    room: u64,
    /// Bytes at the top of the picture.
    top: f64,
}

impl<'e> Map<'e> {
    fn new(entry: &'e EntryReport, memory: &MemoryFacts) -> Self {
        let others = memory.touched_weight_bytes
            + memory.weight_copy_bytes
            + memory.stream_bytes
            + memory.persistent_bytes
            + memory.process_bytes;
        let room = memory.budget_bytes.saturating_sub(others);
        let highest = entry.arena.iter().map(|row| row.offset + row.bytes).max().unwrap_or(0);
        let arena = highest.max(1);
        // The budget is in the picture if that does not make the rest too small to see.
        let shown = if room >= arena && (room as f64) < 1.5 * arena as f64 { room } else { arena };
        Self { entry, arena, room, top: shown as f64 * 1.02 }
    }

    fn x(&self, step: usize) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * step as f64 / self.entry.steps.len().max(1) as f64
    }

    fn y(&self, offset: u64) -> f64 {
        TOP + MAP * (1.0 - offset as f64 / self.top)
    }

    fn is_drawn(&self, row: &ArenaBuffer) -> bool {
        MAP * row.bytes as f64 / self.top >= THINNEST
    }

    fn note(&self) -> String {
        let thin = self.entry.arena.iter().filter(|row| !self.is_drawn(row)).count();
        let mut note = format!("{} temporaries", thousands(self.entry.arena.len() as u64));
        if thin > 0 {
            let _ = write!(note, ", {} of which are too small to be seen", thousands(thin as u64));
        }
        if self.room as f64 > self.top {
            let _ = write!(note, "; the budget would leave {} for them", bytes(self.room));
        }
        note.push('.');
        note
    }

    fn draw(&self) -> String {
        let height = TOP + MAP + BETWEEN + CURVE + 30.0;
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" class=\"chart map\" role=\"img\">");
        self.grid(&mut svg);
        for kind in BufferKind::ALL {
            let _ = write!(svg, "<g class=\"{}\">", class(kind));
            for row in self.entry.arena.iter().filter(|row| row.kind == kind && self.is_drawn(row)) {
                self.rectangle(row, &mut svg);
            }
            svg.push_str("</g>\n");
        }
        self.lines(&mut svg);
        self.curve(&mut svg);
        self.blocks(&mut svg);
        svg.push_str("</svg>");
        svg
    }

    fn rectangle(&self, row: &ArenaBuffer, svg: &mut String) {
        let (left, top) = (self.x(row.first), self.y(row.offset + row.bytes));
        let (width, height) = (self.x(row.last + 1) - left, self.y(row.offset) - top);
        let _ = write!(
            svg,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{} · {}\n{} @ {}\nsteps {} to {}</title></rect>",
            px(left),
            px(top),
            px(width.max(0.3)),
            px(height),
            bytes(row.bytes),
            escape(&row.ty),
            escape(&row.kernel),
            escape(&row.module),
            row.first,
            row.last
        );
    }

    fn grid(&self, svg: &mut String) {
        for tick in ticks(self.top, 6, 1024.0) {
            let y = px(self.y(tick as u64));
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y}H{}\"/><text class=\"r\" x=\"{}\" y=\"{y}\" dy=\"4\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                bytes(tick as u64)
            );
        }
        svg.push('\n');
    }

    /// The peak, and the budget if it is in the picture.
    fn lines(&self, svg: &mut String) {
        let mut line = |class: &str, at: u64, text: &str, above: f64| {
            let y = self.y(at);
            let _ = writeln!(
                svg,
                "<path class=\"{class}\" d=\"M{LEFT} {}H{}\"/><text class=\"r line\" x=\"{}\" y=\"{}\">{text}</text>",
                px(y),
                WIDTH - RIGHT,
                WIDTH - RIGHT - 6.0,
                px(y - above)
            );
        };
        let shows_budget = self.room >= self.arena && self.room as f64 <= self.top;
        let is_near = shows_budget && self.y(self.arena) - self.y(self.room) < 18.0;
        line("peak", self.arena, &format!("arena {}", bytes(self.arena)), if is_near { -14.0 } else { 5.0 });
        if shows_budget {
            line("budget", self.room, &format!("budget leaves {}", bytes(self.room)), 5.0);
        }
    }

    /// Live bytes over the steps.
    fn curve(&self, svg: &mut String) {
        let (top, live) = (TOP + MAP + BETWEEN, &self.entry.live);
        let most = live.iter().copied().max().unwrap_or(0).max(1) as f64;
        let y = |value: u64| top + CURVE * (1.0 - value as f64 / most);
        let mut path = format!("M{} {}", px(self.x(0)), px(top + CURVE));
        // One point a pixel is all that can be seen.
        let every = (live.len() as f64 / (WIDTH - LEFT - RIGHT)).ceil().max(1.0) as usize;
        for (index, chunk) in live.chunks(every).enumerate() {
            let value = chunk.iter().copied().max().unwrap_or(0);
            let end = ((index + 1) * every).min(live.len());
            let _ = write!(path, "V{}H{}", px(y(value)), px(self.x(end)));
        }
        let _ = write!(path, "V{}Z", px(top + CURVE));
        let peak = live.iter().position(|&bytes| bytes as f64 >= most).unwrap_or(0);
        let (x, anchor) = match self.x(peak) {
            x if x > WIDTH * 0.75 => (x - 8.0, "r"),
            x => (x + 8.0, ""),
        };
        let _ = writeln!(
            svg,
            "<path class=\"live\" d=\"{path}\"/><text class=\"r\" x=\"{}\" y=\"{}\" dy=\"4\">0 B</text><text class=\"r\" \
             x=\"{}\" y=\"{}\" dy=\"4\">{}</text><circle class=\"peakdot\" cx=\"{}\" cy=\"{}\" r=\"3.5\"/><text \
             class=\"line {anchor}\" x=\"{}\" y=\"{}\">most live: step {peak}</text>",
            LEFT - 8.0,
            px(top + CURVE),
            LEFT - 8.0,
            px(top),
            bytes(most as u64),
            px(self.x(peak)),
            px(y(most as u64)),
            px(x),
            px(top - 5.0)
        );
    }

    /// Numbers of the blocks under the map, and where the backward pass begins.
    fn blocks(&self, svg: &mut String) {
        let (line, floor) = (TOP + MAP + 14.0, TOP + MAP + BETWEEN + CURVE);
        let mut last = None;
        let mut free = 0.0;
        for (index, step) in self.entry.steps.iter().enumerate() {
            let group = Group::of(&step.module);
            let Group::Block(layer) = group else { continue };
            if last == Some(group) {
                continue;
            }
            last = Some(group);
            let x = self.x(index);
            let _ = write!(svg, "<path class=\"tick\" d=\"M{} {}v5\"/>", px(x), TOP + MAP);
            if x >= free {
                let _ = write!(svg, "<text x=\"{}\" y=\"{line}\">{layer}</text>", px(x + 1.0));
                free = x + 20.0;
            }
        }
        let _ = write!(svg, "<text class=\"r\" x=\"{}\" y=\"{line}\">block</text>", LEFT - 8.0);
        if let Some(first) = self.entry.backward_from {
            let x = self.x(first);
            let _ = write!(
                svg,
                "<path class=\"turn\" d=\"M{} {}V{floor}\"/><text class=\"r line\" x=\"{}\" y=\"14\">forward ◂</text><text \
                 class=\"line\" x=\"{}\" y=\"14\">▸ backward</text>",
                px(x),
                TOP - 8.0,
                px(x - 5.0),
                px(x + 5.0)
            );
        }
        let steps = self.entry.steps.len();
        for tick in ticks(steps as f64, 8, 10.0) {
            let x = px(self.x(tick as usize));
            let _ = write!(svg, "<text class=\"m\" x=\"{x}\" y=\"{}\">{tick}</text>", floor + 18.0);
        }
        let _ = write!(svg, "<text class=\"r\" x=\"{}\" y=\"{}\">step</text>", LEFT - 30.0, floor + 18.0);
    }
}
