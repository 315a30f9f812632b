#!/bin/bash
# Trains on a TPU slice from a laptop: creates it, starts the same command on all its workers, and
# does so again after a preemption until the run has ended.
#
#   scripts/pod.sh up NAME -- --config configs/natural.py:stage1 --workdir gs://bucket/natural1 ...
#   scripts/pod.sh down NAME
#
# What follows `--` is scripts/train.py's. Set by the environment: ZONE (us-central2-b), TYPE
# (v4-32), VERSION (tpu-ubuntu2204-base), PROJECT (gcloud's own), REPOSITORY (the address that git
# clones, that of the checkout), COMMIT (the checkout's), SPOT (1; 0: on demand), POLL (60 seconds).
# --dry-run, before the verb, prints the commands and runs none. It has been tested with a stand-in
# for gcloud, not with the real service.
set -euo pipefail

dry=0
if [ "${1:-}" = --dry-run ]; then dry=1; shift; fi
verb=${1:-} name=${2:-}
case "$verb" in up | down) ;; *) verb= ;; esac
if [ -z "$verb" ] || [ -z "$name" ]; then
    sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
shift 2
zone=${ZONE:-us-central2-b} type=${TYPE:-v4-32} version=${VERSION:-tpu-ubuntu2204-base}
where=(--zone="$zone" ${PROJECT:+--project="$PROJECT"})
spot=() && [ "${SPOT:-1}" = 0 ] || spot=(--spot)
poll=${POLL:-60}

# Prints a command, and runs it unless --dry-run.
run() {
    printf '+'; printf ' %q' "$@"; printf '\n'
    [ $dry = 1 ] || "$@"
}

state() {
    gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format='value(state.state)' \
        2>/dev/null || echo MISSING
}

delete() { run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet; }

create() {
    run gcloud compute tpus queued-resources create "$name" "${where[@]}" --node-id="$name" \
        --accelerator-type="$type" --runtime-version="$version" "${spot[@]}"
}

on_all() { run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all --command="$1"; }

# Waits until the slice is there; a request that failed or was preempted is made anew.
wait_for_slice() {
    [ $dry = 0 ] || { create; return; }
    while true; do
        now=$(state)
        case "$now" in
            ACTIVE) return ;;
            MISSING) create ;;
            FAILED | SUSPENDED | SUSPENDING) echo "$name is $now: asking again"; delete ;;
            *) echo "$name is $now"; sleep "$poll" ;;
        esac
    done
}

if [ "$verb" = down ]; then delete; exit; fi

[ "${1:-}" = -- ] && shift
repository=${REPOSITORY:-$(git config --get remote.origin.url || true)}
commit=${COMMIT:-$(git rev-parse HEAD)}
if [ -z "$repository" ]; then
    echo "The checkout has no origin: set REPOSITORY to an address that git clones." >&2
    exit 2
fi
train=$(printf ' %q' "$@")
install="set -e; [ -d glc_jax ] || git clone $(printf %q "$repository") glc_jax; cd glc_jax; \
git fetch -q; git checkout -q $commit; [ -d ~/venv ] || python3 -m venv ~/venv; \
~/venv/bin/pip install -q -e '.[train,gcs]' 'jax[tpu]'"
start="cd glc_jax; ~/venv/bin/python scripts/train.py --distributed$train; echo train.py: exit \$?"
log=$(mktemp) && trap 'rm -f "$log"' EXIT

while true; do
    wait_for_slice
    on_all "$install" && on_all "$start" 2>&1 | tee "$log" || echo "$name: the connection was lost"
    if [ $dry = 1 ]; then exit; fi
    if grep -q 'Finished: step' "$log"; then echo 'The run has ended.'; exit; fi
    if grep -q 'train.py: exit [12]$' "$log"; then
        echo 'The run ended with a mistake; its last lines say which.' >&2
        exit 1
    fi
    echo "$name: the run was cut off and goes on"
    : >"$log"
    sleep "$poll"
done
