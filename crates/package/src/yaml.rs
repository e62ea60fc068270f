//! YAML as a tree that knows its lines.
//!
//! The parser gives events with their places; the tree is ours, because a text from a stranger may name one list a
//! thousand times in a list that is named a thousand times: what aliases add up to is counted, and bounded, and so is what
//! is kept for them. The same reader takes JSON, which YAML contains.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use crate::error::Error;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    /// `!args` without its mark; none for what has no tag, or one of YAML's own.
    pub(crate) tag: Option<String>,
    /// From 1 on.
    pub(crate) line: usize,
    /// From 1 on.
    pub(crate) column: usize,
}

/// What stands there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// A text, and whether it stands without quotes: then it may be a number, a truth or nothing.
    Scalar {
        text: String,
        is_plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// Values in one document, with what aliases repeat.
const MOST: usize = 100_000;
/// Lists within lists.
const DEEPEST: usize = 64;

impl Node {
    /// Reads one document.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Error::invalid(format!("1:1: byte {} is not UTF-8", error.valid_up_to())))?;
        let mut builder = Builder::default();
        let mut root = None;
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                let (line, column) = (error.marker().line(), error.marker().col() + 1);
                Error::invalid(format!("{line}:{column}: {}", spec::quoted(error.info()).trim_matches('"')))
            })?;
            let whole = builder.take(event, span)?;
            if let Some(node) = whole
                && root.replace(node).is_some()
            {
                return Err(Error::invalid("1:1: holds a second document"));
            }
        }
        root.ok_or_else(|| Error::invalid("1:1: is empty"))
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether it is `null`, as YAML writes it.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, is_plain: true } if ["", "~", "null", "Null", "NULL"].contains(&text.as_str()))
    }

    /// What a person calls it.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "nothing",
            Value::Scalar { .. } => "a word or a number",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// What has begun and not ended.
#[derive(Debug, Default)]
struct Builder {
    open: Vec<Open>,
    /// Whole values by the number of their anchor, with how many they are.
    anchors: BTreeMap<usize, (Node, usize)>,
    count: usize,
    /// The values that anchors keep: one within another keeps its own once more.
    kept: usize,
}

#[derive(Debug)]
struct Open {
    node: Node,
    anchor: usize,
    /// Values counted when it began.
    before: usize,
    /// A key whose value is due.
    key: Option<Node>,
    /// The keys of a map so far.
    keys: BTreeSet<String>,
}

impl Builder {
    /// One event; the document, when it is whole.
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<Option<Node>, Error> {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        let refused = |what: &str| Err(Error::invalid(format!("{line}:{column}: {what}")));
        let node = |value, tag: Option<std::borrow::Cow<'_, Tag>>| Node {
            value,
            tag: local(tag.as_deref()),
            line,
            column,
        };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                let before = self.count;
                self.grow(1, line)?;
                self.put(node(Value::Scalar { text: text.into_owned(), is_plain }, tag), anchor, before)
            }
            Event::SequenceStart(anchor, tag) => self.begin(node(Value::List(Vec::new()), tag), anchor),
            Event::MappingStart(anchor, tag) => self.begin(node(Value::Map(Vec::new()), tag), anchor),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.put(open.node, open.anchor, open.before),
                None => refused("an end without a beginning"),
            },
            Event::Alias(anchor) => {
                let Some(size) = self.anchors.get(&anchor).map(|(_, size)| *size) else {
                    return refused("an alias for what is not whole yet");
                };
                let before = self.count;
                self.grow(size, line)?;
                let node = self.anchors.get(&anchor).map(|(node, _)| Node { line, column, ..node.clone() });
                node.map_or(Ok(None), |node| self.put(node, 0, before))
            }
            _ => Ok(None),
        }
    }

    fn begin(&mut self, node: Node, anchor: usize) -> Result<Option<Node>, Error> {
        let before = self.count;
        self.grow(1, node.line)?;
        if self.open.len() == DEEPEST {
            return Err(Error::invalid(format!("{}:{}: more than {DEEPEST} levels", node.line, node.column)));
        }
        self.open.push(Open { node, anchor, before, key: None, keys: BTreeSet::new() });
        Ok(None)
    }

    fn grow(&mut self, by: usize, line: usize) -> Result<(), Error> {
        self.count += by;
        if self.count > MOST {
            return Err(Error::invalid(format!(
                "{line}: more than {MOST} values, with those that aliases repeat"
            )));
        }
        Ok(())
    }

    /// A whole value goes where it belongs.
    fn put(&mut self, node: Node, anchor: usize, before: usize) -> Result<Option<Node>, Error> {
        if anchor != 0 {
            let size = self.count - before;
            self.kept += size;
            if self.kept > MOST {
                let (line, column) = (node.line, node.column);
                return Err(Error::invalid(format!(
                    "{line}:{column}: anchors within anchors, of more than {MOST} values"
                )));
            }
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.open.last_mut() else { return Ok(Some(node)) };
        match (&mut open.node.value, open.key.take()) {
            (Value::List(list), _) => list.push(node),
            (Value::Map(map), Some(key)) => map.push((key, node)),
            (Value::Map(_), None) => {
                if let Some(text) = node.text()
                    && !open.keys.insert(text.to_owned())
                {
                    let key = spec::quoted(text);
                    return Err(Error::invalid(format!(
                        "{}:{}: {key} stands there twice",
                        node.line, node.column
                    )));
                }
                open.key = Some(node);
            }
            (Value::Scalar { .. }, _) => {}
        }
        Ok(None)
    }
}

/// A tag of the document's own, such as `!args`.
fn local(tag: Option<&Tag>) -> Option<String> {
    tag.filter(|tag| tag.handle == "!").map(|tag| tag.suffix.clone())
}
