# Sourced: packages and sources of Debian, unpacked and never installed.
#
# apt runs with sources, lists and a cache of its own in $APT, from the mirror that this host already uses: nothing of
# the host's package state changes, and no root is needed.

# The release whose packages the guest is made of. Backports have the kernel that reads a PHC against raw time.
SUITE=bookworm

# The exit code of a host that cannot make a guest; the last line says why.
CANNOT=77

# $1: a directory for apt's state
debian_open() {
    APT=$1
    mkdir -p "$APT/lists/partial" "$APT/cache/archives/partial" "$APT/debs"
    # Ends in a slash. The security archive is not a mirror of everything.
    MIRROR=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' |
        grep -v security | head -1) || true
    [[ -n $MIRROR ]] || cannot "apt's sources name no Debian mirror"
    local suite
    for suite in "$SUITE" "$SUITE-backports"; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $MIRROR $suite main"
    done >"$APT/sources.list"
    debian_apt apt-get update || cannot "Debian's mirror does not answer"
}

debian_apt() {
    local program=$1
    shift
    "$program" -qq -o Dir::Etc::sourcelist="$APT/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$APT/lists" -o Dir::Cache="$APT/cache" -o APT::Update::Post-Invoke-Success::= \
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false \
        -o APT::Sandbox::User="$(id -un)" "$@"
}

# The file of a package's current version, in $DEB: debian_package NAME
debian_package() {
    (cd "$APT/debs" && debian_apt apt-get download "$1" >&2) || cannot "Debian's $1 cannot be downloaded"
    local debs=("$APT/debs/$1"_*.deb)
    DEB=${debs[0]}
}

# A file of the mirror's pool, whatever the suite: debian_pool PATH SHA256 TARGET
debian_pool() {
    /usr/lib/apt/apt-helper -qq download-file "${MIRROR}pool/$1" "$3" "SHA256:$2" >&2 ||
        cannot "Debian's $1 cannot be downloaded"
}

cannot() {
    echo "tools/phc-guest: $*" >&2
    exit "$CANNOT"
}

fail() {
    echo "tools/phc-guest: $*" >&2
    exit 1
}
