# Few labels of one task: sh experiments/label_share/run.sh [settings]
# The same command continues what was interrupted.
set -e
here=experiments/label_share
sweeps=outputs/rooms_bench
benchmark=experiments/rooms_bench/results
chosen=$(python experiments/choose.py --settings $benchmark/chosen.csv) # by itself, so that a failure ends the script
printf '%s\n' "$chosen" | grep -E '^model=(mtlsi|plain|single_task) ' | while read -r settings; do
  python -m mtlsi_net.train -m experiment=rooms_bench sweep=labels $settings \
    'data.label_share={normals: 0.05},{normals: 0.2}' "$@" </dev/null
done
for run in "$sweeps"/sweep_labels/*/; do # on the benchmark's test rooms, whose scores with all labels are at hand
  name=$(basename "$run")
  [ -f "$sweeps/test_labels/$name/metrics.json" ] || python -m mtlsi_net.evaluate ckpt="'$run'" data=rooms_bench_test paths.run_dir="'$sweeps/test_labels/$name'" pictures=0
done
python -m mtlsi_net.compare runs="'$sweeps/test_labels/*'" out=$here/results page_mb=1 worst=0 bootstrap=0
rm -f $here/results/index.html # large; compare makes it anew
python $here/curves.py $here/results $benchmark/runs.csv
