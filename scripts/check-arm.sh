#!/usr/bin/env bash
# Tests the kernels' NEON path. On an Arm machine this is `cargo test`. Elsewhere it compiles for aarch64 and runs the tests in
# qemu-user, which checks results but says nothing about speed. It needs Rust's standard library for aarch64. Without one from
# rustup, it installs a Debian system under .cache/arm (needs root and debootstrap; 1.5 GB).
#
#   scripts/check-arm.sh
set -euo pipefail
cd "$(dirname "$0")/.."
say() { echo "check-arm: $*" >&2; }

tests=(test --locked --package upcycle-kernels)
target=aarch64-unknown-linux-gnu
if [ "$(uname -m)" = aarch64 ]; then
  exec cargo "${tests[@]}"
fi

export CARGO_BUILD_TARGET=$target
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
if [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
  for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v "$tool" >/dev/null || {
      say "$tool is missing. On Debian: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
      exit 1
    }
  done
  exec cargo "${tests[@]}"
fi

if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
  say "Rust for $target is missing: run \`rustup target add $target\`, or run this as root with debootstrap installed"
  exit 1
fi
# The first Debian release with a recent enough Rust.
suite=forky
root=$PWD/.cache/arm
if [ ! -e "$root/ready" ]; then
  mirror=$(sed -n 's/^URIs: *//p; s/^deb \(\[.*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list.d/debian.sources \
    /etc/apt/sources.list 2>/dev/null | head -n 1 || true)
  [ -n "$mirror" ] || { say "found no Debian mirror in apt's sources; run this on Debian, or: rustup target add $target"; exit 1; }
  say "installing Debian's Rust, a cross compiler and qemu into .cache/arm (about 2 minutes)"
  rm -rf "$root"
  mkdir -p "$root"
  debootstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --include=rustc,cargo,gcc-aarch64-linux-gnu,libc6-dev,libc6-dev-arm64-cross,qemu-user \
    "$suite" "$root" "$mirror" sid >"$root.log" 2>&1 || { tail -n 5 "$root.log" >&2; exit 1; }
  # Install the aarch64 standard library alone, without the packages that it depends on.
  (
    cd "$root"
    apt=(-o Acquire::Check-Valid-Until=false -qq)
    chroot . dpkg --add-architecture arm64
    chroot . apt-get "${apt[@]}" update
    chroot . sh -c 'cd /root && apt-get -qq download libstd-rust-dev:arm64 && dpkg -x libstd-rust-dev_*_arm64.deb /'
  ) || { say "cannot download the standard library for $target"; exit 1; }
  touch "$root/ready"
fi
home=${CARGO_HOME:-$HOME/.cargo}
cargo fetch --locked --quiet
mkdir -p "$root/project" "$root/cargo" "$root/target"
# The mounts live in a private namespace and end with the command.
exec unshare --mount bash -euc '
  mount --bind "$1" "$2/project"; mount --bind "$3" "$2/cargo"; mount -t proc proc "$2/proc"
  root=$2; shift 3
  exec chroot "$root" env CARGO_HOME=/cargo CARGO_TARGET_DIR=/target CARGO_NET_OFFLINE=true PATH=/usr/bin:/bin \
    sh -c "cd /project && exec cargo \"\$@\"" cargo "$@"
' check-arm "$PWD" "$root" "$home" "${tests[@]}"
