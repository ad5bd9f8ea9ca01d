//! Typed errors. Each names the operation, the rule, what came and, where one is likely, the fix.

use core::fmt;
use std::sync::Arc;

/// What every fallible function of this crate returns.
pub type Result<T> = core::result::Result<T, Error>;

/// Operation and text of an [`Error`]; shown as `[op] text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Operation that refused, e.g. `conv2d`.
    pub op: &'static str,
    /// The rule, what came, and the fix.
    pub text: String,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.op, self.text)
    }
}

/// Why an operation was refused. Boxed so that `Result<Tensor>` stays two words.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Shapes or sizes that do not fit together (Python: `ValueError`).
    Shape(Box<Message>),
    /// An element type that the operation does not take (`TypeError`).
    Dtype(Box<Message>),
    /// An index or axis out of range (`IndexError`).
    Index(Box<Message>),
    /// Any other argument out of its domain (`ValueError`).
    Value(Box<Message>),
    /// Meaningful, but not available here (`NotImplementedError`).
    Unsupported(Box<Message>),
    /// Misuse of the graph: second backward, no graph, a leaf where none may be (`RuntimeError`).
    Graph(Box<Message>),
    /// The system refused memory (`MemoryError`).
    Memory(Box<Message>),
    /// The user interrupted a kernel (`KeyboardInterrupt`).
    Interrupted,
    /// A bug of corten itself (`InternalError`).
    Internal(Box<Message>),
    /// An error of a caller's hook or callback, passed through unchanged.
    Foreign(Arc<dyn std::error::Error + Send + Sync>),
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $variant:ident;)*) => {
        impl Error {
            $($(#[$doc])*
            #[cold]
            pub fn $name(op: &'static str, text: impl Into<String>) -> Self {
                Self::$variant(Box::new(Message { op, text: text.into() }))
            })*
        }
    };
}
constructors! {
    /// An [`Error::Shape`].
    shape => Shape;
    /// An [`Error::Dtype`].
    dtype => Dtype;
    /// An [`Error::Index`].
    index => Index;
    /// An [`Error::Value`].
    value => Value;
    /// An [`Error::Unsupported`].
    unsupported => Unsupported;
    /// An [`Error::Graph`].
    graph => Graph;
    /// An [`Error::Memory`].
    memory => Memory;
    /// An [`Error::Internal`].
    internal => Internal;
}

/// The operation of an [`Error::Memory`] whose place does not know whom it works for; see [`Error::within`].
pub(crate) const SOMEWHERE: &str = "alloc";

impl Error {
    /// No memory for `what`, of so many bytes (`None`: more than can be counted).
    #[cold]
    pub fn no_memory(op: &'static str, what: &str, bytes: Option<usize>) -> Self {
        let size = match bytes {
            None => "more bytes than can be addressed".to_owned(),
            Some(n) if n < 1 << 10 => format!("{n} bytes"),
            Some(n) => {
                let level = (n.ilog2() / 10).min(4) as usize;
                let unit = ["KiB", "MiB", "GiB", "TiB"][level - 1];
                format!(
                    "{:.1} {unit} ({n} bytes)",
                    n as f64 / (1u64 << (10 * level)) as f64
                )
            }
        };
        Self::memory(op, format!("no memory for {what}: {size}"))
    }
    /// The same, and a refusal of memory that does not name its operation is said to be `op`'s.
    #[must_use]
    pub fn within(mut self, op: &'static str) -> Self {
        if let Self::Memory(m) = &mut self
            && m.op == SOMEWHERE
        {
            m.op = op;
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(m)
            | Self::Dtype(m)
            | Self::Index(m)
            | Self::Value(m)
            | Self::Unsupported(m)
            | Self::Graph(m)
            | Self::Memory(m)
            | Self::Internal(m) => m.fmt(f),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Foreign(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for Error {}
