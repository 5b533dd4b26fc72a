# One task labelled on 5 and 20 % of the rooms, the others on all: the full network and the one without fusion. The runs
# with all labels are those of rooms_decoders and rooms_ablation. The same command continues what was interrupted.
set -e
python -m mtlsi_net.train -m experiment=rooms_study sweep=labels ablation=full,no_fusion \
  'data.label_share={normals: 0.05},{normals: 0.2},{depth: 0.05},{depth: 0.2}' "$@"
python -m mtlsi_net.compare out=experiments/rooms_labels/results page_mb=1 worst=0 \
  "runs=[outputs/rooms_study/sweep_labels,'outputs/rooms_study/sweep_decoders/*model_mtlsi-*','outputs/rooms_study/sweep_*/*no_fusion-*']"
python experiments/rooms_labels/curves.py experiments/rooms_labels/results
