#!/usr/bin/env bash
# packages.sh BUILD: has cpack make the Debian packages of what is built, looks at what they say and hold, and unpacks them
# into a folder, where the tool works and a host builds and runs. Exit status 77 without Debian's tools: skipped.
set -euo pipefail

build=$(cd "${1:?usage: packages.sh BUILD}" && pwd)
tests=$(cd "$(dirname "$0")" && pwd)
for tool in dpkg-deb dpkg-shlibdeps file readelf; do
    command -v $tool >/dev/null || { echo "packages: there is no $tool here"; exit 77; }
done
folder=$(mktemp -d "${TMPDIR:-/tmp}/tamis-packages-XXXXXX")
trap 'rm -rf "$folder"' EXIT
cd "$folder"

fail() {
    echo "packages: $*" >&2
    exit 1
}

must() { # what is only of interest where it fails
    "$@" >"$folder/log" 2>&1 </dev/null || { cat "$folder/log" >&2; fail "this failed: $*"; }
}

umask 027 # packages must not take it over
must cpack --config "$build/CPackConfig.cmake" -B "$folder/made"
umask 022
version=$("$build/tamis" --version | sed 's/^tamis //')
architecture=$(dpkg --print-architecture)

# ---- what they say
field() { dpkg-deb -f "made/${1}_${version}_$architecture.deb" "$2"; }
for package in libtamis0 libtamis-dev tamis; do
    deb=made/${package}_${version}_$architecture.deb
    [ -s "$deb" ] || fail "there is no $deb, but $(ls made)"
    [ "$(field $package Package) $(field $package Version)" = "$package $version" ] || fail "$package is named otherwise"
    # The first line is a summary; the text below it fits a terminal.
    field $package Description | awk 'length($0) > 79 || (NR > 1 && !/^ [A-Za-z]/) { exit 1 }' ||
        fail "$package has an ill-formed description: $(field $package Description)"
    dpkg-deb -x "$deb" "only-$package"
    dpkg-deb -e "$deb" "only-$package.control"
    (cd "only-$package" && md5sum --quiet -c "../only-$package.control/md5sums") || fail "$package's checksums are wrong"
    dpkg-deb -c "$deb" | awk '$1 !~ /^(drwxr-xr-x|-rw-r--r--|-rwxr-xr-x|lrwxrwxrwx)$/ || $2 != "root/root" { print; bad = 1 }
        END { exit bad }' || fail "$package has files of another owner or mode, above"
    [ -s "only-$package/usr/share/doc/$package/copyright" ] || fail "$package has no copyright file"
    gzip -t "only-$package/usr/share/doc/$package/changelog.gz" || fail "$package has no changelog"
    dpkg-deb -x "$deb" all
done
[ "$(cat only-*.control/md5sums | awk '{ print $2 }' | sort | uniq -d)" = "" ] || fail "a file is in two packages"
[ "$(field libtamis-dev Depends)" = "libtamis0 (= $version)" ] || fail "libtamis-dev depends on $(field libtamis-dev Depends)"
[ "$(cat only-libtamis0.control/shlibs)" = "libtamis 0 libtamis0 (>= $version)" ] || fail "the shlibs file is wrong"

# A program's package depends on what has the libraries that it loads.
check_binary() { # PACKAGE FILE
    local needed owner depends
    depends=$(field "$1" Depends)
    readelf -S "$2" | grep -q '\.symtab' && fail "$2 is not stripped"
    readelf -d "$2" | grep -E 'RPATH|RUNPATH' && fail "$2 looks for libraries in a folder of its own"
    grep -qF "$build" "$2" && fail "$2 knows the build folder"
    for needed in $(readelf -d "$2" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p' | grep -v '^ld-linux'); do
        owner=$(dpkg -S "*/$needed" | sed -n 's/:.*//p' | sort -u | head -n 1)
        [[ " $depends," == *[\ ,]"$owner"[\ ,]* ]] || fail "$1 loads $needed of $owner, and depends on $depends"
    done
}
check_binary tamis only-tamis/usr/bin/tamis
check_binary libtamis0 "$(find only-libtamis0 -name "libtamis.so.$version")"

# ---- what they hold: each alone what it is for, all of them what an installation has
[ "$(find only-libtamis0 -type f | grep -vc /usr/share/doc/)" -eq 1 ] || fail "libtamis0 has more than the library"
tamis=$folder/only-tamis/usr/bin/tamis
export TAMIS_CACHE_DIR=$folder/cache
"$tamis" doctor >said 2>&1 || true
grep -qF "$folder/only-tamis/usr/share/tamis (installed)" said || { cat said; fail "the tool does not use its package's data"; }
must "$tamis" gen "$tests/consumer/consumer.yaml" -o store.tamis --no-compile --defaults-only
gzip -dc only-tamis/usr/share/man/man1/tamis.1.gz | grep -q '^\.Sh SYNOPSIS' || fail "there is no manual page"
for file in bash-completion/completions/tamis zsh/vendor-completions/_tamis fish/vendor_completions.d/tamis.fish; do
    [ -s "only-tamis/usr/share/$file" ] || fail "there is no $file"
done

must cmake --install "$build" --prefix "$folder/installed"
list() { (cd "$1" && find . -type f ! -path '*/doc/*' ! -path '*/man/*' ! -path '*/zsh/*' | sort); }
diff <(list installed) <(list all/usr) || fail "the packages hold other files than an installation (<)"

libdir=$(dirname "$(find all/usr -name libtamis.so)")
export PKG_CONFIG_PATH=$folder/$libdir/pkgconfig
mkdir host
must make -C host -f "$tests/consumer/Makefile" SOURCE="$tests/consumer"
must host/with_static store.tamis
cat log
LD_LIBRARY_PATH=$(dirname "$(find "$folder/only-libtamis0" -name libtamis.so.0)") must host/with_shared store.tamis
cat log
echo "packages: libtamis0, libtamis-dev and tamis $version"
