#!/usr/bin/env bash
# Builds and tests braid as it is in this tree; stops at the first stage that fails and names it.
# Usage: scripts/test.sh [--fast] [--no-setup]
#   --fast      leave out the full tests and the sanitizer pass
#   --no-setup  leave out the installation of packages
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

fast=no
setup=yes
for argument in "$@"; do
  case $argument in
    --fast) fast=yes ;;
    --no-setup) setup=no ;;
    *) printf "test: error: unknown option '%s': the options are --fast and --no-setup\n" "$argument" >&2 && exit 2 ;;
  esac
done

jobs=$(nproc)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
summary=()
passed=0

print_summary() {
  printf '\n== summary ==\n'
  printf '%s\n' "${summary[@]}"
  printf '%-12s %5d s\n' total "$SECONDS"
}

# stage NAME COMMAND...: runs the command; its failure ends the script.
stage() {
  local name=$1 start=$SECONDS status
  shift
  printf '\n== %s ==\n' "$name"
  # A subshell outside any condition: only there does 'set -e' hold inside the command.
  set +e
  (set -e && trap - EXIT && "$@")
  status=$?
  set -e
  if [ $status -ne 0 ]; then
    summary+=("$(printf '%-12s %5d s  FAILED (exit %d)' "$name" $((SECONDS - start)) $status)")
    print_summary
    printf "test: stage '%s' failed\n" "$name" >&2
    exit 1
  fi
  summary+=("$(printf '%-12s %5d s' "$name" $((SECONDS - start)))")
}

# build PRESET: configures and builds everything in build/PRESET.
build() {
  cmake --preset "$1"
  cmake --build --preset "$1" -j "$jobs"
}

# run_ctest PRESET LABEL
run_ctest() { ctest --preset "$1" -L "^$2\$" -j "$jobs" --no-tests=error 2>&1 | tee "$log"; }

# test_stage NAME PRESET LABEL: a stage that runs tests, and counts those that passed.
test_stage() {
  stage "$1" run_ctest "$2" "$3"
  local total
  total=$(sed -nE 's/^100% tests passed, 0 tests failed out of ([0-9]+).*/\1/p' "$log")
  summary[-1]+="  $total tests passed"
  passed=$((passed + total))
}

check_format() {
  local status=0 blemishes
  find src apps tests bench \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
    xargs -0 -n 20 -P "$jobs" clang-format --dry-run -Werror || status=1
  blemishes=$(find scripts tools cmake tests bench configs .ci CMakeLists.txt \
    \( -name '*.sh' -o -name '*.py' -o -name '*.cmake' -o -name CMakeLists.txt -o -name '*.toml' -o -name run \) \
    -type f -print0 | xargs -0 grep -nP '\t|[ \t]+$' || true)
  if [ -n "$blemishes" ]; then
    printf '%s\n' "$blemishes"
    printf 'tabs or trailing spaces in the lines above\n'
    status=1
  fi
  [ $status -eq 0 ] || return 1
  printf 'formatted as .clang-format says; no tabs, no trailing spaces\n'
}

if [ $setup = yes ]; then stage setup bash scripts/setup.sh; fi
stage layers python3 tools/check_layers.py
stage format check_format
stage build build release
test_stage fast release fast
if [ $fast = no ]; then
  test_stage full release full
  stage asan-build build asan
  test_stage asan asan fast
fi
print_summary
printf '%d passed, 0 failed\n' "$passed"
