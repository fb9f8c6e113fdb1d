//! `shore._native`: converts between Python and the Rust crates, nothing else.

mod model;
mod relay;

use std::os::fd::RawFd;

use pyo3::prelude::*;
use shore_dataplane::{confine, host};
use shore_dataplane_core::engine::EngineFactory;
use shore_dataplane_core::engine::tunn::Tunns;

/// Takes over `listener` and serves brains on it until one says stop.
#[pyfunction]
fn run(py: Python<'_>, listener: RawFd, user: u32, seed: u64) -> PyResult<()> {
    py.detach(|| host::run(listener, user, seed))?;
    Ok(())
}

#[pyfunction(name = "confine")]
fn confine_process(user: u32, group: u32) -> PyResult<()> {
    confine::confine(user, group)?;
    Ok(())
}

#[pyfunction]
fn public_key(private_key: [u8; 32]) -> [u8; 32] {
    Tunns.identity(&private_key).public_key()
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(run, module)?)?;
    module.add_function(wrap_pyfunction!(confine_process, module)?)?;
    module.add_function(wrap_pyfunction!(public_key, module)?)?;
    module.add_class::<model::ModelPlane>()?;
    module.add_class::<relay::TlsIdentity>()?;
    module.add_class::<relay::TlsServer>()?;
    module.add_class::<relay::RelayStreams>()?;
    Ok(())
}
