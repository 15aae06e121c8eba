//! Pieces of HTML and SVG.

use std::fmt::Write;

/// `text` as HTML content or as the value of an attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A length in a picture: one decimal, none if that is 0.
pub(crate) fn px(value: f64) -> String {
    let mut text = format!("{value:.1}");
    if text.ends_with(".0") {
        text.truncate(text.len() - 2);
    }
    text
}

/// A section of the page.
pub(crate) fn section(out: &mut String, id: &str, title: &str, lead: &str, body: &str) {
    let _ = writeln!(
        out,
        "<section id=\"{id}\"><h2>{title}</h2>{}{body}</section>",
        if lead.is_empty() { String::new() } else { format!("<p class=\"lead\">{lead}</p>") }
    );
}

/// A table whose columns are text (`l`) or numbers (`r`); cells are HTML.
pub(crate) struct Table {
    html: String,
    columns: &'static [(&'static str, char)],
}

impl Table {
    pub(crate) fn new(columns: &'static [(&'static str, char)]) -> Self {
        let mut html = "<div class=\"scroll\"><table class=\"sortable\"><thead><tr>".to_owned();
        for (title, align) in columns {
            let _ = write!(html, "<th class=\"{align}\">{}</th>", escape(title));
        }
        html.push_str("</tr></thead><tbody>\n");
        Self { html, columns }
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        self.html.push_str("<tr>");
        for (cell, (_, align)) in cells.iter().zip(self.columns) {
            let _ = write!(self.html, "<td class=\"{align}\">{cell}</td>");
        }
        self.html.push_str("</tr>\n");
    }

    pub(crate) fn finish(mut self) -> String {
        self.html.push_str("</tbody></table></div>");
        self.html
    }
}

/// A cell that sorts by `value`.
pub(crate) fn number(value: f64, text: &str) -> String {
    format!("<span data-v=\"{value}\">{}</span>", escape(text))
}

/// A share with a bar behind it.
pub(crate) fn share_bar(share: f64, text: &str) -> String {
    let width = px((share * 100.0).clamp(0.0, 100.0));
    format!(
        "<span class=\"share\" data-v=\"{share}\"><i style=\"width:{width}%\"></i><b>{}</b></span>",
        escape(text)
    )
}

/// A number that matters, for the head of a page.
pub(crate) fn tile(out: &mut String, name: &str, value: &str, note: &str) {
    let (name, value, note) = (escape(name), escape(value), escape(note));
    let _ = write!(
        out,
        "<div class=\"tile\"><span>{name}</span><strong>{value}</strong><small>{note}</small></div>"
    );
}

/// Pairs of names and values, as a grid.
pub(crate) fn grid(title: &str, pairs: &[(&str, String)]) -> String {
    let row = |(name, value): &(&str, String)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    format!(
        "<div class=\"card\"><h3>{title}</h3><dl>{}</dl></div>",
        pairs.iter().map(row).collect::<String>()
    )
}

/// Something that opens.
pub(crate) fn details(summary: &str, body: &str, open: bool) -> String {
    let open = if open { " open" } else { "" };
    format!("<details{open}><summary>{summary}</summary>{body}</details>\n")
}

/// A legend: colours with names.
pub(crate) fn legend(items: &[(&str, &str)]) -> String {
    let item =
        |(class, name): &(&str, &str)| format!("<span><i class=\"dot {class}\"></i>{}</span>", escape(name));
    format!("<div class=\"legend\">{}</div>", items.iter().map(item).collect::<String>())
}

/// Numbers between 0 and `most` at which an axis has marks: at most `marks` of them, at 1, 2 or 5 times a power of `base`.
pub(crate) fn ticks(most: f64, marks: usize, base: f64) -> Vec<f64> {
    if most <= 0.0 || most.is_nan() {
        return vec![0.0];
    }
    let rough = most / marks.max(1) as f64;
    let power = base.powf(rough.log(base).floor());
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(base * power);
    (0..).map(|index| f64::from(index) * step).take_while(|tick| *tick <= most * 1.0001).collect()
}
