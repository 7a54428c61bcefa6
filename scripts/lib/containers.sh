# What scripts share that handle the containers of deploy/compose.yaml. Sourced, at the root of the repository.

project="${THALWEG_PROJECT:-thalweg}"
wait_seconds_max=300

say() { printf '%s: %s\n' "$(basename "$0")" "$*"; }

# containers_of SERVICE: ids of its running containers, in the order of their numbers.
containers_of() {
    docker ps --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1" \
        --format '{{.Label "com.docker.compose.container-number"}} {{.ID}}' | sort -n | cut -d ' ' -f 2
}

is_healthy() { [ "$(docker inspect --format '{{.State.Health.Status}}' "$1")" = healthy ]; }

# thalweg ARGUMENT...: the command line in a container of a gateway.
thalweg() {
    local gateway
    gateway="$(containers_of gateway | head -n 1)"
    [ -n "$gateway" ] || { say "no gateway runs in project $project" >&2; return 1; }
    docker exec "$gateway" /usr/local/bin/thalweg --bootstrap 127.0.0.1:50051 "$@"
}

# Whether no replica of any partition is behind.
is_in_sync() {
    local nodes
    nodes="$(thalweg cluster nodes)" || return 1
    # Column 7 counts replicas that are out of sync.
    awk 'NR > 1 && $2 == "broker" && (($3 != "live" && $3 != "cordoned") || $7 != 0) { behind = 1 } END { exit behind }' <<<"$nodes"
}

# wait_until WHAT COMMAND...
wait_until() {
    local what="$1" end=$((SECONDS + wait_seconds_max))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || { say "not so after $wait_seconds_max seconds: $what" >&2; exit 1; }
        sleep 0.5
    done
}
