//! Reads what `{:?}` prints, so that two implementations of one message can be compared field by field and by name, although their types
//! have nothing in common.

use std::fmt::Debug;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    Atom(String),
    List(Vec<Tree>),
    Fields(Vec<(String, Tree)>),
}

pub(crate) fn tree(value: &impl Debug) -> Tree {
    let text = format!("{value:?}");
    let mut parser = Parser { rest: &text };
    let tree = parser.value();
    assert_eq!(parser.rest, "", "all of {text} is understood");
    tree
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn skip(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self) -> Tree {
        if self.skip("[") {
            return Tree::List(self.until("]", Self::value));
        }
        if self.rest.starts_with('"') || self.rest.starts_with("b\"") {
            return Tree::Atom(self.quoted());
        }
        let end = self.rest.find([' ', '(', ',', ')', ']', '}']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if self.skip("(") {
            // `Some(x)` and newtypes alike stand for what is in them.
            let inner = self.value();
            assert!(self.skip(")"), "one value in {word}");
            return inner;
        }
        if self.skip(" { ") {
            return Tree::Fields(self.until(" }", Self::field));
        }
        Tree::Atom(word.to_owned())
    }

    fn field(&mut self) -> (String, Tree) {
        let (name, rest) = self.rest.split_once(": ").expect("a field has a name");
        let name = name.to_owned();
        self.rest = rest;
        if name == "unknown_tagged_fields" {
            assert!(self.skip("{}"), "no unknown tagged fields");
            return (name, Tree::Atom(String::new()));
        }
        (name, self.value())
    }

    fn until<T>(&mut self, end: &str, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let mut items = Vec::new();
        while !self.skip(end) {
            items.push(item(self));
            self.skip(", ");
        }
        items
    }

    fn quoted(&mut self) -> String {
        let open = self.rest.find('"').expect("a quote");
        let mut is_escaped = false;
        for (position, character) in self.rest.char_indices().skip(open + 1) {
            match character {
                '"' if !is_escaped => {
                    let (text, rest) = self.rest.split_at(position + 1);
                    self.rest = rest;
                    return text.to_owned();
                }
                '\\' if !is_escaped => is_escaped = true,
                _ => is_escaped = false,
            }
        }
        panic!("the quote of {} ends", self.rest)
    }
}
