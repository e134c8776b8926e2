#!/bin/sh
# Stands in for llama-server. Its model (-m MODEL comes first) is a script that says how it behaves.
if [ "$1" = --version ]; then
  echo "version: 7 (fake)" >&2
  exit
fi
model=$2
. "$model"
