//! What a schema file says, as a tree.

/// Versions `from..=to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) from: i16,
    pub(crate) to: i16,
}

/// One call of the protocol, or (`key` is `None`) the headers that stand before all of them.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) key: Option<i16>,
    pub(crate) name: String,
    pub(crate) doc: Vec<String>,
    pub(crate) messages: [Message; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Response,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) direction: Direction,
    pub(crate) versions: Versions,
    /// First version with compact lengths and tagged fields; `None` when there is none.
    pub(crate) flexible_from: Option<i16>,
    /// The message itself first, then its inner structures, each before those it contains.
    pub(crate) structs: Vec<Struct>,
}

#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) versions: Versions,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) versions: Versions,
    pub(crate) nullable: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<String>,
    pub(crate) ignorable: bool,
    pub(crate) classic: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Scalar(Scalar),
    Array(Box<Kind>),
    Struct(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool,
    I8,
    I16,
    U16,
    I32,
    U32,
    I64,
    F64,
    Uuid,
    String,
    Bytes,
    Records,
}

impl Versions {
    pub(crate) fn contains(self, inner: Versions) -> bool {
        self.from <= inner.from && inner.to <= self.to
    }
}

impl Direction {
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Request => "Request",
            Self::Response => "Response",
        }
    }
}

impl Scalar {
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "bool" => Self::Bool,
            "i8" => Self::I8,
            "i16" => Self::I16,
            "u16" => Self::U16,
            "i32" => Self::I32,
            "u32" => Self::U32,
            "i64" => Self::I64,
            "f64" => Self::F64,
            "uuid" => Self::Uuid,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            _ => return None,
        })
    }

    /// Name of the reader's and writer's method.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::U16 => "u16",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::F64 => "f64",
            Self::Uuid => "uuid",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Records => "records",
        }
    }

    /// Whether a length stands before the value.
    pub(crate) fn has_length(self) -> bool {
        matches!(self, Self::String | Self::Bytes | Self::Records)
    }

    fn bytes_min(self, flexible: bool) -> usize {
        match self {
            Self::Bool | Self::I8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 => 4,
            Self::I64 | Self::F64 => 8,
            Self::Uuid => 16,
            _ if flexible => 1,
            Self::String => 2,
            Self::Bytes | Self::Records => 4,
        }
    }
}

impl Call {
    /// `produce` for `Produce`: the module of the call.
    pub(crate) fn module(&self) -> String {
        snake_case(&self.name)
    }
}

impl Message {
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        self.flexible_from.is_some_and(|from| version >= from)
    }

    pub(crate) fn find(&self, name: &str) -> &Struct {
        self.structs.iter().find(|known| known.name == name).expect("the parser resolved the name")
    }

    /// Fewest bytes that `kind` takes on the wire in any version of `versions`: the bound for counts.
    pub(crate) fn bytes_min(&self, kind: &Kind, versions: Versions) -> usize {
        (versions.from..=versions.to)
            .map(|version| self.bytes_min_in(kind, version))
            .min()
            .unwrap_or(1)
            .max(1)
    }

    fn bytes_min_in(&self, kind: &Kind, version: i16) -> usize {
        let flexible = self.is_flexible(version);
        match kind {
            Kind::Scalar(scalar) => scalar.bytes_min(flexible),
            Kind::Array(_) => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Kind::Struct(name) => {
                let fields = self.find(name).fields.iter();
                let present = fields
                    .filter(|field| field.tag.is_none())
                    .filter(|field| field.versions.from <= version && version <= field.versions.to);
                let sum: usize = present
                    .map(|field| match field.kind {
                        Kind::Struct(_) if field.nullable.is_some() => 1,
                        _ => self.bytes_min_in(&field.kind, version),
                    })
                    .sum();
                sum + usize::from(flexible)
            }
        }
    }
}

/// `FetchRequest` to `fetch_request`.
pub(crate) fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (position, character) in name.char_indices() {
        if character.is_ascii_uppercase() && position > 0 {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}
