#!/usr/bin/env bash
# The lab's experiments in miniature, on two CPU cores: five models learn recall, state tracking and state-based recall; a
# table, and one page of it all (docs/lab.md says what it shows and what not). Run again, it goes on where it stopped.
# Everything lands in runs/lab/quick.
# Usage: scripts/lab_quick.sh [--no-setup] [options of braid lab run, such as --jobs 1]
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C
. scripts/common.sh
# Where cores are shared, threads that spin while they wait take them from those that work.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

setup=yes
if [ "${1:-}" = --no-setup ]; then setup=no && shift; fi
options=("$@")

quick=runs/lab/quick

if [ $setup = yes ]; then bash scripts/setup.sh; fi

build_braid lab_quick

for task in tracking recall state_based_recall; do
  title "$task (configs/lab/quick/$task.toml)"
  "$braid" lab run "configs/lab/quick/$task.toml" --threads 2 ${options[@]+"${options[@]}"}
done

title 'report'
"$braid" lab report $quick/{tracking,recall,state_based_recall} --output "$quick/report.html"

tracker=$quick/tracking/runs/gdn-negative_lr0.002_cosine_seed1/model
if [ -d "$tracker" ]; then
  title 'inside the swap tracker'
  "$braid" lab inspect "$tracker" --n 16 --output "$quick/inside.html"
fi
