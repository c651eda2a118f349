# shellcheck shell=sh
# Shared by the scripts that fetch from the archive for an image: what a build means, and an apt with a root of its own, in which
# exactly the image's packages are "installed". apt then does what apt does: check the archive's signatures and sums, compare versions,
# find dependencies. Nothing of this machine's own apt is used but its programs and the archive's keys.

me=${0##*/}
say() { printf '%s\n' "$*" >&2; }
fail() { say "$me: $*"; exit 1; }
misused() { say "$me: $*"; say "try --help"; exit 2; }

tab=$(printf '\t')
lab=${PATCHLAB_LAB:-$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)}
state=${PATCHLAB_STATE:-$lab/.patchlab}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# The security suite's mirror, for those who want its updates among the candidates; yes, for those who want source packages too.
security='' sources=

# need_tools TOOL...: these, besides those that everything here needs.
need_tools() {
    for tool in apt-get apt-cache apt-config dpkg awk sort "$@"; do
        command -v "$tool" >/dev/null || fail "$tool is missing (this needs a Debian with apt)"
    done
    [ -r "$keyring" ] || fail "$keyring is missing: apt-get install debian-archive-keyring"
}

# --- which image, release and mirror a build means ---

# The file of a build, from CUSTOMER/BUILD or BUILD.
build_file() {
    case $1 in
    */*) set -- "$lab/builds/$1.toml" ;;
    *) set -- "$lab"/builds/*/"$1.toml" ;;
    esac
    [ $# -eq 1 ] || misused "several customers have that build: say CUSTOMER/BUILD"
    [ -f "$1" ] || misused "there is no $1"
    printf '%s\n' "$1"
}

# The text at a key of a simple TOML file.
toml_text() { sed -n "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*\"\\([^\"]*\\)\".*/\\1/p" "$2" | head -n 1; }

# The file with the packages that the image of build file $1 holds: $2, or as the image store has it.
package_list() {
    image=$(toml_text image "$1")
    list=${2:-$state/images/$image.packages.tsv}
    [ -r "$list" ] || misused "there is no package list $list: build the image first (patchlab image build $image), or use --packages-file"
    awk -F '\t' 'NF < 3 || $1 == "" || $2 == "" { bad = 1 } END { exit bad || NR == 0 }' "$list" ||
        misused "$list is not a package list (name TAB version TAB architecture TAB source)"
    printf '%s\n' "$list"
}

# The recipe of the image of build file $1.
recipe_of() {
    image=$(toml_text image "$1")
    [ -f "$lab/images/$image/image.toml" ] || misused "the image \"$image\" of $1 has no $lab/images/$image/image.toml"
    printf '%s\n' "$lab/images/$image/image.toml"
}

# --- apt with a root of its own ---

# Makes the root $1 for the recipe $2 and loads the indices.
apt_root() {
    mkdir -p "$1/etc/apt/apt.conf.d" "$1/etc/apt/preferences.d" "$1/etc/apt/sources.list.d" "$1/etc/apt/trusted.gpg.d" \
        "$1/var/lib/apt/lists/partial" "$1/var/cache/apt/archives/partial" "$1/var/lib/dpkg" "$1/var/log/apt"
    : >"$1/var/lib/dpkg/status"
    release=$(toml_text suite "$2")
    [ -n "$release" ] || fail "$2 has no recipe with a suite"
    {
        # The image's own sources, then the security suite. apt checks both against the archive's keys.
        grep -o '"deb [^"]*"' "$2" | tr -d '"' | sed "s|^deb \\(\\[[^]]*\\] \\)\\{0,1\\}|deb [signed-by=$keyring] |"
        [ -z "$sources" ] || grep -o '"deb [^"]*"' "$2" | tr -d '"' | sed "s|^deb \\(\\[[^]]*\\] \\)\\{0,1\\}|deb-src [signed-by=$keyring] |"
        [ -z "$security" ] || printf 'deb [signed-by=%s] %s %s-security main\n' "$keyring" "$security" "$release"
    } >"$1/etc/apt/sources.list"
    {
        printf 'Dir "%s/";\nDir::State::status "%s/var/lib/dpkg/status";\n' "$1" "$1"
        printf 'APT::Architecture "amd64";\nAPT::Architectures { "amd64"; };\nAPT::Install-Recommends "false";\n'
        printf 'Acquire::Languages "none";\nAcquire::GzipIndexes "false";\nAcquire::Retries "3";\nAPT::Sandbox::User "root";\n'
        printf 'Debug::NoLocking "true";\nquiet "1";\n'
        # This machine's proxy is the one thing of its configuration that downloads may need.
        apt-config dump Acquire::http::Proxy Acquire::https::Proxy 2>/dev/null | grep -i 'proxy "..*"' || true
    } >"$1/apt.conf"
    APT_CONFIG=$1/apt.conf apt-get update --error-on=any >"$1/update.log" 2>&1 || {
        cat "$1/update.log" >&2
        fail "the archive's indices could not be loaded"
    }
    cat "$1"/var/lib/apt/lists/*_Packages >"$1/all" 2>/dev/null || fail "the archive's indices are empty"
    cat "$1"/var/lib/apt/lists/*"${release}-security"_*_Packages >"$1/security" 2>/dev/null || : >"$1/security"
}

# Writes a dpkg status in which the packages of list $2 are installed. What a version depends on and provides comes from the index
# where it has that version; the security suite's newer one is judged against that.
fake_status() {
    awk -v list="$2" '
        BEGIN {
            RS = "\n"
            while ((getline entry <list) > 0) {
                split(entry, field, "\t")
                sub(/:.*/, "", field[1])
                if (field[3] != "all") field[3] = "amd64"
                wanted[field[1] " " field[2]] = field[3]
            }
            RS = ""
        }
        {
            name = version = kept = ""
            lines = split($0, line, "\n")
            for (i = 1; i <= lines; i++) {
                if (line[i] ~ /^Package: /) name = substr(line[i], 10)
                else if (line[i] ~ /^Version: /) version = substr(line[i], 10)
                else if (line[i] ~ /^(Source|Installed-Size|Depends|Pre-Depends|Provides|Conflicts|Breaks|Replaces|Multi-Arch|Essential|Priority|Section): /)
                    kept = kept line[i] "\n"
            }
            key = name " " version
            if (!(key in wanted) || key in done) next
            done[key] = 1
            stanza(name, version, kept)
        }
        function stanza(name, version, rest) {
            printf "Package: %s\nStatus: install ok installed\nVersion: %s\nArchitecture: %s\nMaintainer: none <none@invalid>\nDescription: none\n%s\n",
                name, version, wanted[name " " version], rest
        }
        END { for (key in wanted) if (!(key in done)) { split(key, part, " "); stanza(part[1], part[2], "") } }
    ' "$1/all" >"$1/var/lib/dpkg/status"
}
