#!/usr/bin/env bash
# Builds Prism, Beam's local portable engine, at the version of the Beam that this project pins:
#   launch/prism/install.sh [FOLDER]      (default: ~/.cache/beam-embedding-jobs/prism)
# Needs Go 1.25 or newer. Go checks what it fetches against its public list of checksums, and the modules it builds
# from against the checksums in Beam's go.sum. Prints where the binary is; exit code 69 where it cannot be had.
set -euo pipefail

readonly version=v2.77.0
readonly folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/beam-embedding-jobs/prism}/$version

if [[ ! -x $folder/prism ]]; then
    if ! command -v go >/dev/null; then
        echo "Prism is built with Go, which is not on this machine: install Go 1.25 or newer." >&2
        exit 69
    fi
    mkdir -p "$folder"
    # -trimpath: the same source gives the same file, wherever it is built.
    if ! GOBIN=$folder GOFLAGS="-trimpath -buildvcs=false" go install "github.com/apache/beam/sdks/v2/go/cmd/prism@$version" >&2; then
        echo "Prism $version could not be built; Go's own words are above." >&2
        exit 69
    fi
fi
echo "$folder/prism"
