# Decoders on photographs: sh experiments/clothing/run.sh [folder of the photographs] [settings]
# The same command continues what was interrupted; see README.md for the data.
set -e
data=${1:-data/CCP}
[ $# -gt 0 ] && shift
if [ ! -d "$data/images" ]; then
  echo "skipped: no photographs in $data; see experiments/clothing/README.md"
  exit 0
fi
here=experiments/clothing
results=$here/results
sweeps=outputs/clothing
train="python -m mtlsi_net.train --config-dir $here/conf -m experiment=clothing"

# Learning rates, on a part of the training photographs; once chosen, they stay
if [ -f $results/chosen.csv ]; then
  echo "learning rates as in $results/chosen.csv; without that file they are searched anew"
else
  for model in mtlsi plain shared_encoder single_task mti_net_variant; do
    $train sweep=search data.root="$data" data.dev_split=true trainer.max_steps=400 checkpoint_every=100000 model=$model optim.lr=5e-4,1e-3,2e-3 "$@"
  done
  python -m mtlsi_net.compare runs=$sweeps/sweep_search out=$sweeps/search bootstrap=0
  mkdir -p $results
  cp $sweeps/search/runs.csv $results/search.csv
  python experiments/choose.py $results/search.csv $results/chosen.csv
fi

# Training on all training photographs; each run scores the others once, at its end
chosen=$(python experiments/choose.py --settings $results/chosen.csv) # by itself, so that a failure ends the script
printf '%s\n' "$chosen" | while read -r settings; do
  $train sweep=final data.root="$data" $settings seed=0,1,2 "$@" </dev/null
done
python -m mtlsi_net.compare runs=$sweeps/sweep_final out=$results strict=true
rm -f $results/index.html # large; compare makes it anew
