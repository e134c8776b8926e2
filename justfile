# Thin names for the scripts; each works without just.

# A model, a stream, a comparison
demo *PROMPT:
    ./scripts/demo.sh {{PROMPT}}

# Everything that a change is checked by
test:
    ./scripts/test.sh

# Formatting and lints alone
lint:
    ./scripts/lint.sh

# Drafters and peers beside plain decoding, in one run
bench *ARGS:
    ./scripts/bench.sh {{ARGS}}

# What drafting, accepting and ranking cost by themselves
bench-micro *ARGS:
    cargo bench --package upcycle-bench --no-default-features --bench micro -- {{ARGS}}

# The documentation of all crates
docs:
    ./scripts/docs.sh
