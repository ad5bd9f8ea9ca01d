//! The naive twins: the same calls as the fast kernels, through plain loops.

use corten_kernels::reference as k;

use crate::device::Device;

/// [`Device::Reference`].
pub(super) struct Reference;
use Reference as Me;
const DEVICE: Device = Device::Reference;

// The same files as in cpu.rs, on purpose: whatever runs there runs here.
#[allow(clippy::duplicate_mod)]
#[path = "shared/elements.rs"]
mod elements;
#[allow(clippy::duplicate_mod)]
#[path = "shared/network.rs"]
mod network;
#[allow(clippy::duplicate_mod)]
#[path = "shared/recurrent.rs"]
mod recurrent;
