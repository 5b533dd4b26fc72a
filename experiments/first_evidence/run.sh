#!/bin/sh
# First evidence: do the blocks do anything? Same data, steps and seeds for all. Runs go to sweeps/ (not committed),
# results to results.csv and table.md. Usage: sh experiments/first_evidence/run.sh [steps] [seeds] [seeds of the corners]
set -e
steps=${1:-400}
seeds=${2:-0,1}
corners=${3:-0}
here=$(dirname "$0")
common="experiment=rooms_demo trainer.max_steps=$steps trainer.val_check_interval=null pictures=1"
python -m mtlsi_net.train -m $common seed=$seeds hydra.sweep.dir="$here/sweeps/models" model=shared_encoder,mtlsi,mtlsi_plus
python -m mtlsi_net.train -m $common seed=$corners hydra.sweep.dir="$here/sweeps/blocks" \
  'ablation=glob(blocks_*)'
python "$here/collect.py"
