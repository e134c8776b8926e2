# Short names for the scripts. Each script also works without just.

# Download a model, answer a prompt, compare with plain decoding
demo *PROMPT:
    ./scripts/demo.sh {{PROMPT}}

# Run every check
test:
    ./scripts/test.sh

# Check formatting and lints
lint:
    ./scripts/lint.sh

# Measure drafters and peers beside plain decoding
bench *ARGS:
    ./scripts/bench.sh {{ARGS}}

# Measure the cost of drafting, accepting and ranking
bench-micro *ARGS:
    cargo bench --package upcycle-bench --no-default-features --bench micro -- {{ARGS}}

# Build the book and the API documentation
docs:
    ./scripts/docs.sh
