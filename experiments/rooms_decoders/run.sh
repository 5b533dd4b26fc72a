# All decoders on generated rooms at one budget, then their comparison; the same command continues what was interrupted.
# Usage: sh experiments/rooms_decoders/run.sh [settings, as trainer=gpu data.size=[224,288] or hydra/launcher=joblib]
set -e
common="experiment=rooms_study sweep=decoders"
python -m mtlsi_net.train -m $common seed=0,1,2 model=mtlsi,mtlsi_plus,shared_encoder,single_task "$@"
python -m mtlsi_net.train -m $common seed=0 model=invpt,mlore,mti_net_variant,bridgenet_variant "$@"
python -m mtlsi_net.compare runs=outputs/rooms_study/sweep_decoders out=experiments/rooms_decoders/results page_mb=2 worst=2
rm experiments/rooms_decoders/results/index.html # large; compare makes it anew
python experiments/rooms_decoders/breakdown.py outputs/rooms_study/sweep_decoders experiments/rooms_decoders/results
