# Every ablation on generated rooms, beside the decoders (run rooms_decoders/run.sh first: its mtlsi is the full network, its
# single_task the gain's reference); not what is for large images only: windows of 16 on a map of 12x16, widths beyond 96. The same command continues what was interrupted. Arguments: further settings.
set -e
python -m mtlsi_net.train -m experiment=rooms_study sweep=ablation 'ablation=glob(*,exclude=[full,width_256,width_384,window_16])' "$@"
python -m mtlsi_net.train -m experiment=rooms_study sweep=ablation model.head_dim=32 model.width=32,64,96 "$@"
python -m mtlsi_net.compare runs=[outputs/rooms_study/sweep_decoders,outputs/rooms_study/sweep_ablation] \
  out=experiments/rooms_ablation/results page_mb=2 worst=0
python experiments/rooms_ablation/reading.py experiments/rooms_ablation/results
