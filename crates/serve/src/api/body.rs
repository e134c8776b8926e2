//! Reading the body of a request.

use axum::body::{self, Body};
use axum::extract::{FromRequest, FromRequestParts, Request};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::fields::Fields;
use crate::app::{App, Slot};
use crate::error::ApiError;

/// A JSON body. An error names the field at fault. Unknown fields are ignored.
#[derive(Debug)]
pub(crate) struct JsonBody<T> {
    pub(crate) app: App,
    pub(crate) body: T,
}

impl<T: DeserializeOwned> FromRequest<Slot> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, slot: &Slot) -> Result<Self, ApiError> {
        let (app, bytes) = read(request, slot).await?;
        let body = parse(&bytes)?;
        Ok(Self { app, body })
    }
}

/// The body of a request for an answer: what its endpoint defines, and the [`Fields`] that all share.
#[derive(Debug)]
pub(crate) struct Generate<T> {
    pub(crate) app: App,
    pub(crate) fields: Fields,
    pub(crate) body: T,
}

impl<T: DeserializeOwned> FromRequest<Slot> for Generate<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, slot: &Slot) -> Result<Self, ApiError> {
        let (app, bytes) = read(request, slot).await?;
        // Parsed twice, because a flattened struct loses the names of fields in errors.
        let (fields, body): (Fields, T) = (parse(&bytes)?, parse(&bytes)?);
        fields.check(&app)?;
        Ok(Self { app, fields, body })
    }
}

async fn read(request: Request<Body>, slot: &Slot) -> Result<(App, body::Bytes), ApiError> {
    let (mut parts, body) = request.into_parts();
    let app = App::from_request_parts(&mut parts, slot).await?;
    let limit = app.options.max_body_bytes;
    let bytes = timeout(app.options.body_timeout(), body::to_bytes(body, limit))
        .await
        .map_err(|_| ApiError::timeout())?
        // A connection that breaks gets no response, so this is the limit.
        .map_err(|_| ApiError::too_large(limit))?;
    Ok((app, bytes))
}

/// Parses a JSON body.
///
/// # Errors
/// [`ApiError`] with the path of the field at fault.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { "body".to_owned() } else { path };
        let message = format!("`{path}` cannot be used: {}", error.inner());
        ApiError::invalid(path, message)
    })?;
    json.end()
        .map_err(|error| ApiError::invalid("body", format!("the body is not one JSON value: {error}")))?;
    Ok(parsed)
}
