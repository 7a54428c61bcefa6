//! Subscriptions by regular expression, resolved here and not by the clients (KIP-848).
//!
//! Kafka says RE2 syntax, and that the whole name must match. The expressions of the `regex` crate are close to it: linear time, no
//! back-references, no look-around, the same groups, flags, repetitions and POSIX classes. What differs:
//!
//! - Nested classes and set operations inside brackets (`[a-z&&[^x]]`) mean something here; RE2 reads `[`, `&&`, `--` and `~~` there literally.
//! - Unicode classes (`\pL`) are refused, since topic names are ASCII; `\C` is refused as well.
//! - `\Q...\E` is turned into escaped characters before the rest is read.
//! - An expression is limited in length and in the size of its automaton. RE2 has such limits, but others.
//!
//! Internal topics match like others, as they do in Kafka.

use regex::bytes::{Regex, RegexBuilder};

use thalweg_types::TopicName;

/// Longest expression. Topic names have 249 characters, so an alternative of some of them still fits.
pub const REGEX_BYTES_MAX: usize = 4_096;

/// Largest automaton, and largest memory of its lazily built table: bounds what matching one name may cost.
const PROGRAM_BYTES_MAX: usize = 64 * 1024;
const TABLE_BYTES_MAX: usize = 256 * 1024;

/// Deepest nesting of groups: the parser recurses.
const NESTING_MAX: u32 = 50;

/// A compiled expression.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Regex);

/// The expression is not valid, or too large.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPattern {
    #[error("an expression has at most {REGEX_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    #[error("{0}")]
    Syntax(String),
}

impl Pattern {
    pub(crate) fn new(expression: &str) -> Result<Self, InvalidPattern> {
        if expression.len() > REGEX_BYTES_MAX {
            return Err(InvalidPattern::TooLong(expression.len()));
        }
        let unquoted = unquote(expression);
        // Compiled alone first: an expression that closes the group around it would be valid inside it.
        compile(&unquoted)?;
        compile(&format!(r"\A(?:{unquoted})\z")).map(Self)
    }

    pub(crate) fn matches(&self, name: &TopicName) -> bool {
        self.0.is_match(name.as_str().as_bytes())
    }
}

fn compile(expression: &str) -> Result<Regex, InvalidPattern> {
    RegexBuilder::new(expression)
        .unicode(false)
        .nest_limit(NESTING_MAX)
        .size_limit(PROGRAM_BYTES_MAX)
        .dfa_size_limit(TABLE_BYTES_MAX)
        .build()
        // The last line says what is wrong; those before it draw where, which is lost in a message.
        .map_err(|error| {
            let text = error.to_string();
            InvalidPattern::Syntax(text.lines().last().unwrap_or("invalid").to_owned())
        })
}

/// The expression with what stands between `\Q` and `\E`, or the end, escaped.
fn unquote(expression: &str) -> String {
    let mut unquoted = String::with_capacity(expression.len());
    let mut rest = expression;
    while let Some(place) = rest.find('\\') {
        let (before, escape) = rest.split_at(place);
        unquoted.push_str(before);
        if let Some(quoted) = escape.strip_prefix(r"\Q") {
            let (literal, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            unquoted.push_str(&regex::escape(literal));
            rest = after;
        } else {
            let next = escape.char_indices().nth(2).map_or(escape.len(), |(next, _)| next);
            let (escaped, after) = escape.split_at(next);
            unquoted.push_str(escaped);
            rest = after;
        }
    }
    unquoted + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expression: &str, name: &str) -> bool {
        Pattern::new(expression).unwrap().matches(&TopicName::new(name).unwrap())
    }

    #[test]
    fn the_whole_name_must_match() {
        assert!(matches("foo", "foo") && !matches("foo", "foobar") && !matches("foo", "afoo"));
        assert!(matches("foo.*", "foobar") && matches("a|foo", "foo"));
        assert!(matches("(?i)FOO", "foo") && matches("[[:alpha:]]+", "foo"));
        assert!(matches(r"t-\d+", "t-12") && !matches(r"t-\d+", "t-x"));
        assert!(matches("a|ab", "ab"), "the shorter alternative does not decide");
    }

    #[test]
    fn quoted_text_is_literal() {
        assert!(matches(r"\Qa.b\E.*", "a.bc") && !matches(r"\Qa.b\E.*", "axbc"));
        assert!(matches(r"x\Q.y", "x.y") && !matches(r"x\Q.y", "xzy"));
        assert!(matches(r"a\.b", "a.b") && !matches(r"\\Qa", "a"));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for expression in ["(", "[a", "a)|(b", "*", r"(a)\1", "(?=a)", r"\pL", r"\", "(?x)a#"] {
            assert!(Pattern::new(expression).is_err(), "{expression}");
        }
    }

    #[test]
    fn what_costs_too_much_is_refused() {
        for expression in ["((a{100}){100}){100}", "(?:a?){60000}"] {
            assert!(Pattern::new(expression).is_err(), "{expression}");
        }
        assert!(Pattern::new(&"(".repeat(2_000)).is_err());
        assert_eq!(
            Pattern::new(&"a".repeat(REGEX_BYTES_MAX + 1)).err(),
            Some(InvalidPattern::TooLong(REGEX_BYTES_MAX + 1))
        );
        assert!(Pattern::new(&"a".repeat(300)).is_ok());
        let alternatives = vec!["abcdefghij-0123456789.*"; 20].join("|");
        assert!(Pattern::new(&alternatives).is_ok());
    }
}
