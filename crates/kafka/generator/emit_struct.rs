//! Writes one structure: its fields, defaults, `decode` and `encode`.

use std::fmt::Write as _;

use crate::emit::line;
use crate::model::{Direction, Field, Kind, Message, Scalar, Struct, Versions};

pub(crate) fn structure(out: &mut String, message: &Message, one: &Struct) {
    definition(out, message, one);
    default(out, message, one);
    line!(out, "\n    impl {} {{", one.name);
    decode(out, message, one);
    encode(out, message, one);
    line!(out, "    }}");
}

// ---- definition ----

fn definition(out: &mut String, message: &Message, one: &Struct) {
    line!(out, "\n    /// {}.", capitalized(&versions_text(one.versions, message.versions)));
    let derive_default = if one.fields.iter().all(has_zero_default) { ", Default" } else { "" };
    line!(out, "    #[derive(Debug, Clone, PartialEq{derive_default})]");
    line!(out, "    pub struct {} {{", one.name);
    for field in &one.fields {
        let mut facts = Vec::new();
        if field.versions != one.versions {
            facts.push(versions_text(field.versions, message.versions));
        }
        if let Some(nullable) = field.nullable.filter(|nullable| *nullable != field.versions) {
            facts.push(format!("null in {}", range_text(nullable, message.versions)));
        }
        facts.extend(field.default.as_ref().map(|default| format!("default {default}")));
        facts.extend(field.tag.map(|tag| format!("tagged field {tag}")));
        if !field.ignorable && field.versions != one.versions {
            facts.push("must be at its default in other versions".to_owned());
        }
        if !facts.is_empty() {
            line!(out, "        /// {}.", capitalized(&facts.join("; ")));
        }
        line!(out, "        pub {}: {},", field.name, field_type(field, message.direction));
    }
    line!(out, "    }}");
}

pub(crate) fn field_type(field: &Field, direction: Direction) -> String {
    let plain = kind_type(&field.kind, direction);
    // A response's records are a list of slices: none at all reads as null or empty alike.
    if field.nullable.is_some() && !is_response_records(field, direction) {
        format!("Option<{plain}>")
    } else {
        plain
    }
}

pub(crate) fn is_response_records(field: &Field, direction: Direction) -> bool {
    field.kind == Kind::Scalar(Scalar::Records) && direction == Direction::Response
}

fn kind_type(kind: &Kind, direction: Direction) -> String {
    match kind {
        Kind::Array(inner) => format!("Vec<{}>", kind_type(inner, direction)),
        Kind::Struct(name) => name.clone(),
        Kind::Scalar(Scalar::Uuid) => "Uuid".to_owned(),
        Kind::Scalar(Scalar::String) => "KafkaString".to_owned(),
        Kind::Scalar(Scalar::Bytes) => "Bytes".to_owned(),
        Kind::Scalar(Scalar::Records) => match direction {
            Direction::Request => "BytesMut".to_owned(),
            Direction::Response => "Vec<Bytes>".to_owned(),
        },
        Kind::Scalar(scalar) => scalar.method().to_owned(),
    }
}

fn has_zero_default(field: &Field) -> bool {
    match (&field.default, field.nullable) {
        (Some(text), _) => text == "null",
        (None, nullable) => nullable.is_none() || field.kind == Kind::Scalar(Scalar::Records),
    }
}

fn default(out: &mut String, message: &Message, one: &Struct) {
    if one.fields.iter().all(has_zero_default) {
        return;
    }
    line!(out, "\n    impl Default for {} {{", one.name);
    line!(out, "        fn default() -> Self {{");
    line!(out, "            Self {{");
    for field in &one.fields {
        line!(out, "                {}: {},", field.name, default_value(field, message.direction));
    }
    line!(out, "            }}");
    line!(out, "        }}");
    line!(out, "    }}");
}

fn default_value(field: &Field, direction: Direction) -> String {
    if has_zero_default(field) {
        return match field_type(field, direction).as_str() {
            "bool" => "false".to_owned(),
            "f64" => "0.0".to_owned(),
            "Uuid" => "Uuid::ZERO".to_owned(),
            number if number.starts_with(['i', 'u']) => "0".to_owned(),
            name if name.starts_with("Option<") => "None".to_owned(),
            name if name.starts_with("Vec<") => "Vec::new()".to_owned(),
            "KafkaString" => "KafkaString::default()".to_owned(),
            _ => "Default::default()".to_owned(),
        };
    }
    match &field.default {
        Some(text) if field.kind == Kind::Scalar(Scalar::String) => {
            format!("KafkaString::from(\"{text}\")")
        }
        // The largest and smallest numbers read better by name.
        Some(text) if text == "9223372036854775807" => "i64::MAX".to_owned(),
        Some(text) if text == "2147483647" => "i32::MAX".to_owned(),
        Some(text) if text == "-2147483648" => "i32::MIN".to_owned(),
        Some(text) => text.clone(),
        None => "Some(Default::default())".to_owned(),
    }
}

// ---- decode ----

fn decode(out: &mut String, message: &Message, one: &Struct) {
    let is_message = one.name == message.structs[0].name;
    line!(out, "        /// Reads the fields of `version` from the front of `reader`.");
    line!(
        out,
        "        pub fn decode(version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {{"
    );
    if is_message {
        line!(out, "            Self::VERSIONS.check_decode(version)?;");
    }
    line!(out, "            let flexible = version >= {}::FLEXIBLE_FROM;", message.structs[0].name);
    line!(out, "            let mut value = Self::default();");
    for field in one.fields.iter().filter(|field| field.tag.is_none()) {
        let read = read_field(field, message);
        match condition(field.versions, one.versions) {
            Some(condition) => {
                line!(out, "            if {condition} {{");
                line!(out, "                value.{} = {read};", field.name);
                line!(out, "            }}");
            }
            None => line!(out, "            value.{} = {read};", field.name),
        }
    }
    line!(out, "            if flexible {{");
    let tagged: Vec<_> = one.fields.iter().filter(|field| field.tag.is_some()).collect();
    if tagged.is_empty() {
        line!(out, "                reader.skip_tagged_fields()?;");
    } else {
        line!(out, "                reader.tagged_fields(|tag, reader| {{");
        line!(out, "                    match tag {{");
        for field in tagged {
            let tag = field.tag.unwrap_or_default();
            let guard = condition(field.versions, one.versions)
                .map(|condition| format!(" if {condition}"))
                .unwrap_or_default();
            let read = read_field(field, message);
            line!(out, "                        {tag}{guard} => value.{} = {read},", field.name);
        }
        line!(out, "                        _ => return Ok(false),");
        line!(out, "                    }}");
        line!(out, "                    Ok(true)");
        line!(out, "                }})?;");
    }
    line!(out, "            }}");
    line!(out, "            Ok(value)");
    line!(out, "        }}\n");
}

fn read_field(field: &Field, message: &Message) -> String {
    let flexible = if field.classic { "false" } else { "flexible" };
    let nullable = field
        .nullable
        .map(|nullable| condition(nullable, field.versions).unwrap_or_else(|| "true".to_owned()));
    match (&field.kind, nullable) {
        (Kind::Scalar(Scalar::Records), _) if is_response_records(field, message.direction) => {
            format!("reader.shared_records({flexible})?")
        }
        (Kind::Scalar(scalar), None) if scalar.has_length() => {
            format!("reader.{}({flexible})?", scalar.method())
        }
        (Kind::Scalar(scalar), Some(nullable)) if scalar.has_length() => {
            format!("reader.nullable_{}({flexible}, {nullable})?", scalar.method())
        }
        (Kind::Scalar(scalar), _) => format!("reader.{}()?", scalar.method()),
        (Kind::Struct(name), None) => format!("{name}::decode(version, reader)?"),
        (Kind::Struct(name), Some(nullable)) => {
            format!("reader.nullable_struct({nullable}, |reader| {name}::decode(version, reader))?")
        }
        (Kind::Array(inner), nullable) => {
            let bytes_min = message.bytes_min(inner, field.versions);
            let item = read_item(inner);
            match nullable {
                None => format!("reader.array({flexible}, {bytes_min}, {item})?"),
                Some(nullable) => {
                    format!("reader.nullable_array({flexible}, {nullable}, {bytes_min}, {item})?")
                }
            }
        }
    }
}

fn read_item(kind: &Kind) -> String {
    match kind {
        Kind::Struct(name) => format!("|reader| {name}::decode(version, reader)"),
        Kind::Scalar(scalar) if scalar.has_length() => {
            format!("|reader| reader.{}(flexible)", scalar.method())
        }
        Kind::Scalar(scalar) => format!("Reader::{}", scalar.method()),
        Kind::Array(_) => unreachable!("the protocol has no arrays of arrays"),
    }
}

// ---- encode ----

fn encode(out: &mut String, message: &Message, one: &Struct) {
    let is_message = one.name == message.structs[0].name;
    line!(
        out,
        "        /// Writes the fields of `version`. Fails when a value cannot be said in that version."
    );
    line!(
        out,
        "        pub fn encode(self, version: i16, writer: &mut Writer) -> Result<(), EncodeError> {{"
    );
    if is_message {
        line!(out, "            Self::VERSIONS.check_encode(version)?;");
    }
    line!(out, "            let flexible = version >= {}::FLEXIBLE_FROM;", message.structs[0].name);
    for field in one.fields.iter().filter(|field| field.tag.is_none()) {
        let write = write_field(field, message);
        match condition(field.versions, one.versions) {
            None => line!(out, "            {write};"),
            Some(condition) => {
                line!(out, "            if {condition} {{");
                line!(out, "                {write};");
                if !field.ignorable {
                    let set = not_default(field, message.direction);
                    line!(out, "            }} else if {set} {{");
                    refuse(out, one, field, 16);
                }
                line!(out, "            }}");
            }
        }
    }
    encode_tagged(out, message, one);
    line!(out, "            Ok(())");
    line!(out, "        }}");
}

fn encode_tagged(out: &mut String, message: &Message, one: &Struct) {
    let tagged: Vec<_> = one.fields.iter().filter(|field| field.tag.is_some()).collect();
    if tagged.is_empty() {
        line!(out, "            if flexible {{");
        line!(out, "                writer.no_tagged_fields();");
        line!(out, "            }}");
        return;
    }
    line!(out, "            let mut tagged = TaggedFields::default();");
    for field in tagged {
        let set = not_default(field, message.direction);
        let tag = field.tag.unwrap_or_default();
        let write = write_field(field, message);
        // Fields of a message that is flexible throughout need no question.
        let present = condition(field.versions, message.versions);
        let set = match &present {
            Some(present) if field.ignorable => format!("{set} && {present}"),
            _ => set,
        };
        line!(out, "            if {set} {{");
        if present.is_some() && !field.ignorable {
            let Versions { from, to } = field.versions;
            if to < message.versions.to {
                line!(out, "                if !({from}..={to}).contains(&version) {{");
            } else {
                line!(out, "                if version < {from} {{");
            }
            refuse(out, one, field, 20);
            line!(out, "                }}");
        }
        line!(out, "                tagged.put({tag}, |writer| {{");
        line!(out, "                    {write};");
        line!(out, "                    Ok(())");
        line!(out, "                }})?;");
        line!(out, "            }}");
    }
    line!(out, "            if flexible {{");
    line!(out, "                writer.tagged_fields(tagged);");
    line!(out, "            }}");
}

fn refuse(out: &mut String, one: &Struct, field: &Field, indent: usize) {
    line!(
        out,
        "{:indent$}return Err(EncodeError::NotInVersion {{ field: \"{}.{}\", version }});",
        "",
        one.name,
        field.name
    );
}

fn not_default(field: &Field, direction: Direction) -> String {
    let name = &field.name;
    let optional = field_type(field, direction).starts_with("Option<");
    match (&field.kind, &field.default) {
        (_, Some(text)) if text == "null" => format!("self.{name}.is_some()"),
        (Kind::Scalar(Scalar::Bool), Some(text)) if text == "true" => format!("!self.{name}"),
        (Kind::Scalar(Scalar::Bool), _) => format!("self.{name}"),
        (Kind::Scalar(Scalar::Uuid), _) => format!("!self.{name}.is_zero()"),
        (Kind::Array(_), None) | (Kind::Scalar(Scalar::String | Scalar::Bytes), None)
            if optional =>
        {
            format!("self.{name}.as_ref().is_none_or(|value| !value.is_empty())")
        }
        (Kind::Array(_), _)
        | (Kind::Scalar(Scalar::String | Scalar::Bytes | Scalar::Records), None) => {
            format!("!self.{name}.is_empty()")
        }
        (Kind::Struct(inner), _) => format!("self.{name} != {inner}::default()"),
        _ => format!("self.{name} != {}", default_value(field, direction)),
    }
}

fn write_field(field: &Field, message: &Message) -> String {
    let flexible = if field.classic { "false" } else { "flexible" };
    let name = &field.name;
    let nullable = field
        .nullable
        .map(|nullable| condition(nullable, field.versions).unwrap_or_else(|| "true".to_owned()));
    match (&field.kind, nullable) {
        (Kind::Scalar(Scalar::Records), _) if is_response_records(field, message.direction) => {
            format!("writer.shared_records(self.{name}, {flexible})?")
        }
        (Kind::Scalar(scalar), None) if scalar.has_length() => {
            format!("writer.{}(self.{name}, {flexible})?", scalar.method())
        }
        (Kind::Scalar(scalar), Some(nullable)) if scalar.has_length() => {
            format!("writer.nullable_{}(self.{name}, {flexible}, {nullable})?", scalar.method())
        }
        (Kind::Scalar(scalar), _) => format!("writer.{}(self.{name})", scalar.method()),
        (Kind::Struct(_), None) => format!("self.{name}.encode(version, writer)?"),
        (Kind::Struct(_), Some(nullable)) => format!(
            "writer.nullable_struct(self.{name}, {nullable}, |writer, item| item.encode(version, writer))?"
        ),
        (Kind::Array(inner), None) => {
            format!("writer.array(self.{name}, {flexible}, {})?", write_item(inner))
        }
        (Kind::Array(inner), Some(nullable)) => format!(
            "writer.nullable_array(self.{name}, {flexible}, {nullable}, {})?",
            write_item(inner)
        ),
    }
}

fn write_item(kind: &Kind) -> String {
    match kind {
        Kind::Struct(_) => "|writer, item| item.encode(version, writer)".to_owned(),
        Kind::Scalar(scalar) if scalar.has_length() => {
            format!("|writer, item| writer.{}(item, flexible)", scalar.method())
        }
        Kind::Scalar(scalar) => {
            format!("|writer, item| {{ writer.{}(item); Ok(()) }}", scalar.method())
        }
        Kind::Array(_) => unreachable!("the protocol has no arrays of arrays"),
    }
}

// ---- small words ----

/// The test that tells `versions` from the rest of `outer`; `None` when there is no rest.
pub(crate) fn condition(versions: Versions, outer: Versions) -> Option<String> {
    match (versions.from > outer.from, versions.to < outer.to) {
        (false, false) => None,
        (true, false) => Some(format!("version >= {}", versions.from)),
        (false, true) => Some(format!("version <= {}", versions.to)),
        (true, true) if versions.from == versions.to => {
            Some(format!("version == {}", versions.from))
        }
        (true, true) => Some(format!("({}..={}).contains(&version)", versions.from, versions.to)),
    }
}

fn versions_text(versions: Versions, outer: Versions) -> String {
    let noun = if versions.from == versions.to { "version" } else { "versions" };
    format!("{noun} {}", range_text(versions, outer))
}

fn range_text(versions: Versions, outer: Versions) -> String {
    match versions.to == outer.to {
        true if versions.from == versions.to => versions.from.to_string(),
        true => format!("{}+", versions.from),
        false if versions.from == versions.to => versions.from.to_string(),
        false => format!("{}-{}", versions.from, versions.to),
    }
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default()
        + characters.as_str()
}
