//! Reads the notation of `schema/README.md`.

use crate::model::{Call, Direction, Field, Kind, Message, Scalar, Struct, Versions};

/// Line number and what is wrong with it.
pub(crate) type ParseError = String;

/// A line without its comment and indentation.
struct Line<'a> {
    number: usize,
    indent: usize,
    words: Vec<&'a str>,
}

struct Parser<'a> {
    lines: Vec<Line<'a>>,
    next: usize,
    structs: Vec<Struct>,
}

pub(crate) fn parse(text: &str) -> Result<Call, ParseError> {
    let doc = text
        .lines()
        .take_while(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_owned())
        .collect();
    let mut parser = Parser { lines: lines(text), next: 0, structs: Vec::new() };
    let first = parser.take()?;
    let (key, name) = match first.words.as_slice() {
        ["headers"] => (None, "Header".to_owned()),
        ["api", key, name] => {
            let key =
                key.parse().map_err(|_| format!("{}: {key:?} is no api key", first.number))?;
            (Some(key), (*name).to_owned())
        }
        _ => return Err(format!("{}: expected `api <key> <Name>` or `headers`", first.number)),
    };
    let request = parser.message(Direction::Request, "request", key.is_none(), &name)?;
    let response = parser.message(Direction::Response, "response", key.is_none(), &name)?;
    if let Some(line) = parser.lines.get(parser.next) {
        return Err(format!("{}: nothing may follow the response", line.number));
    }
    let call = Call { key, name, doc, messages: [request, response] };
    // Both messages share a module, so their structures share its names.
    let names: Vec<_> =
        call.messages.iter().flat_map(|message| &message.structs).map(|one| &one.name).collect();
    match names.iter().enumerate().find(|(position, name)| names[..*position].contains(name)) {
        Some((_, name)) => Err(format!("0: two structures are named {name}")),
        None => Ok(call),
    }
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    for (position, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<_> = line.split_whitespace().collect();
        if !words.is_empty() {
            let indent = line.len() - line.trim_start().len();
            lines.push(Line { number: position + 1, indent, words });
        }
    }
    lines
}

impl<'a> Parser<'a> {
    fn take(&mut self) -> Result<Line<'a>, ParseError> {
        let line = self.lines.get(self.next).ok_or("0: the file ends too early")?;
        self.next += 1;
        Ok(Line { number: line.number, indent: line.indent, words: line.words.clone() })
    }

    fn message(
        &mut self,
        direction: Direction,
        keyword: &str,
        is_header: bool,
        name: &str,
    ) -> Result<Message, ParseError> {
        let line = self.take()?;
        let fail = || format!("{}: expected `{keyword} <versions> [flexible <n>+]`", line.number);
        let everything = Versions { from: 0, to: i16::MAX };
        let (versions, flexible_from) = match line.words.as_slice() {
            [word, range] if *word == keyword => (range, None),
            [word, range, "flexible", from] if *word == keyword => {
                (range, Some(versions_of(from, everything).ok_or_else(fail)?.from))
            }
            _ => return Err(fail()),
        };
        let versions = versions_of(versions, everything).ok_or_else(fail)?;
        let name = match is_header {
            true => format!("{}Header", direction.suffix()),
            false => format!("{name}{}", direction.suffix()),
        };
        self.structure(name, line.indent, versions)?;
        Ok(Message {
            direction,
            versions,
            flexible_from,
            structs: std::mem::take(&mut self.structs),
        })
    }

    /// Reads the fields that are indented deeper than `indent` and keeps them as the structure `name`.
    fn structure(
        &mut self,
        name: String,
        indent: usize,
        versions: Versions,
    ) -> Result<(), ParseError> {
        let position = self.structs.len();
        self.structs.push(Struct { name, versions, fields: Vec::new() });
        let mut level = None;
        while let Some(next) = self.lines.get(self.next).filter(|next| next.indent > indent) {
            if *level.get_or_insert(next.indent) != next.indent {
                return Err(format!("{}: uneven indentation", next.number));
            }
            let line = self.take()?;
            let field = self.field(&line, versions)?;
            self.structs[position].fields.push(field);
        }
        Ok(())
    }

    fn field(&mut self, line: &Line<'a>, outer: Versions) -> Result<Field, ParseError> {
        let fail = |what: &str| format!("{}: {what}", line.number);
        let [name, kind, rest @ ..] = line.words.as_slice() else {
            return Err(fail("expected `name type`"));
        };
        let mut rest = rest;
        let mut versions = outer;
        if let [first, more @ ..] = rest
            && first.starts_with(|character: char| character.is_ascii_digit())
        {
            versions = versions_of(first, outer).ok_or_else(|| fail("bad versions"))?;
            rest = more;
        }
        let kind = self.kind(kind, line, versions)?;
        let mut field = Field {
            name: (*name).to_owned(),
            kind,
            versions,
            nullable: None,
            tag: None,
            default: None,
            ignorable: false,
            classic: false,
        };
        attributes(&mut field, rest).map_err(|error| fail(&error))?;
        Ok(field)
    }

    fn kind(
        &mut self,
        word: &str,
        line: &Line<'_>,
        versions: Versions,
    ) -> Result<Kind, ParseError> {
        if let Some(inner) = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
            return Ok(Kind::Array(Box::new(self.kind(inner, line, versions)?)));
        }
        if let Some(scalar) = Scalar::from_word(word) {
            return Ok(Kind::Scalar(scalar));
        }
        let has_fields = self.lines.get(self.next).is_some_and(|next| next.indent > line.indent);
        let known = self.structs.iter().any(|known| known.name == word);
        match (has_fields, known) {
            (true, false) => self.structure(word.to_owned(), line.indent, versions)?,
            (false, true) => {}
            (true, true) => return Err(format!("{}: {word} has fields already", line.number)),
            (false, false) => return Err(format!("{}: unknown type {word}", line.number)),
        }
        Ok(Kind::Struct(word.to_owned()))
    }
}

fn attributes(field: &mut Field, mut words: &[&str]) -> Result<(), String> {
    while let [word, rest @ ..] = words {
        words = rest;
        match (*word, rest) {
            ("null", [range, rest @ ..]) if range.starts_with(|c: char| c.is_ascii_digit()) => {
                let range = versions_of(range, field.versions).ok_or("bad versions of `null`")?;
                field.nullable = Some(range);
                words = rest;
            }
            ("null", _) => field.nullable = Some(field.versions),
            ("default", [value, rest @ ..]) => {
                field.default = Some((*value).to_owned());
                words = rest;
            }
            ("tag", [tag, rest @ ..]) => {
                field.tag = Some(tag.parse().map_err(|_| format!("bad tag {tag}"))?);
                words = rest;
            }
            ("ignorable", _) => field.ignorable = true,
            ("classic", _) => field.classic = true,
            _ => return Err(format!("unknown word {word}")),
        }
    }
    Ok(())
}

/// `5`, `3-7` or `3+` within `outer`.
fn versions_of(word: &str, outer: Versions) -> Option<Versions> {
    let versions = match (word.strip_suffix('+'), word.split_once('-')) {
        (Some(from), _) => Versions { from: from.parse().ok()?, to: outer.to },
        (None, Some((from, to))) => Versions { from: from.parse().ok()?, to: to.parse().ok()? },
        (None, None) => Versions { from: word.parse().ok()?, to: word.parse().ok()? },
    };
    (versions.from <= versions.to && outer.contains(versions)).then_some(versions)
}
