#!/usr/bin/env bash
# From nothing to two trained models: builds braid, trains a small hybrid and a transformer of the same size
# on data/quickstart.jsonl.zst, and shows their curves and samples. Run again, it goes on where it stopped.
# Usage: scripts/demo.sh [--no-setup]
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C
. scripts/common.sh

setup=yes
for argument in "$@"; do
  case $argument in
    --no-setup) setup=no ;;
    *) printf "demo: error: unknown option '%s': the only option is --no-setup\n" "$argument" >&2 && exit 2 ;;
  esac
done

models=(hybrid transformer)
prompt='The people of this country'

if [ $setup = yes ]; then bash scripts/setup.sh; fi

build_braid demo

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
