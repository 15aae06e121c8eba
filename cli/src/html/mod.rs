//! Pages that stand alone: nothing outside of them is needed, and they can be read without JavaScript.
//!
//! Colours and fonts are in `style.css`, what moves in `page.js`; both are put into the page.

pub(crate) mod chart;
pub(crate) mod markup;

use markup::escape;
use std::fmt::Write;

/// A page with this title and body.
pub(crate) fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title>\n<style>\n{}</style></head>\n<body>\n{body}\
         <div id=\"tip\" hidden></div>\n<script>\n{}</script>\n</body></html>\n",
        escape(title),
        include_str!("style.css"),
        include_str!("page.js")
    )
}

/// Links to the sections of the page: their ids and names.
pub(crate) fn navigation<'a>(sections: impl IntoIterator<Item = (&'a str, &'a str)>, out: &mut String) {
    out.push_str("<nav><div>");
    for (id, name) in sections {
        let _ = write!(out, "<a href=\"#{id}\">{name}</a>");
    }
    out.push_str("<button id=\"theme\" type=\"button\" hidden>light / dark</button></div></nav>\n");
}
