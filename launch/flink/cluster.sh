#!/usr/bin/env bash
# A Flink cluster on this machine: a JobManager, two TaskManagers, the worker pool that they share, and Beam's job
# server if its jar is given.
#
# launch/flink/cluster.sh start [JAR]   starts what is not running; JAR is a path or a URL of
#                                       beam-runners-flink-VERSION-job-server.jar
# launch/flink/cluster.sh stop
#
# FLINK_VERSION=1.20.5, FLINK_FOLDER=~/.cache/beam-embedding-jobs/flink, PYTHON=python3 (has this project installed),
# SLOTS=2 of each TaskManager, POOL_PORT=50000 (its health is on the next one). Needs Java 11 or 17. Flink comes from the package index, as apache-flink-libraries.
set -euo pipefail

readonly version=${FLINK_VERSION:-1.20.5} python=${PYTHON:-python3} slots=${SLOTS:-2}
readonly pool_port=${POOL_PORT:-50000} health_port=$((${POOL_PORT:-50000} + 1))
readonly folder=${FLINK_FOLDER:-$HOME/.cache/beam-embedding-jobs/flink}
readonly home=$folder/apache_flink_libraries-$version/deps
# Java 17 keeps these closed; the list is that of Flink's own configuration.
opens=()
for package in java.base/java.{net,util,lang,io,nio,text,time,util.concurrent} java.base/java.lang.{reflect,invoke} \
    java.base/sun.net.util java.base/java.util.concurrent.{atomic,locks}; do
    opens+=(--add-opens="$package=ALL-UNNAMED")
done

fetch() {
    [[ ! -d $home/lib ]] || return 0
    mkdir -p "$folder/archive"
    "$python" -m pip download --quiet --no-deps --no-binary :all: -d "$folder/archive" "apache-flink-libraries==$version"
    tar -xzf "$folder"/archive/apache*flink*libraries-"$version".tar.gz -C "$folder"
}

configure() {
    cat >"$folder/config.yaml" <<EOF
jobmanager.rpc.address: localhost
jobmanager.memory.process.size: 1600m
taskmanager.host: localhost
taskmanager.numberOfTaskSlots: $slots
# What Flink's own scripts compute from one size: its main class takes the parts.
taskmanager.cpu.cores: $slots
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.framework.off-heap.size: 128m
taskmanager.memory.task.heap.size: 384m
taskmanager.memory.task.off-heap.size: 0
taskmanager.memory.network.min: 128m
taskmanager.memory.network.max: 128m
taskmanager.memory.managed.size: 256m
taskmanager.memory.jvm-metaspace.size: 256m
taskmanager.memory.jvm-overhead.min: 192m
taskmanager.memory.jvm-overhead.max: 192m
rest.address: localhost
rest.port: 8081
restart-strategy.type: exponential-delay
EOF
}

# launch NAME COMMAND...: starts it, unless it is running.
launch() {
    local name=$1
    shift
    if [[ -f $folder/$name.pid ]] && kill -0 "$(<"$folder/$name.pid")" 2>/dev/null; then
        return
    fi
    nohup "$@" >"$folder/$name.log" 2>&1 </dev/null &
    echo $! >"$folder/$name.pid"
    echo "$name: $folder/$name.log"
}

# Waits until the pool answers, by its process: another pool of this machine may have the port.
await_pool() {
    local pid
    pid=$(<"$folder/pool.pid")
    while kill -0 "$pid" 2>/dev/null; do
        ! curl -fs "http://localhost:$health_port/health" | grep -q "\"pid\": $pid," || return 0
        sleep 0.5
    done
    echo "The pool ended; POOL_PORT chooses another port. Its log:" >&2
    cat "$folder/pool.log" >&2
    rm "$folder/pool.pid"
    return 1
}

flink() {
    local name=$1 class=$2
    shift 2
    FLINK_PLUGINS_DIR=$home/plugins launch "$name" java "${opens[@]}" -Xmx1g -cp "$home/lib/*" \
        "org.apache.flink.runtime.$class" --configDir "$folder" "$@"
}

start() {
    local jar=${1:-}
    fetch
    configure
    flink jobmanager entrypoint.StandaloneSessionClusterEntrypoint
    for number in 1 2; do
        flink "taskmanager$number" taskexecutor.TaskManagerRunner -D "taskmanager.resource-id=taskmanager$number"
    done
    launch pool "$python" -m beam_jobs.worker_pool --service_port "$pool_port" --health_port "$health_port"
    await_pool
    if [[ $jar == *://* ]]; then
        [[ -f $folder/job-server.jar ]] || curl -fsSL -o "$folder/job-server.jar" "$jar"
        jar=$folder/job-server.jar
    fi
    if [[ -n $jar ]]; then
        launch jobserver java -jar "$jar" --flink-master localhost:8081 --job-host localhost --job-port 8099 \
            --artifact-port 8098 --expansion-port 8097 --artifacts-dir "$folder/artifacts"
    fi
    echo "page: http://localhost:8081   FLINK_JOB_ENDPOINT=localhost:8099 FLINK_WORKER_POOL=localhost:$pool_port"
}

stop() {
    local file
    for file in "$folder"/*.pid; do
        [[ -f $file ]] || continue
        kill "$(<"$file")" 2>/dev/null || true
        rm "$file"
    done
}

case ${1:-} in
    start) start "${2:-}" ;;
    stop) stop ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
