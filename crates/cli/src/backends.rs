//! `upcycle backends`.

use serde_json::json;
use upcycle::{BackendInfo, Registry};

use crate::failure::Failure;
use crate::output::Output;

pub(crate) fn list(json: bool, registry: &Registry, output: &mut Output) -> Result<(), Failure> {
    let backends = registry.probe();
    if json {
        return output.json(&backends.iter().map(object).collect::<Vec<_>>());
    }
    for backend in &backends {
        let state = match (&backend.obstacle, backend.feature) {
            (_, Some(feature)) if !backend.compiled => {
                format!("not compiled in: build with --features {feature}")
            }
            (Some(obstacle), _) => format!("compiled in, but {obstacle}"),
            (None, _) => format!("ready, on {}", backend.devices.join(", ")),
        };
        output.line(&format!("{:<10} {:<44} {state}", backend.name, backend.about))?;
    }
    Ok(())
}

fn object(backend: &BackendInfo) -> serde_json::Value {
    json!({
        "name": backend.name,
        "about": backend.about,
        "compiled": backend.compiled,
        "state": if backend.compiled { "ready" } else { "not-compiled" },
        "feature": backend.feature,
        "devices": backend.devices,
        "obstacle": backend.obstacle,
    })
}
