//! Values in the text form of GVariant, as annotations have them: `'text'`, `true`, `uint64 5`, `['a', 'b']`, `@as []`.

use dbus::Value;

/// A value whose type is not settled yet: without a word about it, a number is of 32 bits.
#[derive(Clone, Debug, PartialEq)]
enum Term {
    Bool(bool),
    Number(i128),
    Fraction(f64),
    Text(String),
    Bytes(Vec<u8>),
    Array(Vec<Term>),
    Tuple(Vec<Term>),
    Typed(String, Box<Term>),
}

/// The words for types.
const TYPES: [(&str, &str); 13] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("handle", "h"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

/// Brackets may lie in each other so deep.
const DEEPEST: usize = 16;

/// The value that a text means.
pub(super) fn value(text: &str) -> Result<Value, String> {
    settled(&term(text)?, None)
}

/// A number of seconds as the microseconds that they are.
pub(super) fn microseconds(text: &str) -> Result<Value, String> {
    let mut term = term(text)?;
    while let Term::Typed(_, inner) = term {
        term = *inner;
    }
    let wrong = || format!("{text}: is no number of seconds");
    let microseconds = match term {
        Term::Number(seconds) => seconds.checked_mul(1_000_000).and_then(|number| u64::try_from(number).ok()),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is looked at")]
        Term::Fraction(seconds) => {
            Some(seconds * 1e6).filter(|all| (0.0..1e18).contains(all)).map(|all| all as u64)
        }
        _ => None,
    };
    microseconds.map(Value::Uint64).ok_or_else(wrong)
}

fn term(text: &str) -> Result<Term, String> {
    let mut words = Words { rest: text };
    let term = words.term(0).ok_or_else(|| format!("{text}: is no value in the text form of GVariant"))?;
    if words.trimmed().is_empty() { Ok(term) } else { Err(format!("{text}: more than one value")) }
}

struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn trimmed(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn eat(&mut self, word: &str) -> bool {
        match self.trimmed().strip_prefix(word) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn term(&mut self, depth: usize) -> Option<Term> {
        if depth > DEEPEST {
            return None;
        }
        if self.eat("@") {
            let (signature, rest) = self.rest.split_once(char::is_whitespace)?;
            self.rest = rest;
            return Some(Term::Typed(signature.to_owned(), Box::new(self.term(depth + 1)?)));
        }
        if self.eat("[") {
            return self.list("]", depth).map(Term::Array);
        }
        if self.eat("(") {
            return self.list(")", depth).map(Term::Tuple);
        }
        for quote in ['\'', '"'] {
            if self.eat(&format!("b{quote}")) {
                // GVariant's byte strings end with a zero.
                let mut bytes = self.quoted(quote)?.into_bytes();
                bytes.push(0);
                return Some(Term::Bytes(bytes));
            }
            if self.eat(&quote.to_string()) {
                return self.quoted(quote).map(Term::Text);
            }
        }
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || "+-._".contains(letter);
        let rest = self.trimmed();
        let end = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.rest = rest;
        match word {
            "true" => Some(Term::Bool(true)),
            "false" => Some(Term::Bool(false)),
            _ => match TYPES.iter().find(|(name, _)| *name == word) {
                Some((_, signature)) => {
                    Some(Term::Typed((*signature).to_owned(), Box::new(self.term(depth + 1)?)))
                }
                None => number(word),
            },
        }
    }

    /// A text up to its quote, with what backslashes say.
    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut letters = self.rest.char_indices();
        let mut text = String::new();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => text.push(match letters.next()?.1 {
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    'u' => unicode(&mut letters, 4)?,
                    'U' => unicode(&mut letters, 8)?,
                    plain => plain,
                }),
                letter if letter == quote => {
                    self.rest = self.rest.get(at + 1..)?;
                    return Some(text).filter(|text| !text.contains('\0'));
                }
                letter => text.push(letter),
            }
        }
        None
    }

    fn list(&mut self, end: &str, depth: usize) -> Option<Vec<Term>> {
        let mut list = Vec::new();
        loop {
            if self.eat(end) {
                return Some(list);
            }
            list.push(self.term(depth + 1)?);
            if !self.eat(",") && !self.trimmed().starts_with(end) {
                return None;
            }
        }
    }
}

fn unicode(letters: &mut impl Iterator<Item = (usize, char)>, digits: usize) -> Option<char> {
    let mut number = 0;
    for _ in 0..digits {
        number = number * 16 + letters.next()?.1.to_digit(16)?;
    }
    char::from_u32(number)
}

/// A number as C writes it.
fn number(word: &str) -> Option<Term> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word.strip_prefix('+').unwrap_or(word)),
    };
    let whole = match digits.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16),
        None if digits.len() > 1
            && digits.bytes().all(|digit| digit.is_ascii_digit())
            && digits.starts_with('0') =>
        {
            i128::from_str_radix(digits, 8)
        }
        None => digits.parse(),
    };
    if !digits.starts_with(|digit: char| digit.is_ascii_digit()) {
        return None;
    }
    match whole {
        Ok(number) => number.checked_mul(sign).map(Term::Number),
        Err(_) => word.parse().ok().filter(|number: &f64| number.is_finite()).map(Term::Fraction),
    }
}

/// A term with the type that is wanted of it, or the one that it has by itself.
fn settled(term: &Term, wanted: Option<&str>) -> Result<Value, String> {
    let unfit = || format!("{term:?} is not of the type {:?}", wanted.unwrap_or_default());
    let fits = |signature: &str| wanted.is_none_or(|wanted| wanted == signature);
    match term {
        Term::Typed(signature, inner) if fits(signature) => settled(inner, Some(signature)),
        Term::Bool(value) if fits("b") => Ok(Value::Bool(*value)),
        Term::Number(number) => numbered(*number, wanted.unwrap_or("i")).ok_or_else(unfit),
        Term::Fraction(number) if fits("d") => Ok(Value::Double(number.to_bits())),
        Term::Text(text) => match wanted.unwrap_or("s") {
            "s" => Ok(Value::Text(text.clone())),
            "o" if text.starts_with('/') => Ok(Value::Path(text.clone())),
            _ => Err(unfit()),
        },
        Term::Bytes(bytes) if fits("ay") => Ok(Value::bytes(bytes)),
        Term::Array(terms) => {
            let element = match (wanted, terms.first()) {
                (Some(wanted), _) => wanted.strip_prefix('a').ok_or_else(unfit)?.to_owned(),
                (None, Some(first)) => settled(first, None)?.signature(),
                (None, None) => return Err("an empty array needs a type, as in @as []".into()),
            };
            let values = terms.iter().map(|term| settled(term, Some(&element))).collect::<Result<_, _>>()?;
            Ok(Value::Array(element, values))
        }
        Term::Tuple(terms) => {
            let mut wanted = wanted.map(|wanted| wanted.strip_prefix('(').ok_or_else(unfit)).transpose()?;
            let mut fields = Vec::with_capacity(terms.len());
            for term in terms {
                // The types in a structure of an annotation are letters, or arrays of letters.
                let field = wanted
                    .map(|types| types.split_at(if types.starts_with('a') { 2 } else { 1 }.min(types.len())));
                fields.push(settled(term, field.map(|(one, _)| one))?);
                wanted = field.map(|(_, rest)| rest);
            }
            match wanted {
                None | Some(")") if !fields.is_empty() => Ok(Value::Struct(fields)),
                _ => Err(unfit()),
            }
        }
        _ => Err(unfit()),
    }
}

fn numbered(number: i128, signature: &str) -> Option<Value> {
    Some(match signature {
        "y" => Value::Byte(number.try_into().ok()?),
        "n" => Value::Int16(number.try_into().ok()?),
        "q" => Value::Uint16(number.try_into().ok()?),
        "i" => Value::Int32(number.try_into().ok()?),
        "u" => Value::Uint32(number.try_into().ok()?),
        "x" => Value::Int64(number.try_into().ok()?),
        "t" => Value::Uint64(number.try_into().ok()?),
        #[allow(clippy::cast_precision_loss, reason = "what a fraction is")]
        "d" => Value::Double((number as f64).to_bits()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_of_the_type_that_their_text_says() {
        for (text, signature, shown) in [
            ("'inactive-or-failed'", "s", "inactive-or-failed"),
            ("\"a\\n\\u00e9'\"", "s", "a\n\u{e9}'"),
            ("true", "b", "true"),
            ("5", "i", "5"),
            ("uint64 5", "t", "5"),
            ("@t 0x10", "t", "16"),
            ("int64 -1", "x", "-1"),
            ("byte 010", "y", "8"),
            ("1.5", "d", "1.5"),
            ("objectpath '/a'", "o", "/a"),
            ("['a', \"b\"]", "as", "[a, b]"),
            ("[uint64 1, 2]", "at", "[1, 2]"),
            ("@as []", "as", "[]"),
            ("@a(st) [('/dev/sda', 7)]", "a(st)", "[/dev/sda 7]"),
            ("('a', true, @at [1])", "(sbat)", "a true [1]"),
            ("b'ab'", "ay", "0x006261"),
            ("  [ 'a' , ]  ", "as", "[a]"),
        ] {
            let value = value(text).map(|value| (value.signature(), value.to_string()));
            assert_eq!(value, Ok((signature.into(), shown.into())), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "",
            "a",
            "'a",
            "'a' 'b'",
            "[]",
            "['a', 1]",
            "byte 256",
            "uint64 -1",
            "5000000000",
            "@as 5",
            "@s",
            "(1,",
            "()",
            "{}",
            "<1>",
            "@(ss) ('a')",
            "@() ()",
            "'\\",
            "'\\u00'",
            "1e999",
            "--1",
            "+",
            "@t 1.5",
            &"[".repeat(1000),
            &"@a".repeat(1000),
        ] {
            assert!(value(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        for (text, told) in [("5", 5_000_000), ("uint64 1", 1_000_000), ("1.5", 1_500_000), ("int32 0", 0)] {
            assert_eq!(microseconds(text), Ok(Value::Uint64(told)), "{text}");
        }
        for text in ["-1", "'5'", "true", "1e300", "99999999999999999999"] {
            assert!(microseconds(text).is_err(), "{text}");
        }
    }
}
