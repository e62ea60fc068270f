//! Reading a tree by its fields, so that what is wrong is told with its line, its column and its path.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::Error;
use crate::size::size;
use crate::yaml::{Node, Value};

/// The longest time that is taken for one.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// A value, with the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Field<'a> {
    node: &'a Node,
    path: String,
}

/// A map with names for its fields.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    field: Field<'a>,
    entries: BTreeMap<&'a str, &'a Node>,
}

impl<'a> Field<'a> {
    /// The whole document.
    pub(crate) fn root(node: &'a Node) -> Self {
        Self { node, path: String::new() }
    }

    /// What is wrong with it: `12:3: mounts./lib.host: is missing`.
    pub(crate) fn wrong(&self, what: impl std::fmt::Display) -> Error {
        let Node { line, column, .. } = self.node;
        let path = self.path.trim_start_matches('.');
        Error::invalid(match path {
            "" => format!("{line}:{column}: {what}"),
            path => format!("{line}:{column}: {path}: {what}"),
        })
    }

    fn child(&self, node: &'a Node, step: &str) -> Self {
        Self { node, path: format!("{}{step}", self.path) }
    }

    /// A text: quoted, or nothing else that YAML knows without quotes. No text holds a NUL.
    pub(crate) fn text(&self) -> Result<&'a str, Error> {
        let Value::Scalar { text, is_plain } = &self.node.value else {
            return Err(self.wrong(format!("a text is due, and this is {}", self.node.kind())));
        };
        if *is_plain && is_other(text) {
            return Err(self.wrong(format!("a text is due: {text} is none without quotes")));
        }
        if text.contains('\0') {
            return Err(self.wrong("holds a NUL"));
        }
        Ok(text)
    }

    /// A text that may look like a number: `cpus: 0` means `cpus: "0"`.
    pub(crate) fn text_or_number(&self) -> Result<String, Error> {
        match self.node.text() {
            Some(text) if !self.node.is_null() && !text.contains('\0') => Ok(text.to_owned()),
            _ => Err(self.wrong("a text is due")),
        }
    }

    /// A text of so many bytes.
    pub(crate) fn text_of(&self, length: RangeInclusive<usize>) -> Result<&'a str, Error> {
        let text = self.text()?;
        if length.contains(&text.len()) {
            return Ok(text);
        }
        Err(self.wrong(format!(
            "has {} bytes; {} to {} are allowed",
            text.len(),
            length.start(),
            length.end()
        )))
    }

    /// A name: letters, digits, `.`, `_` and `-`; no other way to say a directory.
    pub(crate) fn name(&self) -> Result<&'a str, Error> {
        let name = self.text_of(1..=1024)?;
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return Err(self.wrong(format!(
                "{} holds more than letters, digits, \".\", \"_\" and \"-\"",
                spec::quoted(name)
            )));
        }
        if [".", ".."].contains(&name) {
            return Err(self.wrong(format!("{name:?} names a directory, and no package")));
        }
        Ok(name)
    }

    /// An absolute path that leads nowhere but down.
    pub(crate) fn path(&self) -> Result<&'a str, Error> {
        let path = self.text_of(1..=4096)?;
        self.check_path(path)?;
        Ok(path)
    }

    /// See [`Field::path`].
    pub(crate) fn check_path(&self, path: &str) -> Result<(), Error> {
        if !path.starts_with('/') {
            return Err(self.wrong(format!("{} is not absolute", spec::quoted(path))));
        }
        if path.split('/').any(|part| part == "..") {
            return Err(self.wrong(format!("{} leads upwards", spec::quoted(path))));
        }
        Ok(())
    }

    /// One of these words.
    pub(crate) fn word<'w>(&self, words: &[&'w str]) -> Result<&'w str, Error> {
        let text = self.text()?;
        let found = words.iter().find(|word| **word == text);
        found
            .copied()
            .ok_or_else(|| self.wrong(format!("{} is none of {}", spec::quoted(text), words.join(", "))))
    }

    /// A whole number, decimal, or by `0x`, `0o` or `0b`.
    pub(crate) fn number<T: TryFrom<i128>>(&self) -> Result<T, Error> {
        let number =
            self.node.text().filter(|_| self.node.tag.is_none() && self.is_plain()).and_then(integer);
        let number = number.ok_or_else(|| self.wrong("a whole number is due"))?;
        T::try_from(number).map_err(|_| self.wrong(format!("{number} is out of range")))
    }

    /// A whole number in a range.
    pub(crate) fn number_in<T>(&self, range: RangeInclusive<T>) -> Result<T, Error>
    where
        T: TryFrom<i128> + PartialOrd + std::fmt::Display,
    {
        let number = self.number()?;
        if range.contains(&number) {
            return Ok(number);
        }
        Err(self.wrong(format!("{number} is not within {} and {}", range.start(), range.end())))
    }

    /// Yes or no.
    pub(crate) fn truth(&self) -> Result<bool, Error> {
        match self.node.text().filter(|_| self.is_plain()) {
            Some("true" | "True" | "TRUE") => Ok(true),
            Some("false" | "False" | "FALSE") => Ok(false),
            _ => Err(self.wrong("true or false is due")),
        }
    }

    /// A number of bytes: a number, or one with a unit, `20M` being a thousand thousands and `20Mi` 1024 times 1024.
    pub(crate) fn size(&self) -> Result<u64, Error> {
        let text = self.node.text().ok_or_else(|| self.wrong("a size is due"))?;
        size(text).ok_or_else(|| {
            self.wrong(format!("{} is no size, such as 4096, 20M or 20MiB", spec::quoted(text)))
        })
    }

    /// A length of time: numbers with units, `500ms`, `10s`, `1h 30m`.
    pub(crate) fn duration(&self) -> Result<Duration, Error> {
        let text = self.node.text().ok_or_else(|| self.wrong("a length of time is due"))?;
        let time = humantime::parse_duration(text).map_err(|_| {
            self.wrong(format!("{} is no length of time, such as 500ms, 10s or 5m", spec::quoted(text)))
        })?;
        // Whoever adds it to a time of his need not think of an end of all times.
        if time > LONGEST {
            return Err(self.wrong(format!("{} is longer than 365 days", spec::quoted(text))));
        }
        Ok(time)
    }

    fn is_plain(&self) -> bool {
        matches!(self.node.value, Value::Scalar { is_plain: true, .. })
    }

    /// Whether it is a map.
    pub(crate) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// The items of a list.
    pub(crate) fn list(&self) -> Result<Vec<Field<'a>>, Error> {
        let Value::List(items) = &self.node.value else {
            return Err(self.wrong(format!("a list is due, and this is {}", self.node.kind())));
        };
        Ok(items.iter().enumerate().map(|(index, item)| self.child(item, &format!("[{index}]"))).collect())
    }

    /// The entries of a map whose keys are data.
    pub(crate) fn entries(&self) -> Result<Vec<(&'a str, Field<'a>)>, Error> {
        let Value::Map(entries) = &self.node.value else {
            return Err(self.wrong(format!("a map is due, and this is {}", self.node.kind())));
        };
        let entry = |(key, value): &'a (Node, Node)| {
            let name = self.child(key, "").text()?;
            Ok((name, self.child(value, &spec::step(name))))
        };
        entries.iter().map(entry).collect()
    }

    /// A map of these fields and no others; of any others where `known` is empty.
    pub(crate) fn object(&self, known: &[&str]) -> Result<Object<'a>, Error> {
        let mut entries = BTreeMap::new();
        for (name, field) in self.entries()? {
            if !known.is_empty() && !known.contains(&name) {
                return Err(field.wrong(format!("no such field; there are {}", known.join(", "))));
            }
            entries.insert(name, field.node);
        }
        Ok(Object { field: self.clone(), entries })
    }

    /// One of several forms: a bare word, a value with a tag (`!fifo {priority: 3}`), or, as JSON has it, a map with
    /// the form as its only key. The value of a bare word is none.
    pub(crate) fn form(&self) -> Result<(&'a str, Option<Field<'a>>), Error> {
        if let Some(tag) = &self.node.tag {
            let is_bare = self.node.is_null();
            return Ok((tag, (!is_bare).then(|| self.child(self.node, &spec::step(tag)))));
        }
        match &self.node.value {
            Value::Map(entries) if entries.len() == 1 => {
                let (name, value) = self.entries()?.swap_remove(0);
                Ok((name, Some(value)))
            }
            _ => Ok((self.text()?, None)),
        }
    }
}

impl<'a> Object<'a> {
    /// A field that may be missing; `null` is as good as missing.
    pub(crate) fn find(&self, name: &str) -> Option<Field<'a>> {
        let node = self.entries.get(name).filter(|node| !node.is_null())?;
        Some(self.field.child(node, &spec::step(name)))
    }

    /// A field that must be there.
    pub(crate) fn need(&self, name: &str) -> Result<Field<'a>, Error> {
        self.find(name).ok_or_else(|| self.field.wrong(format!("the field {name:?} is missing")))
    }

    /// A field that may be missing, read.
    pub(crate) fn maybe<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Field<'a>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        self.find(name).map(|field| read(&field)).transpose()
    }
}

/// Whether YAML takes a text without quotes for something else than a text.
fn is_other(text: &str) -> bool {
    const WORDS: [&str; 11] =
        ["", "~", "null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE"];
    WORDS.contains(&text) || integer(text).is_some() || float(text).is_some()
}

/// The number that a text without quotes is.
pub(crate) fn float(text: &str) -> Option<f64> {
    let begins = text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    begins.then(|| text.parse().ok()).flatten()
}

/// The whole number that a text without quotes is.
pub(crate) fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (base, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ => (10, digits),
    };
    // `from_str_radix` takes a sign of its own.
    digits.starts_with(|first: char| first.is_ascii_hexdigit()).then_some(())?;
    i128::from_str_radix(digits, base).ok().map(|number| sign * number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_from_texts() {
        for (text, is) in
            [("0o660", Some(432)), ("0x10", Some(16)), ("-5", Some(-5)), ("0.0.1", None), ("+-5", None)]
        {
            assert_eq!(integer(text), is, "{text}");
        }
        assert!(
            is_other("1e3") && is_other(".5") && !is_other("0.0.1") && !is_other("nan") && !is_other("..")
        );
    }
}
