//! A service of one's own with an engine behind axum: an endpoint that streams plain text, beside those of `upcycle serve`.
//!
//! ```sh
//! cargo run --release -p upcycle-serve --example own_server -- model.gguf 127.0.0.1:8080
//! curl --no-buffer 'http://127.0.0.1:8080/ask' --data 'Why is the sky blue?'
//! ```

use std::error::Error;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::StreamExt;
use upcycle::{Engine, Message, Request, ServerOptions};

/// Streams the answer. If the client leaves, axum drops the stream, and the engine ends the request.
async fn ask(State(engine): State<Engine>, question: String) -> Response {
    match engine.generate(Request::chat([Message::user(question)])) {
        // An answer is an iterator too, so the trait is named.
        Ok(answer) => {
            Body::from_stream(StreamExt::map(answer, |piece| piece.map(|piece| piece.text))).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

fn service(engine: Engine) -> Result<Router, Box<dyn Error>> {
    let openai = upcycle_serve::router(engine.clone(), &ServerOptions::default(), &[])?;
    Ok(Router::new().route("/ask", post(ask)).with_state(engine).merge(openai))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("expected a model and an address")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let engine = Engine::builder().model(model).build()?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, service(engine)?).await?;
    Ok(())
}

#[test]
fn it_runs() {
    let engine = Engine::builder()
        .model(upcycle_testkit::real_model())
        .set("drafter.budget", "8")
        .set("decode.max_tokens", "8")
        .build()
        .unwrap();
    let request = Request::chat([Message::user("Say one word.")]);
    let expected = engine.generate(request).unwrap().text().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let service = service(engine).unwrap();
    runtime.spawn(async move { axum::serve(listener, service).await.unwrap() });
    let post = |path: &str, body: &str| {
        let mut response = ureq::post(format!("http://{address}{path}")).send(body).unwrap();
        response.body_mut().read_to_string().unwrap()
    };
    assert_eq!(post("/ask", "Say one word."), expected);
    assert!(post("/tokenize", r#"{"prompt": "sky"}"#).contains("tokens"));
}
