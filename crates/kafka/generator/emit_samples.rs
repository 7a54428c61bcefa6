//! Writes `samples.rs`: for every structure, how a test makes one up that can be said in a given version.

use std::fmt::Write as _;

use crate::emit::line;
use crate::emit_struct::{condition, is_response_records};
use crate::model::{Call, Kind, Message, Scalar, Struct};

pub(crate) fn samples(calls: &[Call]) -> String {
    let mut out = String::new();
    for call in calls {
        for message in &call.messages {
            for one in &message.structs {
                sample(&mut out, call, message, one);
            }
        }
    }
    line!(out, "\n/// Runs `$check!(message, oracle module)` over every message.");
    line!(out, "macro_rules! every_message {{");
    line!(out, "    ($check:ident) => {{");
    for call in calls {
        for message in &call.messages {
            line!(out, "        $check!({});", message.structs[0].name);
        }
    }
    line!(out, "    }};");
    line!(out, "}}");
    out
}

fn sample(out: &mut String, call: &Call, message: &Message, one: &Struct) {
    let path = format!("thalweg_kafka::messages::{}::{}", call.module(), one.name);
    line!(out, "\nimpl Sample for {path} {{");
    let mut body = String::new();
    fields(&mut body, message, one);
    let is_asked = ["(version", "if version", "&version"].iter().any(|use_| body.contains(use_));
    let version = if is_asked { "version" } else { "_version" };
    line!(out, "    fn sample({version}: i16, source: &mut Source) -> Self {{");
    line!(out, "        let mut value = Self::default();");
    out.push_str(&body);
    line!(out, "        value");
    line!(out, "    }}");
    line!(out, "}}");
}

fn fields(out: &mut String, message: &Message, one: &Struct) {
    for field in &one.fields {
        let mut make = match &field.kind {
            Kind::Array(inner) => format!("source.list(|source| {})", make_one(inner)),
            kind if is_response_records(field, message.direction) => {
                debug_assert_eq!(*kind, Kind::Scalar(Scalar::Records));
                "source.shared_records()".to_owned()
            }
            kind => make_one(kind),
        };
        if let Some(nullable) =
            field.nullable.filter(|_| !is_response_records(field, message.direction))
        {
            let nullable = condition(nullable, field.versions).unwrap_or_else(|| "true".to_owned());
            make = format!("source.optional({nullable}, |source| {make})");
        }
        match condition(field.versions, one.versions) {
            Some(condition) => {
                line!(out, "        if {condition} {{");
                line!(out, "            value.{} = {make};", field.name);
                line!(out, "        }}");
            }
            // Tagged fields are now and then left at their default.
            None if field.tag.is_some() => {
                let flexible = message.flexible_from.unwrap_or(i16::MAX);
                line!(out, "        if version >= {flexible} && source.coin() {{");
                line!(out, "            value.{} = {make};", field.name);
                line!(out, "        }}");
            }
            None => line!(out, "        value.{} = {make};", field.name),
        }
    }
}

fn make_one(kind: &Kind) -> String {
    match kind {
        Kind::Struct(_) => "Sample::sample(version, source)".to_owned(),
        Kind::Scalar(scalar) => format!("source.{}()", scalar.method()),
        Kind::Array(_) => unreachable!("the protocol has no arrays of arrays"),
    }
}
