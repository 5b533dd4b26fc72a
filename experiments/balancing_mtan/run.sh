# All ways of balancing on one data set: sh experiments/balancing_mtan/run.sh nyuv2_mtan|cityscapes_mtan DATA [SETTING ...]
# The same command continues what was interrupted. Tables go to $RESULTS, or results/<data set> in this folder.
set -e
data=$1
root=$2
shift 2
python -m mtlsi_net.train -m "experiment=$data" "data.root=$root" sweep=balancing seed=0,1,2 \
  task_weights=equal,uncertainty,dwa,famo,pcgrad,mgda,cagrad,imtl_g,aligned_mtl,upgrad "$@"
python -m mtlsi_net.train -m "experiment=$data" "data.root=$root" sweep=balancing_single seed=0,1,2 model=single_task "$@"
python -m mtlsi_net.compare "runs=[outputs/$data/sweep_balancing,outputs/$data/sweep_balancing_single]" \
  "out=${RESULTS:-experiments/balancing_mtan/results/$data}"
