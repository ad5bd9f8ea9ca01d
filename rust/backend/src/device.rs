//! Where a tensor lives.

use core::fmt;

use crate::error::{Error, Result};

/// A device; each has one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    /// The fast kernels.
    #[default]
    Cpu,
    /// Their naive twins: slow, plain loops, for tests and for stepping through.
    Reference,
}

impl Device {
    /// `cpu` or `reference`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Reference => "reference",
        }
    }
    /// The device of that name.
    pub fn from_name(op: &'static str, name: &str) -> Result<Self> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "reference" => Ok(Self::Reference),
            _ => Err(Error::value(
                op,
                format!("unknown device '{name}' (known: 'cpu', 'reference')"),
            )),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
