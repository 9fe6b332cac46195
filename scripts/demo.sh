#!/usr/bin/env bash
# From nothing to two trained models: builds braid, trains a small hybrid and a transformer of the same size
# on data/quickstart.jsonl.zst, and shows their curves and samples. Run again, it goes on where it stopped.
# Usage: scripts/demo.sh [--no-setup]
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

setup=yes
for argument in "$@"; do
  case $argument in
    --no-setup) setup=no ;;
    *) printf "demo: error: unknown option '%s': the only option is --no-setup\n" "$argument" >&2 && exit 2 ;;
  esac
done

braid=build/release/bin/braid
models=(hybrid transformer)
prompt='The people of this country'

# title TEXT: the heading of a part, with the time since the start.
title() { printf '\n== %s  [%d:%02d]\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); }

if [ $setup = yes ]; then bash scripts/setup.sh; fi

title 'build'
log=build/demo.log
mkdir -p build
if ! { cmake --preset release && cmake --build --preset release --target braid; } >"$log" 2>&1; then
  tail -n 40 "$log" >&2
  printf 'demo: error: the build failed; its last lines are above, all of it in %s\n' "$log" >&2
  exit 1
fi
printf '%s is ready\n' "$braid"

for model in "${models[@]}"; do
  title "train the $model (configs/demo/$model.toml)"
  "$braid" train "configs/demo/$model.toml"
done

title 'validation curves'
python3 tools/plot_metrics.py "${models[@]/#/runs/demo/}" --svg runs/demo/validation.svg

for model in "${models[@]}"; do
  title "a sample from the $model"
  "$braid" generate "runs/demo/$model/model" --prompt "$prompt" --max-tokens 200 --temperature 0.8 --seed 1
  printf '\n'
done

title 'done'
cat <<END
Next, try
  $braid generate runs/demo/hybrid/model --prompt "Call me" --max-tokens 100
  $braid inspect runs/demo/hybrid/model
  edit a copy of configs/demo/hybrid.toml, then: $braid train COPY
  scripts/test.sh
END
