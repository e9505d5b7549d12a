# Sourced: programs of this host in the guest's root.

# A program and the libraries it needs: add_program ROOT FILE
add_program() {
    local root=$1 program=$2 libraries library
    cp -L "$program" "$root/bin/"
    libraries=$(ldd "$program") || return 0 # linked statically
    if grep "not found" <<<"$libraries" >&2; then fail "$program lacks libraries"; fi
    for library in $(grep -oE '/[^ ]+\.so[^ ]*' <<<"$libraries"); do
        case $library in
            */ld-linux*) cp -Lu "$library" "$root/lib64/" ;;
            *) cp -Lu "$library" "$root/lib/x86_64-linux-gnu/" ;;
        esac
    done
}
