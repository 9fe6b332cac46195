# What the scripts that build braid and then use it share; sourced from the project's root.

# shellcheck shell=bash
braid=build/release/bin/braid

# title TEXT: the heading of a part, with the time since the start.
title() { printf '\n== %s  [%d:%02d]\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); }

# build_braid SCRIPT: builds $braid; where that fails, the end of build/SCRIPT.log is shown.
build_braid() {
  title 'build'
  local log=build/$1.log
  mkdir -p build
  if ! { cmake --preset release && cmake --build --preset release --target braid; } >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    printf '%s: error: the build failed; its last lines are above, all of it in %s\n' "$1" "$log" >&2
    exit 1
  fi
  printf '%s is ready\n' "$braid"
}
