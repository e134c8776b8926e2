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

# What a pass costs on this machine, by rows
bench *ARGS:
    ./scripts/bench.sh {{ARGS}}

# The documentation of all crates
docs:
    ./scripts/docs.sh
