# Decoders compared on a pretrained encoder: sh experiments/rooms_bench/run.sh [search|final|test|compare|seeds] [settings]
# Without a stage, all of them in this order. The same command continues what was interrupted.
set -e
results=experiments/rooms_bench/results
sweeps=outputs/rooms_bench
train="python -m mtlsi_net.train -m experiment=rooms_bench"
decoders=mtlsi,mtlsi_lite,plain,shared_encoder,single_task,bridgenet_variant,invpt,mti_net_variant
controls=blocks_011,local_only_convs,blocks_110 # convolutions for: MT-MQLFB | STD with what reads its tokens | CWIB

stage=${1:-all}
[ $# -gt 0 ] && shift
wanted() { [ "$stage" = all ] || [ "$stage" = "$1" ]; }
score() { # SWEEP FOLDER: each run of the sweep that is not in the folder yet
  for run in "$sweeps/$1"/*/; do
    name=$(basename "$run")
    [ -f "$sweeps/$2/$name/metrics.json" ] || python -m mtlsi_net.evaluate ckpt="'$run'" data=rooms_bench_test paths.run_dir="'$sweeps/$2/$name'" pictures=0
  done
}

if wanted search; then # norm and learning rate of each, on the validation rooms
  short="sweep=search trainer.max_steps=400 checkpoint_every=100000"
  $train $short model=$decoders optim.lr=5e-4,1e-3,2e-3 "$@"
  $train $short model=$decoders model.norm=layer "$@"
  $train $short ablation=$controls optim.lr=5e-4,1e-3,2e-3 "$@"
  python -m mtlsi_net.compare runs=$sweeps/sweep_search out=$sweeps/search bootstrap=0
  mkdir -p $results
  cp $sweeps/search/runs.csv $results/search.csv
  python experiments/choose.py $results/search.csv $results/chosen.csv
fi
if wanted final; then
  chosen=$(python experiments/choose.py --settings $results/chosen.csv) # by itself, so that a failure ends the script
  printf '%s\n' "$chosen" | while read -r settings; do
    $train sweep=final $settings seed=0,1,2 "$@" </dev/null
  done
fi
if wanted test; then # once: rooms that no choice has seen
  score sweep_final test
fi
if wanted compare; then
  python -m mtlsi_net.compare runs="'$sweeps/test/*'" out=$results page_mb=2 worst=2
  rm -f $results/index.html
fi
if wanted seeds; then # of the two closest networks, more seeds, scored on the same test rooms
  chosen=$(python experiments/choose.py --settings $results/chosen.csv)
  printf '%s\n' "$chosen" | grep -E '^model=(mtlsi|plain) ' | while read -r settings; do
    $train sweep=seeds $settings seed=3,4,5 "$@" </dev/null
  done
  score sweep_seeds test_seeds
  python -m mtlsi_net.compare runs="'$sweeps/test_seeds/*'" out=$results/seeds page_mb=2 worst=0
  rm -f $results/seeds/index.html
  python experiments/rooms_bench/lead.py $results/runs.csv $results/seeds/runs.csv $results/seeds/lead.csv
fi
