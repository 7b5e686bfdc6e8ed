#!/bin/bash
# Builds the Debian package of this source tree, as any user: packaging/deb/build.sh [DIRECTORY], default dist/.
#
# The package is for the Debian and the architecture on which it is built: it holds a virtual environment of that Debian's
# Python with the pinned dependencies, and its version ends with the release (0.2.0+deb12), so that the package of a later
# release replaces it. The same commit gives the same bytes. VERSION=... builds it under another version, PIP="... -m pip"
# names the pip that fetches the dependencies (any from 22.3 on). build-in.sh builds it for another release.
set -euo pipefail
umask 022

python=/usr/bin/python3 # not the first in PATH: the package depends on Debian's
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
output=$(realpath -m "${1:-$source/dist}")
read -r -a pip <<<"${PIP:-$python -m pip}"
pip+=(--quiet --quiet --disable-pip-version-check --no-input)
home=/usr/lib/overlayd
commands=(overlay-controller overlayctl overlayd)

fail() {
    echo "build.sh: $*" >&2
    exit 1
}

# Prints the time of the commit, which all files in the package get.
source_date() {
    if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then
        echo "$SOURCE_DATE_EPOCH"
    # The user trusts this tree already, by running its script, even if it belongs to another user.
    elif ! git -c safe.directory="$source" -C "$source" log -1 --format=%ct; then
        fail "git does not know the date of this source: set SOURCE_DATE_EPOCH=SECONDS"
    fi
}

# Creates a virtual environment with the pinned dependencies, without pip and without files that differ between builds.
make_environment() {
    local place=$1 packages
    "$python" -m venv --without-pip "$place"
    packages=$(echo "$place"/lib/python3.*/site-packages)
    "${pip[@]}" --python "$place/bin/python" install --no-compile --only-binary :all: --require-hashes \
        -r "$source/requirements.lock"
    # Remove programs of the dependencies, files that only pip reads, and files that contain the directory of this build.
    find "$place/bin" -mindepth 1 ! -name 'python*' -delete
    rm -rf "$place"/{include,share,etc} "$packages"/*.dist-info/{RECORD,INSTALLER,REQUESTED,direct_url.json}
    find "$packages" -depth -type d \( -name tests -o -name test -o -name __pycache__ \) -exec rm -r {} +
    find "$packages" -type f ! -name '*.so*' -perm /111 -exec chmod 644 {} +
    sed -i '/^command = /d' "$place/pyvenv.cfg"
    # The files never change, so the interpreter need not check whether a source is newer.
    compile "$place" unchecked-hash "$packages"
}

# Compiles the Python files below directories, with the paths that they have after installation.
compile() {
    local place=$1 mode=$2
    shift 2
    "$python" -I -m compileall -q --invalidation-mode "$mode" -s "$place" -p "$home" "$@"
}

# Creates a copy of the environment. One with the same dependencies and the same script is reused.
copy_environment() {
    local key kept
    key=$({
        "$python" -VV
        dpkg --print-architecture
        cat "$source/requirements.lock" "$source/packaging/deb/build.sh"
    } | sha256sum | cut -c -16)
    kept=$source/build/deb-environment-$codename-$key
    mkdir -p "$source/build"
    exec 9>"$source/build/deb-environment.lock"
    flock 9 # a concurrent build of another version of this script, or with another Python, removes what it does not use
    if ! [ -d "$kept" ]; then
        echo "installing $(grep -c '^[a-z0-9].*==' "$source/requirements.lock") pinned packages into the Debian package"
        rm -rf "$source/build/deb-environment-$codename"-*
        partial=$(mktemp -d "$source/build/.deb-environment-XXXXXX")
        make_environment "$partial/environment"
        mv -T "$partial/environment" "$kept"
        rm -rf "$partial"
    fi
    cp -a "$kept" "$1"
    exec 9>&-
}

# Installs this tree into an environment, from a copy without the remains of earlier builds.
install_tree() {
    local place=$1 packages command
    packages=$(echo "$place"/lib/python3.*/site-packages)
    mkdir "$scratch/tree"
    cp -R "$source"/{pyproject.toml,LICENSE,cni,controller,overlayd,packaging} "$scratch/tree"
    sed -i "s/^version = .*/version = \"$version\"/" "$scratch/tree/pyproject.toml"
    find "$scratch/tree" -name __pycache__ -prune -exec rm -rf {} +
    "${pip[@]}" wheel --no-deps --no-index --no-build-isolation --wheel-dir "$scratch" "$scratch/tree"
    "${pip[@]}" --python "$place/bin/python" install --no-compile --no-deps --no-index "$scratch"/overlayd-*.whl
    rm -r "$packages"/overlayd-*.dist-info/{RECORD,INSTALLER,REQUESTED,direct_url.json}
    for command in "${commands[@]}"; do
        # -I: ignore the user's packages and the variables PYTHON...
        sed -i "1s|.*|#!$home/bin/python -I|" "$place/bin/$command"
    done
    find "$place" -exec touch --no-dereference --date="@$epoch" {} +
    compile "$place" timestamp "$packages"/{cni,controller,overlayd}
}

# Prints the dependencies in the environment with their versions and licences.
list_dependencies() {
    local described
    for described in "$1"/lib/python3.*/site-packages/*.dist-info/METADATA; do
        [[ $described = */overlayd-* ]] || awk -F ': ' '
            /^Name: / && !name { name = $2 }
            /^Version: / && !version { version = $2 }
            /^License(-Expression)?: / && !licence { licence = $2 }
            /^Classifier: License :: / && !licence { n = split($0, parts, " :: "); licence = parts[n] }
            /^$/ { exit }
            END { printf "  %s %s: %s\n", name, version, licence }' "$described"
    done
}

# Installs everything that is not Python at the paths of Debian's policy.
install_files() {
    local root=$1 place=$1$home
    "$place/bin/python" -IB -m overlayd.installation "$place/share/overlayd" "$root"
    rm -r "$place/share"
    install -d "$root/etc/overlayd"
    install -Dm 644 -t "$root/usr/share/doc/overlayd/examples" "$source"/packaging/examples/*
    find "$root/usr/share/man" -type f -exec gzip -9n {} +
    {
        cat "$source/packaging/deb/copyright"
        list_dependencies "$place"
    } >"$root/usr/share/doc/overlayd/copyright"
    sed -e "1s/(.*)/($debian_version)/" -e "s/@DATE@/$(date --utc --rfc-email --date="@$epoch")/" "$source/packaging/deb/changelog" |
        gzip -9n >"$root/usr/share/doc/overlayd/changelog.gz"
    install -Dm 644 "$source/packaging/deb/lintian-overrides" "$root/usr/share/lintian/overrides/overlayd"
}

# Prints the KiB of the package as dpkg-gencontrol(1) counts them, whatever the file system: 1 for what is no file.
installed_size() {
    find "$1" -path "$1/DEBIAN" -prune -o -type f -printf '%s\n' -o -printf '1\n' |
        awk '{ size += int(($1 + 1023) / 1024) } END { print size }'
}

# Writes the control files of the package.
write_control() {
    local root=$1 control=$1/DEBIAN minor
    install -d "$control"
    minor=$("$python" -c 'import sys; print(sys.version_info.minor)')
    sed -e "s/@VERSION@/$debian_version/" -e "s/@ARCHITECTURE@/$(dpkg --print-architecture)/" \
        -e "s/@PYTHON@/3.$minor/" -e "s/@NEXT_PYTHON@/3.$((minor + 1))/" \
        -e "s/@SIZE@/$(installed_size "$root")/" \
        "$source/packaging/deb/control" >"$control/control"
    (cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$control/md5sums"
    install -m 755 -t "$control" "$source"/packaging/deb/{preinst,postinst,prerm,postrm}
    install -m 644 -t "$control" "$source/packaging/deb/templates"
}

[ -x "$source/cni/launcher" ] || fail "there is no cni/launcher: make cni/launcher"
cd / # so that the caller's directory is not on Python's path
scratch=$(mktemp -d)
partial=
trap 'rm -rf "$scratch" ${partial:+"$partial"}' EXIT
epoch=$(source_date)
export SOURCE_DATE_EPOCH=$epoch PYTHONHASHSEED=0 LC_ALL=C.UTF-8 TZ=UTC
version=${VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' "$source/pyproject.toml")}
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
debian_version=$version+deb$(. /etc/os-release && echo "${VERSION_ID:-$VERSION_CODENAME}")
root=$scratch/root

install -d "$root/usr/lib"
copy_environment "$root$home"
install_tree "$root$home"
install_files "$root"
write_control "$root"
find "$root" -exec touch --no-dereference --date="@$epoch" {} +
package=$output/overlayd_${debian_version}_$(dpkg --print-architecture).deb
mkdir -p "$output"
dpkg-deb --root-owner-group -Zxz -z1 --build "$root" "$package.partial" >/dev/null
mv "$package.partial" "$package" # atomically: a concurrent installation reads the old package or all of the new one
echo "built $package"
