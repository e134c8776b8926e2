//! `upcycle backends`.

use serde_json::json;
use upcycle::{Availability, BackendInfo, Registry};

use crate::failure::Failure;
use crate::output::Output;

pub(crate) fn list(json: bool, output: &mut Output) -> Result<(), Failure> {
    let mut registry = Registry::builtin();
    registry.probe();
    if json {
        return output.json(&registry.info().map(object).collect::<Vec<_>>());
    }
    for backend in registry.info() {
        let state = match backend.availability {
            Availability::Ready => match &backend.obstacle {
                Some(obstacle) => format!("compiled in, but {obstacle}"),
                None => format!("ready, on {}", backend.devices.join(", ")),
            },
            Availability::NotCompiled => {
                format!("not compiled in: build with --features {}", backend.feature.unwrap_or("?"))
            }
            Availability::Planned => "planned, not part of this version".to_owned(),
        };
        output.line(&format!("{:<10} {:<44} {state}", backend.name, backend.about))?;
    }
    Ok(())
}

fn object(backend: &BackendInfo) -> serde_json::Value {
    json!({
        "name": backend.name,
        "about": backend.about,
        "compiled": backend.availability == Availability::Ready,
        "state": backend.availability.name(),
        "feature": backend.feature,
        "devices": backend.devices,
        "obstacle": backend.obstacle,
    })
}
