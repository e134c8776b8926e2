//! `[server]`: the HTTP server.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[server]`: the HTTP server, `upcycle serve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServerOptions {
    /// The address to listen on. 127.0.0.1 is for this machine alone; 0.0.0.0 is for every machine that reaches this one.
    pub host: String,
    /// The port; 0 takes a free one.
    #[schemars(range(min = 0, max = 65535))]
    pub port: u16,
    /// A file of API keys, one a line. Without it, and without `--api-key`, no key is needed.
    #[schemars(extend("path" = "file"))]
    pub api_key_file: Option<PathBuf>,
    /// Web pages of these origins may use the server: `["https://example.org"]`, or `["*"]` for all.
    pub cors_origins: Vec<String>,
    /// The name of the model in requests and answers: by default the name of its file or folder.
    pub model_name: Option<String>,
    /// The largest body of a request, in bytes.
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub max_body_bytes: usize,
    /// The time in which the body of a request has to arrive, in seconds.
    #[schemars(range(min = 1, max = 86400))]
    pub body_timeout_s: u64,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8080,
            api_key_file: None,
            cors_origins: Vec::new(),
            model_name: None,
            max_body_bytes: 16 << 20,
            body_timeout_s: 30,
        }
    }
}

impl ServerOptions {
    /// The time in which the body of a request has to arrive.
    #[must_use]
    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_s)
    }
}
