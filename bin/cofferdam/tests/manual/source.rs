//! What is written by hand of a page.
//!
//! The form is a little of Markdown: `# SECTION`, `## --flag` below `# OPTIONS`, paragraphs, lines of `- term: text`, and
//! code that is four blanks in. In a line, `` `literal` `` and `*word*`.

/// A page's text, by sections.
#[derive(Debug)]
pub(crate) struct Source {
    sections: Vec<(String, Vec<Block>)>,
}

/// A piece of a section.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Block {
    /// The lines of an example, as they are.
    Code(Vec<String>),
    /// A term, and what it is.
    Item(String, String),
    /// A paragraph.
    Text(String),
}

impl Source {
    pub(crate) fn read(text: &str) -> Self {
        let mut sections: Vec<(String, Vec<Block>)> = Vec::new();
        let mut is_new = true;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("# ").or_else(|| line.strip_prefix("## ")) {
                sections.push((name.to_owned(), Vec::new()));
            } else if let Some((_, blocks)) = sections.last_mut() {
                add(blocks, line, is_new);
            } else {
                assert!(line.is_empty(), "before the first section: {line}");
            }
            is_new = line.is_empty();
        }
        for (_, blocks) in &mut sections {
            trim(blocks);
        }
        Self { sections }
    }

    /// What stands in a section, or below a flag; nothing where there is none.
    pub(crate) fn section(&self, name: &str) -> &[Block] {
        self.sections.iter().find(|(known, _)| known == name).map_or(&[], |(_, blocks)| blocks)
    }

    /// The flags that more is told about.
    pub(crate) fn flags(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().filter_map(|(name, _)| name.strip_prefix("--"))
    }

    /// The pages that it refers to.
    pub(crate) fn see_also(&self) -> Vec<String> {
        let blocks = self.section("SEE ALSO").iter();
        let pages = blocks.map(|block| match block {
            Block::Text(text) => text.split(", ").map(str::to_owned).collect::<Vec<_>>(),
            other => panic!("SEE ALSO: {other:?}"),
        });
        pages.flatten().collect()
    }
}

fn add(blocks: &mut Vec<Block>, line: &str, is_new: bool) {
    match (blocks.last_mut(), line.strip_prefix("    ")) {
        (Some(Block::Code(lines)), Some(code)) => lines.push(code.to_owned()),
        // Between two lines of code, or after the last: see `trim`.
        (Some(Block::Code(lines)), None) if line.is_empty() => lines.push(String::new()),
        (_, Some(code)) => blocks.push(Block::Code(vec![code.to_owned()])),
        (_, None) if line.is_empty() => {}
        (_, None) if line.starts_with("- ") => {
            let (term, told) = line.trim_start_matches("- ").split_once(": ").expect("- term: text");
            blocks.push(Block::Item(term.to_owned(), told.to_owned()));
        }
        (Some(Block::Text(text)), None) if !is_new => {
            text.push(' ');
            text.push_str(line);
        }
        _ => blocks.push(Block::Text(line.to_owned())),
    }
}

fn trim(blocks: &mut [Block]) {
    for block in blocks {
        if let Block::Code(lines) = block {
            while lines.last().is_some_and(String::is_empty) {
                lines.pop();
            }
        }
    }
}
