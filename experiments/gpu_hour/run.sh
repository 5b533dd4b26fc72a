# What half an hour of one GPU is best spent on: sh experiments/gpu_hour/run.sh [OUT]
# Steps in order of worth, each with a time limit and results of its own before the next begins; a step that fails or runs
# out of time is named and the next one starts. The same command goes on with what is missing.
out=${1:-experiments/gpu_hour/results}
mkdir -p "$out"

step() { # name, seconds, command ...
  name=$1
  limit=$2
  shift 2
  if [ -e "$out/$name.done" ]; then
    echo "$name: done before"
    return
  fi
  echo "$name: $*"
  start=$(date +%s)
  if timeout --signal=TERM --kill-after=20 "$limit" "$@" > "$out/$name.log" 2>&1; then
    echo "$name: $(($(date +%s) - start)) s" | tee "$out/$name.done"
  else
    echo "$name: failed or out of its $limit s after $(($(date +%s) - start)) s: $out/$name.log"
  fi
}

bench="python -m mtlsi_net.bench device=cuda precision=bf16-mixed data=nyud peak_tflops=${PEAK_TFLOPS:-null}"

step train_vit_l 240 $bench what=model backbone=vit_l batch_size=4 rounds=8 out="$out/train_vit_l" \
  'models=[mtlsi,plain,shared_encoder,invpt,mlore]'
step train_dinov3_l 150 $bench what=model backbone=dinov3_l batch_size=4 rounds=8 out="$out/train_dinov3_l" \
  'models=[mtlsi,shared_encoder]'
step memory_vit_l 120 $bench what=memory backbone=vit_l batch_size=4 out="$out/memory_vit_l"
step scaling 240 $bench what=scaling rounds=8 out="$out/scaling"
step rooms 800 python -m mtlsi_net.train -m experiment=rooms_study sweep=gpu_hour data=rooms trainer=gpu seed=0,1,2 \
  model=mtlsi,shared_encoder,single_task,plain data.prepare.train=1600 data.prepare.val=192 data.batch_size=8 \
  data.num_workers=8 trainer.max_steps=1500 trainer.enable_progress_bar=false data.root=data/rooms_gpu_hour
step compare 60 python -m mtlsi_net.compare runs=outputs/rooms_study/sweep_gpu_hour out="$out/rooms" page_mb=2
