# Nine runs of 80 steps on the demo's rooms, and their comparison: sh experiments/compare_page/run.sh OUT (2 CPU cores: 14 minutes)
set -e
out=${1:?folder for the runs}
train() {
  name=$1
  shift
  python -m mtlsi_net.train experiment=rooms_demo trainer.max_steps=80 trainer.val_check_interval=20 \
    data.max_train_scores=16 paths.run_dir="$out/$name" "$@"
}
for seed in 0 1; do
  train mtlsi_$seed seed=$seed
  train shared_$seed model=shared_encoder seed=$seed
done
train plain_0 model=plain
train semseg model=shared_encoder name=single_semseg '~tasks.depth' '~tasks.normals' '~tasks.boundary'
train depth model=shared_encoder name=single_depth '~tasks.semseg' '~tasks.normals' '~tasks.boundary'
train normals model=shared_encoder name=single_normals '~tasks.depth' '~tasks.semseg' '~tasks.boundary'
train boundary model=shared_encoder name=single_boundary '~tasks.depth' '~tasks.normals' '~tasks.semseg'
python -m mtlsi_net.compare "runs='$out/*'" out="$out/comparison"
