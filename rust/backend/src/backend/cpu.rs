//! The fast kernels. `shared/` is written once and compiled for each of the two module paths.

use corten_kernels as k;

use crate::device::Device;

/// [`Device::Cpu`].
pub(super) struct Cpu;
use Cpu as Me;
const DEVICE: Device = Device::Cpu;

#[path = "shared/elements.rs"]
mod elements;
#[path = "shared/network.rs"]
mod network;
#[path = "shared/recurrent.rs"]
mod recurrent;
