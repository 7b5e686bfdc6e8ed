#!/bin/bash
# Installs overlayd from this source tree, or brings an installation up to date:
#
#     packaging/install.sh controller | agent | controller agent
#
# /opt/overlayd is a virtual environment with the pinned dependencies. The roles add their systemd unit, their commands in
# /usr/local/bin, and their settings in /etc/overlayd unless there are some; the agent also the CNI plugin in /opt/cni/bin.
# Services that run are restarted, others are not started. PYTHON=... names another Python than Debian's.
set -euo pipefail
umask 022 # the controller's own user reads what root installs here

prefix=/opt/overlayd
settings=/etc/overlayd
units=/etc/systemd/system
python=${PYTHON:-/usr/bin/python3} # not the first in PATH: a service must not hang on somebody's pyenv

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

check_roles() {
    local role
    [ $# -gt 0 ] || fail "say what to install: install.sh controller, install.sh agent, or both in one"
    for role; do
        case $role in
        controller | agent) ;;
        *) fail "there is no role '$role': roles are controller and agent" ;;
        esac
    done
}

# Installs those of these Debian packages that are missing; apt-get's output is shown only when it fails.
install_packages() {
    local missing log
    missing=$(comm -23 <(printf '%s\n' "$@" | sort) \
        <(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p' | sort) | xargs)
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || fail "this is no Debian: install the counterparts of these packages: $missing"
    echo "installing Debian packages: $missing"
    log=$scratch/apt.log
    # shellcheck disable=SC2086 # a list of names
    {
        apt-get -q -o DPkg::Lock::Timeout=120 update &&
            DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends $missing
    } </dev/null >"$log" 2>&1 || {
        cat "$log" >&2
        fail "apt-get could not install: $missing"
    }
}

check_python() {
    command -v "$python" >/dev/null || fail "no $python here: overlayd needs Python 3.11 or newer (PYTHON=... names one)"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "overlayd needs Python 3.11 or newer, and $python is $("$python" --version) (PYTHON=... names another)"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python has no venv module: install it"
}

make_environment() {
    local version='import sys; print(*sys.version_info[:2], sep=".")'
    if [ "$("$prefix/bin/python" -c "$version" 2>/dev/null)" != "$("$python" -c "$version")" ] ||
        ! "$prefix/bin/python" -m pip --version >/dev/null 2>&1; then
        echo "creating $prefix with $("$python" --version)"
        "$python" -m venv --clear "$prefix"
    fi
}

pip_install() {
    "$prefix/bin/python" -m pip --quiet --quiet --disable-pip-version-check --no-input install "$@"
}

install_python_packages() {
    echo "installing $(grep -c '^[a-z0-9].*==' "$source/requirements.lock") pinned packages"
    # The build backend comes with a hash too; the build itself then needs no network.
    sed -n '/^setuptools==/,/[^\\]$/p' "$source/requirements-dev.lock" >"$scratch/backend.lock"
    pip_install --require-hashes -r "$source/requirements.lock" -r "$scratch/backend.lock"

    echo "installing overlayd into $prefix"
    # A copy is built: the source tree may be read-only, and what an older build left in it must not get in.
    mkdir "$scratch/tree"
    cp -R "$source"/{pyproject.toml,LICENSE,cni,controller,overlayd} "$scratch/tree"
    pip_install --no-deps --no-build-isolation --force-reinstall "$scratch/tree"
}

# Installs what belongs to one role: its unit, its settings, its commands.
install_role() {
    local role=$1 unit=$2 command
    shift 2
    sed "s|=/usr/bin/|=$prefix/bin/|" "$source/packaging/systemd/$unit" >"$units/$unit"
    if ! [ -e "$settings/$role.env" ]; then
        install -m 0600 "$source/packaging/examples/$role.env" "$settings/$role.env"
    fi
    for command; do
        ln -sfn "$prefix/bin/$command" "/usr/local/bin/$command"
    done
}

tell_systemd() {
    local unit
    if ! [ -d /run/systemd/system ]; then
        echo "systemd does not run here: nothing was enabled or restarted"
        return
    fi
    systemctl daemon-reload
    systemctl --quiet enable "$@"
    for unit in overlay-controller.service overlayd.service; do
        # The other role's service runs from the same environment.
        ! [ -e "$units/$unit" ] || systemctl try-restart "$unit"
    done
}

check_roles "$@"
[ "$(id -u)" = 0 ] || fail "run it as root"
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd / # so that no directory of the caller is on Python's path
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

packages=(python3 python3-venv)
[ "$python" = /usr/bin/python3 ] || packages=(python3) # the CNI plugin runs on Debian's in any case
case " $* " in *" agent "*) packages+=(iproute2 nftables) ;; esac
install_packages "${packages[@]}"
check_python
make_environment
install_python_packages

mkdir -p "$settings" "$units" /usr/local/bin
enabled=()
for role; do
    case $role in
    controller)
        install_role controller overlay-controller.service overlay-controller overlayctl
        enabled+=(overlay-controller.service)
        ;;
    agent)
        install_role agent overlayd.service overlayd overlayctl
        "$prefix/bin/python" -c "from cni.install import install_plugin; install_plugin()"
        enabled+=(overlayd.service)
        ;;
    esac
done
tell_systemd "${enabled[@]}"
echo "installed: $*. Settings are in $settings, docs/install.md tells how to go on."
