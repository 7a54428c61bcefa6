//! Writes `messages.rs`: one module per call, then what ties the calls together (`ApiKey`, `Request`, `Response`).

use std::fmt::Write as _;

use crate::emit_struct;
use crate::model::{Call, Direction, Message};

/// `writeln!` into a `String`, which cannot fail.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {
        writeln!($out, $($text)*).expect("writing to a String cannot fail")
    };
}
pub(crate) use line;

pub(crate) fn messages(calls: &[Call]) -> String {
    let mut out = String::new();
    for call in calls {
        module(&mut out, call);
    }
    for call in calls {
        let [request, response] = &call.messages;
        let (request, response) = (&request.structs[0].name, &response.structs[0].name);
        line!(out, "pub use {}::{{{request}, {response}}};", call.module());
    }
    let calls: Vec<_> = calls.iter().filter(|call| call.key.is_some()).collect();
    api_key(&mut out, &calls);
    any_message(&mut out, &calls, Direction::Request);
    any_message(&mut out, &calls, Direction::Response);
    out
}

fn module(out: &mut String, call: &Call) {
    match call.key {
        Some(key) => line!(out, "\n/// {} (api key {key}).", call.name),
        None => line!(out, "\n/// Message headers."),
    }
    for (position, text) in call.doc.iter().enumerate() {
        if position == 0 {
            line!(out, "///");
        }
        line!(out, "/// {text}");
    }
    line!(out, "pub mod {} {{", call.module());
    line!(out, "    #[allow(unused_imports, reason = \"not every message has every type\")]");
    line!(out, "    use super::prelude::*;");
    for message in &call.messages {
        message_constants(out, call, message);
        for one in &message.structs {
            emit_struct::structure(out, message, one);
        }
    }
    line!(out, "}}");
}

fn message_constants(out: &mut String, call: &Call, message: &Message) {
    let name = &message.structs[0].name;
    let versions = message.versions;
    // Above all versions where none is flexible.
    let flexible_from = message.flexible_from.unwrap_or(versions.to + 1);
    line!(out, "\n    impl {name} {{");
    line!(out, "        /// Versions this crate reads and writes.");
    line!(
        out,
        "        pub const VERSIONS: VersionRange = VersionRange {{ min: {}, max: {} }};",
        versions.from,
        versions.to
    );
    line!(out, "        /// First version with compact lengths and tagged fields (KIP-482).");
    line!(out, "        pub const FLEXIBLE_FROM: i16 = {flexible_from};");
    line!(out, "    }}");
    line!(out, "\n    impl Message for {name} {{");
    line!(out, "        const NAME: &'static str = \"{name}\";");
    line!(out, "        const VERSIONS: VersionRange = Self::VERSIONS;");
    match call.key {
        Some(_) => {
            line!(out, "        const API_KEY: Option<ApiKey> = Some(ApiKey::{});", call.name)
        }
        None => line!(out, "        const API_KEY: Option<ApiKey> = None;"),
    }
    line!(
        out,
        "        fn decode(version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {{"
    );
    line!(out, "            {name}::decode(version, reader)");
    line!(out, "        }}");
    line!(
        out,
        "        fn encode(self, version: i16, writer: &mut Writer) -> Result<(), EncodeError> {{"
    );
    line!(out, "            {name}::encode(self, version, writer)");
    line!(out, "        }}");
    line!(out, "    }}");
}

fn api_key(out: &mut String, calls: &[&Call]) {
    line!(out, "\n/// A call of the protocol, by its number on the wire.");
    line!(out, "#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]");
    line!(out, "#[repr(i16)]");
    line!(out, "pub enum ApiKey {{");
    for call in calls {
        line!(out, "    {} = {},", call.name, call.key.unwrap_or_default());
    }
    line!(out, "}}");
    line!(out, "\nimpl ApiKey {{");
    line!(out, "    /// Every call this crate knows, by number.");
    line!(out, "    pub const ALL: &[Self] = &[");
    for call in calls {
        line!(out, "        Self::{},", call.name);
    }
    line!(out, "    ];");
    line!(out, "\n    pub fn from_code(code: i16) -> Option<Self> {{");
    line!(out, "        match code {{");
    for call in calls {
        line!(out, "            {} => Some(Self::{}),", call.key.unwrap_or_default(), call.name);
    }
    line!(out, "            _ => None,");
    line!(out, "        }}");
    line!(out, "    }}");
    line!(out, "\n    pub fn name(self) -> &'static str {{");
    line!(out, "        match self {{");
    for call in calls {
        line!(out, "            Self::{} => \"{}\",", call.name, call.name);
    }
    line!(out, "        }}");
    line!(out, "    }}");
    line!(out, "\n    /// Versions whose requests this crate decodes.");
    line!(out, "    pub fn versions(self) -> VersionRange {{");
    line!(out, "        match self {{");
    for call in calls {
        line!(
            out,
            "            Self::{} => {}::VERSIONS,",
            call.name,
            call.messages[0].structs[0].name
        );
    }
    line!(out, "        }}");
    line!(out, "    }}");
    for message in [Direction::Request, Direction::Response] {
        let lower = message.suffix().to_lowercase();
        line!(out, "\n    /// First version whose {lower} has compact lengths and tagged fields.");
        line!(out, "    pub fn {lower}_flexible_from(self) -> i16 {{");
        line!(out, "        match self {{");
        for call in calls {
            line!(
                out,
                "            Self::{} => {}{}::FLEXIBLE_FROM,",
                call.name,
                call.name,
                message.suffix()
            );
        }
        line!(out, "        }}");
        line!(out, "    }}");
    }
    line!(out, "}}");
}

fn any_message(out: &mut String, calls: &[&Call], direction: Direction) {
    let any = direction.suffix();
    line!(out, "\n/// Any {}.", any.to_lowercase());
    line!(out, "#[derive(Debug, Clone, PartialEq)]");
    line!(out, "pub enum {any} {{");
    for call in calls {
        line!(out, "    {}({}{any}),", call.name, call.name);
    }
    line!(out, "}}");
    line!(out, "\nimpl {any} {{");
    line!(out, "    pub fn api_key(&self) -> ApiKey {{");
    line!(out, "        match self {{");
    for call in calls {
        line!(out, "            Self::{}(_) => ApiKey::{},", call.name, call.name);
    }
    line!(out, "        }}");
    line!(out, "    }}");
    line!(
        out,
        "\n    /// Reads one message. Bytes that are left over are the caller's to refuse ([`Reader::finish`])."
    );
    line!(
        out,
        "    pub fn decode(key: ApiKey, version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {{"
    );
    line!(out, "        Ok(match key {{");
    for call in calls {
        line!(
            out,
            "            ApiKey::{} => Self::{}({}{any}::decode(version, reader)?),",
            call.name,
            call.name,
            call.name
        );
    }
    line!(out, "        }})");
    line!(out, "    }}");
    line!(
        out,
        "\n    pub fn encode(self, version: i16, writer: &mut Writer) -> Result<(), EncodeError> {{"
    );
    line!(out, "        match self {{");
    for call in calls {
        line!(out, "            Self::{}(message) => message.encode(version, writer),", call.name);
    }
    line!(out, "        }}");
    line!(out, "    }}");
    line!(out, "}}");
    for call in calls {
        line!(out, "\nimpl From<{}{any}> for {any} {{", call.name);
        line!(out, "    fn from(message: {}{any}) -> Self {{", call.name);
        line!(out, "        Self::{}(message)", call.name);
        line!(out, "    }}");
        line!(out, "}}");
    }
}
