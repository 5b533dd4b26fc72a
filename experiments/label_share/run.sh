# Few labels of one task: sh experiments/label_share/run.sh [settings], after stages search and final of experiments/rooms_bench/run.sh
# The same command continues what was interrupted.
set -e
here=experiments/label_share
sweeps=outputs/rooms_bench
chosen=$(python experiments/choose.py --settings experiments/rooms_bench/results/chosen.csv) # by itself, so that a failure ends the script
printf '%s\n' "$chosen" | grep -E '^model=(mtlsi|plain|single_task) ' | while read -r settings; do
  python -m mtlsi_net.train -m experiment=rooms_bench sweep=labels $settings \
    'data.label_share={normals: 0.05},{normals: 0.2}' "$@" </dev/null
done
all="'$sweeps/sweep_final/*model_mtlsi-*seed_0*','$sweeps/sweep_final/*model_plain-*seed_0*','$sweeps/sweep_final/*model_single_task-*seed_0*'"
python -m mtlsi_net.compare "runs=[$sweeps/sweep_labels,$all]" out=$here/results page_mb=1 worst=0
rm -f $here/results/index.html # large; compare makes it anew
python $here/curves.py $here/results
