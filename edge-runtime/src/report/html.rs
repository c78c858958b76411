//! Pages of reports: one file, without a network, for a desk and for a phone.

use crate::finding::STATEMENT;

/// What a page begins with.
pub const HTML_HEAD: &str = "<!doctype html>";

const STYLE: &str = "\
:root{color-scheme:light}*{box-sizing:border-box}\
body{font:16px/1.5 system-ui,sans-serif;color:#1b1f24;background:#fff;margin:0 auto;padding:1rem;max-width:72rem}\
h1{font-size:1.6rem;margin:.2em 0}h2{font-size:1.2rem;margin:2em 0 .5em;border-bottom:1px solid #d0d7de}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.25em .7em;text-align:right;white-space:nowrap;border-bottom:1px solid #eaeef2}\
th:first-child,td:first-child{text-align:left}.wide{overflow-x:auto}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem}\
.plots svg{width:100%;height:auto}.plots figure,.gallery figure{margin:0}\
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:.7rem}\
.gallery img{width:100%;height:auto;display:block;background:#000}\
figcaption{font-size:.8rem;overflow-wrap:anywhere}\
.statement{background:#fff8e1;border-left:4px solid #b58900;padding:.6em 1em;margin:1em 0}\
.facts td{text-align:left;white-space:normal;overflow-wrap:anywhere}.facts td:first-child{white-space:nowrap}\
pre{background:#f6f8fa;padding:1em;overflow-x:auto;font-size:.85rem}.small{color:#57606a;font-size:.85rem}";

/// `text` for HTML.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// A table of plain cells.
pub fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let cells = |tag: &str, cells: &[String]| -> String {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect()
    };
    let rows: String = rows.iter().map(|row| format!("<tr>{}</tr>", cells("td", row))).collect();
    format!("<div class=\"wide\"><table><tr>{}</tr>{rows}</table></div>", cells("th", head))
}

/// A table of names and what they are, which wraps.
pub fn facts(rows: &[(String, String)]) -> String {
    let row =
        |(name, value): &(String, String)| format!("<tr><td>{}</td><td>{}</td></tr>", escaped(name), escaped(value));
    let rows: String = rows.iter().map(row).collect();
    format!("<table class=\"facts\">{rows}</table>")
}

/// A part of a page under its title; `body` is HTML.
pub fn section(title: &str, body: &str) -> String {
    format!("<section><h2>{}</h2>{body}</section>", escaped(title))
}

/// A page with `title` and the statement of what this is for around `body`, which is HTML.
pub fn html(title: &str, body: &str) -> String {
    format!(
        "{HTML_HEAD}<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{0}</title><style>{STYLE}</style></head><body><h1>{0}</h1>\
         <p class=\"statement\">{1}</p>{body}</body></html>\n",
        escaped(title),
        escaped(STATEMENT)
    )
}

/// Drawings beside one another where there is room.
pub fn figures(plots: &[String]) -> String {
    let figures: String = plots.iter().map(|svg| format!("<figure>{svg}</figure>")).collect();
    format!("<div class=\"plots\">{figures}</div>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_named_stays_text() {
        let page = html("<b> & co", &table(&["a".into()], &[vec!["'\"".into()]]));
        assert!(page.starts_with(HTML_HEAD) && page.contains("&lt;b&gt; &amp; co"));
        assert!(page.contains("&#39;&quot;") && page.contains(&escaped(STATEMENT)));
    }
}
