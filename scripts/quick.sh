#!/usr/bin/env bash
# The whole recipe in miniature, from documents to a preference-tuned model: pretraining, two mid-trainings and their
# soup, longer context, supervised fine-tuning, DPO, each measured as it ends (docs/recipe.md). Run again, it goes on
# where it stopped. Everything lands in runs/quick.
# Usage: scripts/quick.sh [--no-setup] [options of braid train, such as --device cuda]
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C
. scripts/common.sh
# Where cores are shared, threads that spin while they wait take them from those that work.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

setup=yes
if [ "${1:-}" = --no-setup ]; then setup=no && shift; fi
device=("$@")

corpus=data/quickstart.jsonl.zst
quick=runs/quick
validation=$quick/data/validation.u16
tasks=$quick/sets/tasks.jsonl

# train STAGE: a stage by its recipe.
train() {
  title "$1 (configs/quick/$1.toml)"
  "$braid" train "configs/quick/$1.toml" ${device[@]+"${device[@]}"}
}

# score STAGE STEP: its answers to the tasks, once.
score() {
  if [ -e "$quick/$1/scores.jsonl" ]; then cat "$quick/$1/scores.jsonl" && return; fi
  "$braid" eval "$quick/$1/model" --tasks "$tasks" --scores "$quick/$1/scores.jsonl" --step "$2" ${device[@]+"${device[@]}"}
}

# sample STAGE STEP QUESTION: its answer, kept for the report.
sample() {
  if [ -e "$quick/$1/samples.jsonl" ]; then return; fi
  "$braid" generate "$quick/$1/model" --chat --prompt "$3" --max-tokens 60 --no-stream \
    --samples "$quick/$1/samples.jsonl" --step "$2" ${device[@]+"${device[@]}"} 2>/dev/null
}

# steps STAGE: of its recipe.
steps() { sed -n 's/^steps = \([0-9]*\).*/\1/p' "configs/quick/$1.toml"; }

if [ $setup = yes ]; then bash scripts/setup.sh; fi

build_braid quick

title 'instructions, preferences and scored tasks, made from the corpus by rule'
if [ ! -e "$quick/sets/exercises.jsonl" ]; then
  "$braid" data make-chat-sets "$corpus" --output "$quick/sets" --conversations 20000 --preferences 4000 --tasks 1000 \
    --documents 10000
fi
if [ ! -e "$quick/sft_data/validation.json" ]; then
  "$braid" data build-chat "$quick/sets/chat.jsonl" --output "$quick/sft_data" --validation-fraction 0.02
fi

train pretrain

title 'text for mid-training: the corpus and the exercises'
# The seed and fraction of pretraining, so that what it held out stays held out.
"$braid" data build "$corpus" "$quick/sets/exercises.jsonl" --output "$quick/data_midtrain" --seed 1 \
  --validation-fraction 0.02 2>/dev/null
train midtrain_a
train midtrain_b

title 'soup'
if [ ! -e "$quick/soup/config.json" ]; then
  "$braid" soup "$quick/midtrain_a/model" "$quick/midtrain_b/model" --output "$quick/soup"
fi
for model in midtrain_a/model midtrain_b/model soup; do
  "$braid" eval "$quick/$model" --data "$quick/data_midtrain/validation.u16" --context 256 ${device[@]+"${device[@]}"} |
    sed "s|^|$model: |"
done

train long_context
title 'loss by position, before and after'
for model in soup long_context/model; do
  printf '%s\n' "$model"
  "$braid" eval "$quick/$model" --data "$validation" --context 1024 --by-position 4 ${device[@]+"${device[@]}"}
done

title 'tasks before fine-tuning'
score long_context "$(steps long_context)"
train sft
score sft "$(steps sft)"
train dpo
title 'tasks after all stages'
score dpo "$(steps dpo)"
for stage in sft dpo; do
  sample "$stage" "$(steps "$stage")" 'last word: the white whale swims'
done

if "$braid" --help | grep -q '^  report'; then
  title 'report'
  "$braid" report $quick/{pretrain,midtrain_a,midtrain_b,long_context,sft,dpo} --output "$quick/report.html"
fi

title 'tasks right'
for stage in long_context sft dpo; do printf '%-14s %s\n' "$stage" "$(tail -n 1 "$quick/$stage/scores.jsonl")"; done

title 'done'
printf 'the model: %s/dpo/model\n' "$quick"
