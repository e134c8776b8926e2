# An image that serves /models/model.gguf on port 8080:
#
#   docker build --tag upcycle .
#   docker run --rm --publish 127.0.0.1:8080:8080 --volume "$PWD/models:/models:ro" upcycle
FROM rust:1.95-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --package upcycle-cli

FROM debian:bookworm-slim
RUN useradd --uid 10001 --create-home upcycle
COPY --from=build /source/target/release/upcycle /usr/local/bin/upcycle
# A number, so that Kubernetes can see that it is not root.
USER 10001
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["upcycle", "serve", "--host", "0.0.0.0"]
CMD ["--model", "/models/model.gguf"]
