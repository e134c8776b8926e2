//! Variables that Kubernetes sets in every container for each service of its namespace: `UPCYCLE_SERVICE_HOST` for a service named
//! `upcycle`, `UPCYCLE_API_PORT` for `upcycle-api`.

/// Whether Kubernetes sets this variable, or Docker for a linked container.
pub(super) fn is_variable(name: &str, value: &str) -> bool {
    let parts: Vec<&str> = name.split('_').collect();
    let protocol = |part: &str| ["TCP", "UDP", "SCTP"].contains(&part);
    let number = |part: &str| part.parse::<u16>().is_ok();
    match parts[..] {
        [.., "SERVICE", "HOST" | "PORT"] => true,
        [.., "PORT", port, kind] if number(port) && protocol(kind) => true,
        [.., "PORT", port, kind, "PROTO" | "PORT" | "ADDR"] if number(port) && protocol(kind) => true,
        [.., "PORT"] => ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme)),
        // A named port.
        _ => parts.windows(2).any(|pair| pair == ["SERVICE", "PORT"]) && number(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_known_by_name_and_value() {
        for (name, value) in [
            ("UPCYCLE_SERVICE_HOST", "10.0.0.1"),
            ("UPCYCLE_SERVICE_HOST", "fd00::1"),
            ("UPCYCLE_SERVICE_PORT", "80"),
            ("UPCYCLE_SERVICE_PORT_HTTP", "80"),
            ("UPCYCLE_SERVICE_PORT_HTTP_METRICS", "9090"),
            ("UPCYCLE_PORT", "tcp://10.0.0.1:80"),
            ("UPCYCLE_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("UPCYCLE_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("UPCYCLE_PORT_53_UDP_PROTO", "udp"),
            ("UPCYCLE_MODEL_API_PORT_443_SCTP_PORT", "443"),
            ("UPCYCLE_MODEL_API_SERVICE_HOST", "10.0.0.1"),
        ] {
            assert!(is_variable(name, value), "{name}");
        }
        for (name, value) in [
            ("UPCYCLE_PORT", "8080"),
            ("UPCYCLE_MODEL_PATH", "x.gguf"),
            ("UPCYCLE_PORT_TCP", "1"),
            ("UPCYCLE_PORT_80", "1"),
            ("UPCYCLE_DECODE_SEED", "1"),
        ] {
            assert!(!is_variable(name, value), "{name}");
        }
    }
}
