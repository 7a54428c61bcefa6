//! The table of crates: layer, and what each must never know. The same table, with purposes, is in ARCHITECTURE.md.

/// From the vocabulary at the bottom to the tools at the top. A crate depends on its own layer or lower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    Words,
    Cores,
    Adapters,
    Services,
    Tools,
}

/// One row: a crate by its folder's name.
#[derive(Debug)]
pub(super) struct Crate {
    pub(super) name: &'static str,
    pub(super) layer: Layer,
    /// Not reached by normal dependencies, however long the path.
    pub(super) never: &'static [Never],
    /// Not named in its own manifest, though it may be reached through a crate that hides it.
    pub(super) never_named: &'static [Never],
}

/// What a row forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Never {
    Anything,
    AnyWorkspaceCrate,
    /// Every other crate of a layer.
    Any(Layer),
    AnyCoreBut(&'static str),
    Crate(&'static str),
    External(&'static [&'static str]),
}

impl Layer {
    /// What holds for every crate of the layer, beside its own row.
    pub(super) fn never(self) -> &'static [Never] {
        match self {
            Self::Words => &[Never::External(RUNTIMES)],
            Self::Cores => {
                &[Never::Crate("proto"), Never::External(RUNTIMES), Never::External(WORLD)]
            }
            Self::Services => &[Never::Any(Self::Services)],
            Self::Adapters | Self::Tools => &[],
        }
    }
}

/// Asynchronous runtimes and consensus.
const RUNTIMES: &[&str] = &["openraft", "async-std", "smol", "futures-executor", "sled"];

/// Everything through which the outside world would get into a core: runtimes, wires, sockets, files, randomness, metrics.
const WORLD: &[&str] = &[
    "tokio",
    "tonic",
    "prost",
    "hyper",
    "axum",
    "tower",
    "mio",
    "socket2",
    "rustix",
    "nix",
    "io-uring",
    "memmap2",
    "rand",
    "getrandom",
    "fastrand",
    "uuid",
    "prometheus-client",
    "tracing",
    "log",
    "jiff",
    "chrono",
    "time",
];

/// Wires and runtimes, for the words that must stay words.
const WIRES: &[&str] = &["tokio", "tonic", "prost"];

/// What the clippy.toml of every core disallows.
pub(super) const CORE_FENCE: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::collections::HashMap",
    "std::collections::HashSet",
];

/// Externals that one crate alone names, so that they can be replaced.
pub(super) const EXCLUSIVE: &[(&str, &str)] = &[("openraft", "raft"), ("sled", "raft")];

/// Crates that only these may have as a normal dependency.
pub(super) const ONLY_USED_BY: &[(&str, &[&str])] =
    &[("testkit", &["sim", "bench"]), ("sim", &[]), ("model", &[]), ("hosts", &[]), ("fuzz", &[])];

pub(super) const CRATES: &[Crate] = &[
    // Words.
    Crate {
        name: "types",
        layer: Layer::Words,
        never: &[Never::AnyWorkspaceCrate, Never::External(WIRES)],
        never_named: &[],
    },
    Crate {
        name: "record",
        layer: Layer::Words,
        never: &[
            Never::Crate("proto"),
            Never::External(WIRES),
            Never::External(&["rustix", "memmap2"]),
        ],
        never_named: &[],
    },
    Crate { name: "proto", layer: Layer::Words, never: &[], never_named: &[] },
    Crate { name: "invariants", layer: Layer::Words, never: &[Never::Anything], never_named: &[] },
    // Cores: what they share is with the layer.
    Crate { name: "log-core", layer: Layer::Cores, never: &[], never_named: &[] },
    Crate { name: "replication-core", layer: Layer::Cores, never: &[], never_named: &[] },
    Crate { name: "metadata-core", layer: Layer::Cores, never: &[], never_named: &[] },
    Crate { name: "group-core", layer: Layer::Cores, never: &[], never_named: &[] },
    Crate { name: "txn-core", layer: Layer::Cores, never: &[], never_named: &[] },
    // Adapters.
    Crate {
        name: "env",
        layer: Layer::Adapters,
        never: &[Never::Any(Layer::Cores), Never::Crate("proto")],
        never_named: &[],
    },
    Crate {
        name: "storage",
        layer: Layer::Adapters,
        never: &[
            Never::AnyCoreBut("log-core"),
            Never::Crate("proto"),
            Never::External(&["tonic", "prost", "openraft", "tokio"]),
        ],
        never_named: &[],
    },
    Crate {
        name: "raft",
        layer: Layer::Adapters,
        never: &[Never::AnyCoreBut("log-core")],
        never_named: &[Never::Any(Layer::Cores)],
    },
    Crate {
        name: "metadata-feed",
        layer: Layer::Adapters,
        never: &[
            Never::AnyCoreBut("metadata-core"),
            Never::Crate("storage"),
            Never::Crate("raft"),
            Never::External(&["openraft"]),
        ],
        never_named: &[],
    },
    Crate {
        name: "controller-client",
        layer: Layer::Adapters,
        never: &[
            Never::AnyCoreBut("metadata-core"),
            Never::Crate("storage"),
            Never::Crate("raft"),
            Never::External(&["openraft"]),
        ],
        never_named: &[],
    },
    Crate {
        name: "coordinator-runtime",
        layer: Layer::Adapters,
        never: &[Never::Crate("group-core"), Never::Crate("txn-core"), Never::Crate("storage")],
        never_named: &[],
    },
    Crate {
        name: "kafka",
        layer: Layer::Adapters,
        never: &[
            Never::Any(Layer::Cores),
            Never::Crate("storage"),
            Never::Crate("raft"),
            Never::External(&["openraft"]),
        ],
        never_named: &[],
    },
    Crate {
        name: "kafka-cluster",
        layer: Layer::Adapters,
        never: &[
            Never::AnyCoreBut("metadata-core"),
            Never::Crate("storage"),
            Never::Crate("raft"),
            Never::External(&["openraft"]),
        ],
        never_named: &[],
    },
    Crate {
        name: "rpc",
        layer: Layer::Adapters,
        never: &[
            Never::Any(Layer::Cores),
            Never::Crate("storage"),
            Never::Crate("raft"),
            Never::External(&["openraft"]),
        ],
        never_named: &[],
    },
    Crate {
        name: "client",
        layer: Layer::Adapters,
        never: &[Never::Any(Layer::Cores), Never::Crate("storage"), Never::Crate("raft")],
        never_named: &[],
    },
    Crate {
        name: "settings",
        layer: Layer::Adapters,
        never: &[Never::Any(Layer::Cores), Never::External(&["tokio"])],
        never_named: &[],
    },
    Crate {
        name: "telemetry",
        layer: Layer::Adapters,
        never: &[Never::Any(Layer::Cores)],
        never_named: &[],
    },
    // Services: what they share is with the layer.
    Crate { name: "controller", layer: Layer::Services, never: &[], never_named: &[] },
    Crate {
        name: "broker",
        layer: Layer::Services,
        never: &[Never::Crate("raft")],
        never_named: &[],
    },
    Crate {
        name: "coordinator",
        layer: Layer::Services,
        never: &[Never::Crate("raft")],
        never_named: &[],
    },
    Crate {
        name: "gateway",
        layer: Layer::Services,
        never: &[Never::Crate("raft"), Never::Crate("storage")],
        never_named: &[],
    },
    // Tools.
    Crate { name: "thalweg", layer: Layer::Tools, never: &[], never_named: &[] },
    Crate { name: "sim", layer: Layer::Tools, never: &[], never_named: &[] },
    Crate {
        name: "model",
        layer: Layer::Tools,
        never: &[Never::Any(Layer::Adapters), Never::Any(Layer::Services)],
        never_named: &[],
    },
    Crate { name: "hosts", layer: Layer::Tools, never: &[], never_named: &[] },
    Crate { name: "testkit", layer: Layer::Tools, never: &[], never_named: &[] },
    Crate { name: "fuzz", layer: Layer::Tools, never: &[], never_named: &[] },
    Crate { name: "bench", layer: Layer::Tools, never: &[], never_named: &[] },
    Crate {
        name: "xtask",
        layer: Layer::Tools,
        never: &[Never::AnyWorkspaceCrate],
        never_named: &[],
    },
];
