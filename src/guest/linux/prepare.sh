# Makes a fresh clone fit for a suite that others have written: its packages and the accounts that its tests run as. Environment:
#   folder     where the packages are
#   packages   file names, one a line
# Before anything is measured, so that none of it counts as a change.
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true NEEDRESTART_MODE=l APT_LISTCHANGES_FRONTEND=none
closed='-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache='
files=
for file in $packages; do files="$files $folder/$file"; done
if [ -n "$files" ]; then
    # shellcheck disable=SC2086 # lists of words
    plan=$(apt-get -s -o Debug::NoLocking=1 install $closed --no-install-recommends $files 2>&1) ||
        { echo "$plan" && end $cannot "apt-get refuses the packages: $(echo "$plan" | grep -E '^(E:| [a-z0-9.+-]+ :)' | head -n 3 | tr '\n' ' ')"; }
    # What the customer's machine has stays as it is.
    bad=$(echo "$plan" | sed -n 's/^Remv \([^ ]*\).*/\1/p; s/^Inst \([^ ]*\) \[.*/\1/p' | tr '\n' ' ')
    [ -z "$bad" ] || end $cannot "installing the packages would remove or replace: $bad"
    # shellcheck disable=SC2086
    apt-get install -y --no-remove $closed --no-install-recommends -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold $files ||
        end $cannot "the packages could not be installed"
fi
for name in autopkgtest autopkgtest-sudo; do
    id "$name" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$name" || end $cannot "cannot make the account $name"
done
if [ -d /etc/sudoers.d ]; then
    usermod --append --groups sudo autopkgtest-sudo &&
        echo '%sudo ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/autopkgtest && chmod 440 /etc/sudoers.d/autopkgtest ||
        end $cannot "cannot let autopkgtest-sudo become root"
fi
exit 0
