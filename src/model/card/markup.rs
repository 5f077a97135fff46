use std::fmt::Write;

use super::Plot;

/// A part of a page, the same in Markdown and HTML. Texts are plain but for `code` in backticks.
pub(super) enum Block {
    Title(String),
    Heading(&'static str),
    Text(String),
    List(Vec<String>),
    /// The first column is left-aligned, the others are numbers.
    Table {
        head: Vec<String>,
        rows: Vec<Vec<String>>,
    },
    Plot(Plot),
}

pub(super) fn markdown_page(blocks: &[Block], folder: &str) -> String {
    let parts: Vec<String> = blocks.iter().map(|block| markdown(block, folder)).collect();
    parts.join("\n\n") + "\n"
}

fn markdown(block: &Block, folder: &str) -> String {
    match block {
        Block::Title(title) => format!("# {}", markdown_text(title)),
        Block::Heading(title) => format!("## {title}"),
        Block::Text(text) => markdown_text(text),
        Block::List(items) => {
            items.iter().map(|item| format!("- {}", markdown_text(item))).collect::<Vec<_>>().join("\n")
        }
        Block::Table { head, rows } => {
            let line = |cells: &[String]| {
                let cells: Vec<String> = cells.iter().map(|cell| markdown_text(cell).replace('|', "\\|")).collect();
                format!("| {} |", cells.join(" | "))
            };
            let rule: String = (0..head.len()).map(|column| if column == 0 { "|---" } else { "|---:" }).collect();
            let rows = rows.iter().map(|row| line(row));
            [line(head), rule + "|"].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
        }
        Block::Plot(plot) => format!("![{}]({folder}{}.svg)", plot.title, plot.name),
    }
}

/// One line; nothing outside `code` is taken for a tag.
fn markdown_text(text: &str) -> String {
    let part = |(part, is_code): (&str, bool)| {
        let part = part.replace(['\n', '\r'], " ");
        if is_code { format!("`{part}`") } else { part.replace('<', "&lt;") }
    };
    coded(text).into_iter().map(part).collect()
}

pub(super) fn html_page(title: &str, blocks: &[Block]) -> String {
    let mut body = String::new();
    let mut plots = false;
    for block in blocks {
        // Neighbouring plots share one grid.
        let is_plot = matches!(block, Block::Plot(_));
        if is_plot != plots {
            body.push_str(if is_plot { "<div class=\"plots\">\n" } else { "</div>\n" });
            plots = is_plot;
        }
        html(&mut body, block);
    }
    if plots {
        body.push_str("</div>\n");
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"/>\n<title>{}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escape(title)
    )
}

fn html(page: &mut String, block: &Block) {
    // Writing to a String cannot fail.
    let _ = match block {
        Block::Title(title) => writeln!(page, "<h1>{}</h1>", escape(title)),
        Block::Heading(title) => writeln!(page, "<h2>{}</h2>", escape(title)),
        Block::Text(text) => writeln!(page, "<p>{}</p>", html_text(text)),
        Block::List(items) => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>\n", html_text(item))).collect();
            writeln!(page, "<ul>\n{items}</ul>")
        }
        Block::Table { head, rows } => {
            let row = |cells: &[String], tag: &str| {
                let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", html_text(cell))).collect();
                format!("<tr>{cells}</tr>\n")
            };
            let rows: String = rows.iter().map(|cells| row(cells, "td")).collect();
            let head = row(head, "th");
            writeln!(page, "<div class=\"wide\"><table>\n<thead>{head}</thead>\n<tbody>{rows}</tbody>\n</table></div>")
        }
        Block::Plot(plot) => {
            writeln!(page, "<figure>{}<figcaption>{}</figcaption></figure>", plot.svg.trim_end(), escape(plot.title))
        }
    };
}

/// Escaped, with `code` between backticks marked up.
fn html_text(text: &str) -> String {
    let part = |(part, is_code): (&str, bool)| {
        if is_code { format!("<code>{}</code>", escape(part)) } else { escape(part) }
    };
    coded(text).into_iter().map(part).collect()
}

/// The parts of a text, and whether each stood between backticks; a last backtick without a partner is text.
fn coded(text: &str) -> Vec<(&str, bool)> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, code, after)) = rest
        .split_once('`')
        .and_then(|(before, after)| after.split_once('`').map(|(code, after)| (before, code, after)))
    {
        parts.extend([(before, false), (code, true)]);
        rest = after;
    }
    parts.push((rest, false));
    parts
}

/// For text and attributes of XML; control characters, which XML cannot hold, become spaces.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            control if control.is_control() || matches!(control, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; background: light-dark(#fff, #16181d); color: light-dark(#1c2024, #e4e6ea); }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid light-dark(#e3e5e8, #2e333b); }
th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figure svg { width: 100%; height: auto; } figcaption { text-align: center; font-size: .85rem; }
code { font-family: ui-monospace, monospace; font-size: .9em; }
";
