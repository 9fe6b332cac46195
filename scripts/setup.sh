#!/usr/bin/env bash
# Installs what braid needs from Debian's packages; does nothing where all of it is there.
# Usage: scripts/setup.sh [--check] [--developer] [--cuda]
#   --check      only report; exits 1 when something is missing
#   --developer  also the tools that CONTRIBUTING.md names but neither build nor tests need
#   --cuda       also the headers of cuDNN's front end, into third_party/ (CUDA and cuDNN are NVIDIA's to install)
set -euo pipefail
export LC_ALL=C

tools=(g++ ccache cmake ninja-build pkg-config python3 gnuplot-nox clang-format)
libraries=(libcli11-dev libdnnl-dev libfmt-dev libhwy-dev libpcre2-dev libtomlplusplus-dev libxxhash-dev libzstd-dev
  nlohmann-json3-dev zlib1g-dev libbenchmark-dev libgtest-dev)
developer=(clang clang-tidy-19 git libclang-rt-dev libomp-dev)
cuda=(python3-pip unzip)
frontend=1.32.0  # version of nvidia-cudnn-frontend on PyPI
headers=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/third_party/cudnn_frontend

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2 && exit 1; }

check_only=no
with_cuda=no
wanted=("${tools[@]}" "${libraries[@]}")
for argument in "$@"; do
  case $argument in
    --check) check_only=yes ;;
    --developer) wanted+=("${developer[@]}") ;;
    --cuda) with_cuda=yes wanted+=("${cuda[@]}") ;;
    *) die "unknown option '$argument': the options are --check, --developer and --cuda" ;;
  esac
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  die "this is not a Debian system; install the equivalents of these packages: ${wanted[*]}"
fi

have_headers() {
  local found
  found=$(sed -nE 's/^#define CUDNN_FRONTEND_(MAJOR|MINOR|PATCH)_VERSION ([0-9]+)$/\2/p' \
    "$headers/include/cudnn_frontend_version.h" 2>/dev/null | paste -sd.) || return 1
  [ "$found" = $frontend ]
}

# The headers out of the wheel; the folder appears whole or not at all.
fetch_headers() {
  local work
  mkdir -p "$(dirname "$headers")"
  work=$(mktemp -d "$headers.XXXXXX")
  if ! python3 -m pip --disable-pip-version-check download -q --no-deps --only-binary=:all: -d "$work" \
    "nvidia-cudnn-frontend==$frontend" ||
    ! unzip -q "$work"/nvidia_cudnn_frontend-*.whl 'include/*' -d "$work/new"; then
    rm -rf "$work"
    die "cannot fetch nvidia-cudnn-frontend $frontend from PyPI (pip's words are above): check the network, then repeat"
  fi
  rm -rf "$headers"
  mv "$work/new" "$headers"
  rm -rf "$work"
  say "fetched the headers of cuDNN's front end $frontend; configure again so that CMake finds them"
}

# One line per package that dpkg knows: "name status". Unknown packages make dpkg-query fail, which is no error.
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null || true)
missing=()
for package in "${wanted[@]}"; do
  grep -Fqx "$package installed" <<<"$installed" || missing+=("$package")
done

headers_missing=no
[ $with_cuda = no ] || have_headers || headers_missing=yes
[ $headers_missing = no ] || say "missing: the headers of cuDNN's front end $frontend in third_party/"

if [ ${#missing[@]} -eq 0 ]; then
  if [ $headers_missing = yes ]; then
    [ $check_only = no ] || exit 1
    fetch_headers
    exit 0
  fi
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
[ $headers_missing = no ] || fetch_headers
