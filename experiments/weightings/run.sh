# Task weightings on one network: sh experiments/weightings/run.sh [settings]
# The same command continues what was interrupted.
set -e
here=experiments/weightings
python -m mtlsi_net.train -m experiment=rooms_bench sweep=weightings model=plain trainer.max_steps=600 checkpoint_every=100000 \
  task_weights=fixed_rooms,equal,uncertainty,dwa,log,famo,pcgrad,upgrad "$@"
python -m mtlsi_net.compare runs=outputs/rooms_bench/sweep_weightings out=$here/results page_mb=1 worst=0
rm -f $here/results/index.html # large; compare makes it anew
