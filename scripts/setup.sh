#!/usr/bin/env bash
# Installs what braid needs from Debian's packages; does nothing where all of it is there.
# Usage: scripts/setup.sh [--check] [--developer]
#   --check      only report; exits 1 when something is missing
#   --developer  also the tools that CONTRIBUTING.md names but neither build nor tests need
set -euo pipefail
export LC_ALL=C

tools=(g++ cmake ninja-build pkg-config python3 gnuplot-nox clang-format)
libraries=(libcli11-dev libdnnl-dev libfmt-dev libhwy-dev libpcre2-dev libtomlplusplus-dev libzstd-dev
  nlohmann-json3-dev zlib1g-dev libbenchmark-dev libgtest-dev)
developer=(ccache clang clang-tidy-19 git libclang-rt-dev libomp-dev)

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2 && exit 1; }

check_only=no
wanted=("${tools[@]}" "${libraries[@]}")
for argument in "$@"; do
  case $argument in
    --check) check_only=yes ;;
    --developer) wanted+=("${developer[@]}") ;;
    *) die "unknown option '$argument': the options are --check and --developer" ;;
  esac
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  die "this is not a Debian system; install the equivalents of these packages: ${wanted[*]}"
fi

# One line per package that dpkg knows: "name status". Unknown packages make dpkg-query fail, which is no error.
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null || true)
missing=()
for package in "${wanted[@]}"; do
  grep -Fqx "$package installed" <<<"$installed" || missing+=("$package")
done

if [ ${#missing[@]} -eq 0 ]; then
  say "nothing to do, all ${#wanted[@]} packages are installed"
  exit 0
fi
say "missing: ${missing[*]}"
[ $check_only = no ] || exit 1

as_root=(env)
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || die "not root and no sudo: run 'apt-get install ${missing[*]}' as root"
  as_root=(sudo env)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt_get() {
  "${as_root[@]}" LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Acquire::Retries=3 \
    -o Dpkg::Use-Pty=0 "$@" </dev/null >"$log" 2>&1 && return
  tail -n 20 "$log" >&2
  die "'apt-get $*' failed (its last lines are above); braid is made for the packages of Debian 12"
}
# --no-remove: a package that conflicts with one of the machine's is an error, never a replacement.
apt_get update
say "installing ${#missing[@]} packages and what they depend on"
apt_get install --no-install-recommends --no-remove "${missing[@]}"
say "installed ${#missing[@]} packages in $SECONDS s"
