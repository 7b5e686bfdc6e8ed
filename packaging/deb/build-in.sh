#!/bin/bash
# Builds the Debian package for another release, as root: packaging/deb/build-in.sh ROOT [DIRECTORY], default dist/.
#
# ROOT is a root file system of that release with python3; it is not changed. build.sh runs there, without a network:
# this machine's pip fetches what the lock files pin, for the release's Python and C library, and for what builds the wheel.
# VERSION=... and PIP="... -m pip" mean the same as for build.sh.
set -euo pipefail
umask 022

source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
root=$(realpath "$1")
output=$(realpath -m "${2:-$source/dist}")
read -r -a pip <<<"${PIP:-python3 -m pip}"

# Prints what Python prints in the root.
ask() {
    chroot "$root" /usr/bin/python3 -Ic "$1"
}

# Fetches the pinned packages of a lock file: $1 is the file, $2 where they go, and the rest is options of pip.
fetch() {
    local lock=$1 place=$2
    shift 2
    "${pip[@]}" --quiet --quiet --disable-pip-version-check --no-input download --no-deps --only-binary :all: \
        --require-hashes --dest "$place" --requirement "$lock" "$@"
}

# Prints the lines of requirements-dev.lock that pin some packages.
locked() {
    local name
    for name in "$@"; do
        sed -n "/^$name==/,/[^\\\\]\$/p" "$source/requirements-dev.lock"
    done
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
machine=$(uname -m)
python=$(ask 'import sys; print(f"{sys.version_info.major}.{sys.version_info.minor}")')
glibc=$(ask 'import os; print(os.confstr("CS_GNU_LIBC_VERSION").split()[1])')
wanted=(--implementation cp --python-version "$python")
for minor in $(seq "${glibc#2.}" -1 5); do # a wheel for an older C library works as well (PEP 600); pip takes the first
    wanted+=(--platform "manylinux_2_${minor}_$machine")
    [ "$minor" != 17 ] || wanted+=(--platform "manylinux2014_$machine")
done

echo "fetching $(grep -c '^[a-z0-9].*==' "$source/requirements.lock") pinned packages for Python $python and glibc $glibc"
locked pip setuptools >"$scratch/tools.lock"
fetch "$source/requirements.lock" "$scratch/wheels" "${wanted[@]}"
fetch "$scratch/tools.lock" "$scratch/tools" --python-version "$python"
for tool in "$scratch"/tools/*.whl; do
    python3 -m zipfile -e "$tool" "$scratch/programs"
done
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -c safe.directory="$source" -C "$source" log -1 --format=%ct)}

# All mounts end with the namespace. What is written in the root goes to memory.
mkdir -p "$output" "$source/build"
unshare --mount --net --propagation private -- bash -euo pipefail -c '
root=$1 source=$2 output=$3 scratch=$4
mkdir "$scratch/memory"
mount -t tmpfs tmpfs "$scratch/memory"
mkdir "$scratch/memory/upper" "$scratch/memory/work" "$scratch/memory/root"
mount -t overlay -o "lowerdir=$root,upperdir=$scratch/memory/upper,workdir=$scratch/memory/work" overlay "$scratch/memory/root"
cd "$scratch/memory/root"
mkdir source output wheels programs
mount --bind "$source" source
mount --bind "$output" output
mount --bind "$scratch/wheels" wheels
mount --bind "$scratch/programs" programs
mount -t proc proc proc
mount --rbind /dev dev
exec chroot . env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root VERSION="${VERSION:-}" SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" \
    PYTHONPATH=/programs PIP="/usr/bin/python3 -m pip" PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels /source/packaging/deb/build.sh /output
' bash "$root" "$source" "$output" "$scratch" >"$scratch/built"
sed "s|^built /output|built $output|" "$scratch/built"
