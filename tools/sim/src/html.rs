//! A report as one HTML file: no script, nothing fetched, readable on light and dark.

use crate::plot::escape;
use crate::table::Table;

/// A part of a report.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// What follows the heading.
    pub blocks: Vec<Block>,
}

/// What a section is made of.
#[derive(Clone, Debug)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A figure of `plot` and what to see in it.
    Figure {
        /// The SVG.
        svg: String,
        /// One sentence.
        caption: String,
    },
    /// A table of figures.
    Table(Table),
    /// A table of words.
    Words(Table),
    /// The answer to the question of the page.
    Verdict {
        /// Is it the one that was hoped for?
        is_good: bool,
        /// One sentence.
        text: String,
    },
    /// What to type.
    Command(String),
}

/// The file.
#[must_use]
pub fn page(title: &str, sections: &[Section]) -> String {
    let title = escape(title);
    let body: String = sections.iter().map(section).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
    )
}

fn section(section: &Section) -> String {
    let blocks: String = section.blocks.iter().map(block).collect();
    format!("<section>\n<h2>{}</h2>\n{blocks}</section>\n", escape(&section.title))
}

fn block(block: &Block) -> String {
    match block {
        Block::Text(text) => format!("<p>{}</p>\n", escape(text)),
        Block::Figure { svg, caption } => {
            format!("<figure>\n{svg}<figcaption>{}</figcaption>\n</figure>\n", escape(caption))
        }
        Block::Table(table) => rows("<table>", table),
        Block::Words(table) => rows("<table class=\"words\">", table),
        Block::Verdict { is_good, text } => {
            format!("<p class=\"verdict {}\">{}</p>\n", if *is_good { "good" } else { "bad" }, escape(text))
        }
        Block::Command(text) => format!("<pre>{}</pre>\n", escape(text)),
    }
}

fn rows(opening: &str, table: &Table) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = table.rows().iter().map(|cells| row(cells, "td")).collect();
    format!("{opening}\n<thead>{}</thead>\n<tbody>\n{rows}</tbody>\n</table>\n", row(table.headings(), "th"))
}

const STYLE: &str = include_str!("html/style.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fetches_nothing_and_escapes_what_it_is_told() {
        let mut table = Table::new(["a<b", "p50"]);
        table.row(["x & y", "1 ns"]);
        let blocks = vec![Block::Text("<script>".to_owned()), Block::Table(table)];
        let page = page("T & \"U\"", &[Section { title: "1 < 2".to_owned(), blocks }]);
        for part in
            ["<title>T &amp; &quot;U&quot;</title>", "<h2>1 &lt; 2</h2>", "<th>a&lt;b</th>", "<td>x &amp; y</td>"]
        {
            assert!(page.contains(part), "{part} in {page}");
        }
        for forbidden in ["<script", "http://", "https://", "@import", "src="] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }
}
