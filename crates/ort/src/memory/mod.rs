//! Where keys, values and logits are between passes.

mod device;
mod host;
mod inputs;
mod store;

pub(crate) use device::DeviceMemory;
pub(crate) use host::HostMemory;
pub(crate) use inputs::PassInputs;
pub(crate) use store::KvStore;
