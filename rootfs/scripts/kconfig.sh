# Functions that a description's scripts may call, for those that were written for KIWI. A script reads them with:
#   test -f /.kconfig && . /.kconfig
# They work in bash, dash and busybox, with systemd, System V's scripts and OpenRC, and under set -e and set -u. What has no meaning any more says so and
# does nothing.
# shellcheck shell=dash

Echo() { echo "$@"; }

Debug() { if [ -n "${DEBUG:-}" ]; then echo "$@" >&2; fi; }

# Rm FILE... and Rpm ARGUMENT...: say what they do, and do it.
Rm() { echo "rm $*"; command rm "$@"; }
Rpm() { echo "rpm $*"; command rpm "$@"; }

deprecated() { echo "${1:-this function}: it has no meaning any more and does nothing" >&2; }

# Services.

baseSystemdServiceInstalled() {
    # UNIT: prints the folder of a unit (a service, a mount, or another kind if the name ends in it) and succeeds, or fails.
    local name="${1:-}" dir unit
    for unit in "$name" "$name.service" "$name.mount"; do
        case $unit in
            ?*.service | ?*.mount | ?*.socket | ?*.timer | ?*.path | ?*.target) ;;
            *) continue ;;
        esac
        for dir in /etc/systemd/system /usr/local/lib/systemd/system /usr/lib/systemd/system /lib/systemd/system; do
            if [ -e "$dir/$unit" ] || [ -L "$dir/$unit" ]; then echo "$dir"; return 0; fi
        done
    done
    return 1
}

baseSysVServiceInstalled() { [ -n "${1:-}" ] && [ -x "/etc/init.d/$1" ]; }

baseSystemdCall() {
    # UNIT ACTION...: systemctl ACTION... UNIT, if there is such a unit.
    local unit="${1:-}"
    if [ $# -gt 0 ]; then shift; fi
    if baseSystemdServiceInstalled "$unit" > /dev/null; then systemctl "$@" "$unit"; fi
}

baseInsertService() {
    local name="${1:-}"
    if baseSystemdServiceInstalled "$name" > /dev/null; then systemctl enable "$name"
    elif baseSysVServiceInstalled "$name" && command -v update-rc.d > /dev/null; then update-rc.d "$name" defaults
    elif baseSysVServiceInstalled "$name" && command -v chkconfig > /dev/null; then chkconfig "$name" on
    elif baseSysVServiceInstalled "$name" && command -v rc-update > /dev/null; then rc-update add "$name" default
    else echo "baseInsertService: there is no service $name" >&2; return 1
    fi
}

baseRemoveService() {
    local name="${1:-}"
    if baseSystemdServiceInstalled "$name" > /dev/null; then systemctl disable "$name"
    elif baseSysVServiceInstalled "$name" && command -v update-rc.d > /dev/null; then update-rc.d "$name" remove
    elif baseSysVServiceInstalled "$name" && command -v chkconfig > /dev/null; then chkconfig "$name" off
    elif baseSysVServiceInstalled "$name" && command -v rc-update > /dev/null; then rc-update --all del "$name"
    else echo "baseRemoveService: there is no service $name" >&2; return 1
    fi
}

baseService() {
    case "${2:-}" in
        on) baseInsertService "$1" ;;
        off) baseRemoveService "$1" ;;
        *) echo "baseService: call it as baseService NAME on|off" >&2; return 1 ;;
    esac
}

suseInsertService() { baseInsertService "$@"; }
suseRemoveService() { baseRemoveService "$@"; }
suseService() { baseService "$@"; }
suseActivateDefaultServices() { echo "suseActivateDefaultServices: the packages' presets decide which services start" >&2; }

baseSetRunlevel() {
    local level="${1:-}" target
    case $level in
        1 | rescue) target=rescue.target ;;
        2 | 3 | multi-user) target=multi-user.target ;;
        5 | graphical) target=graphical.target ;;
        *.target) target=$level ;;
        *) echo "baseSetRunlevel: $level is no runlevel of this function: 1, 2, 3, 5 or a target of systemd" >&2; return 1 ;;
    esac
    if command -v systemctl > /dev/null; then systemctl set-default "$target"
    elif [ -e /etc/inittab ]; then sed -i "s/^id:[0-9]*:/id:$level:/" /etc/inittab
    else echo "baseSetRunlevel: there is neither systemd nor /etc/inittab" >&2
    fi
}

# Configuration files.

baseUpdateSysConfig() {
    # FILE NAME VALUE: sets NAME="VALUE" in FILE, where it stands or else at the end.
    local file="${1:-}" name="${2:-}" value="${3:-}" line found="" text=""
    if [ ! -f "$file" ]; then echo "baseUpdateSysConfig: there is no file $file" >&2; return 1; fi
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in "$name="*) line="$name=\"$value\"" found=yes ;; esac
        text="$text$line
"
    done < "$file"
    if [ -z "$found" ]; then
        text="$text$name=\"$value\"
"
    fi
    printf %s "$text" > "$file"
}

baseSetupBuildDay() {
    # Writes the day into /build_day: that of SOURCE_DATE_EPOCH, if the build is to be reproducible.
    local day
    if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then day=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d); else day=$(date -u +%Y%m%d); fi
    echo "build_day=$day" > /build_day
}

baseQuoteFile() {
    # FILE: prints its NAME=VALUE lines in a form that a shell can read.
    local line
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            '' | '#'*) ;;
            *=*) printf "%s='%s'\n" "${line%%=*}" "$(printf %s "${line#*=}" | sed -e "s/^[\"']//" -e "s/[\"']\$//" -e "s/'/'\\\\''/g")" ;;
        esac
    done < "${1:?baseQuoteFile: no file is named}"
}

baseGetProfilesUsed() { echo "${kiwi_profiles:-}" | tr , ' '; }
baseGetPackagesForDeletion() { echo "${kiwi_delete:-}"; }

baseSetupUserPermissions() {
    # Gives each home directory below /home to its user.
    local uid gid home
    while IFS=: read -r _ _ uid gid _ home _; do
        case $home in /home/?*) if [ -d "$home" ]; then chown -R "$uid:$gid" "$home"; fi ;; esac
    done < /etc/passwd
}

baseVagrantSetup() {
    # Lets vagrant log in as the user vagrant, with the key that everybody knows and that it replaces by one of its own, and become root.
    local home
    home=$(sed -n 's/^vagrant:[^:]*:[^:]*:[^:]*:[^:]*:\([^:]*\):.*/\1/p' /etc/passwd)
    if [ -z "$home" ]; then echo "baseVagrantSetup: there is no user vagrant; add it to the description" >&2; return 1; fi
    mkdir -p "$home/.ssh" /etc/sudoers.d
    echo "ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHzD8+v1I2YJ6oXevct1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8dJSIFo9D8HfdOV0IAdx4O7PtixWKn5y2hMNG0zQPyUecp4pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnAmCP3NOTd0jMZEnDkbUvxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hrucXzcWyLbIbEgE98OHlnVYCzRdK8jlqm8tehUc9c9WhQ== vagrant insecure public key" > "$home/.ssh/authorized_keys"
    chmod 0700 "$home/.ssh"
    chmod 0600 "$home/.ssh/authorized_keys"
    chown -R vagrant "$home/.ssh"
    echo "vagrant ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/vagrant
    chmod 0440 /etc/sudoers.d/vagrant
    # Looking up the names of clients takes seconds where there is no name server.
    if [ -e /etc/ssh/sshd_config ]; then echo "UseDNS no" >> /etc/ssh/sshd_config; fi
}

# Making an image smaller.

baseStripLocales() {
    # LOCALE...: keeps these translations and locales, their languages, and the aliases.
    imgbuildStrip /usr/share/locale "$@" locale.alias
    imgbuildStrip /usr/lib/locale "$@" locale-archive C.utf8 C.UTF-8
}

imgbuildStrip() {
    # FOLDER NAME...: removes the entries that are none of the names, as whole or up to the first _ or dot.
    local dir="$1" entry keep wanted
    shift
    for entry in "$dir"/*; do
        wanted=""
        for keep in "$@"; do
            case ${entry##*/} in "$keep" | "${keep%%_*}" | "${keep%%.*}" | "${keep%%.*}".*) wanted=yes ;; esac
        done
        if [ -z "$wanted" ] && [ -e "$entry" ]; then rm -rf "$entry"; fi
    done
}

baseStripTranslations() {
    # PATTERN: removes the translations whose file names match it; all, without one.
    if [ -d /usr/share/locale ]; then find /usr/share/locale -type f -name "${1:-*.mo}" -exec rm -f {} +; fi
}
baseStripMans() { rm -rf /usr/share/man/*; }
baseStripDocs() { if [ -d /usr/share/doc ]; then find /usr/share/doc -type f ! -name copyright -exec rm -f {} +; fi; }
baseStripInfos() { rm -rf /usr/share/info/*; }

baseStripAndKeep() {
    # NAME...: reads names of files and removes those whose last part is none of the arguments.
    local file keep wanted
    while IFS= read -r file; do
        wanted=""
        for keep in "$@"; do if [ "${file##*/}" = "$keep" ]; then wanted=yes; fi; done
        if [ -z "$wanted" ] && [ -n "$file" ]; then rm -rf "$file"; fi
    done
}

# These made the initial RAM disks of old small: dracut and initramfs-tools choose what goes into one.
baseStripTools() { deprecated baseStripTools; }
baseStripUnusedLibs() { deprecated baseStripUnusedLibs; }
baseStripInitrd() { deprecated baseStripInitrd; }
baseStripFirmware() { deprecated baseStripFirmware; }
baseStripModules() { deprecated baseStripModules; }
baseStripKernelModules() { deprecated baseStripKernelModules; }
baseStripKernel() { deprecated baseStripKernel; }
baseCreateKernelTree() { deprecated baseCreateKernelTree; }
baseSyncKernelTree() { deprecated baseSyncKernelTree; }
baseKernelDriverMatches() { deprecated baseKernelDriverMatches; }
rhelStripInitrd() { deprecated rhelStripInitrd; }
rhelStripKernel() { deprecated rhelStripKernel; }
debianStripInitrd() { deprecated debianStripInitrd; }
debianStripKernel() { deprecated debianStripKernel; }

baseUpdateModuleDependencies() {
    local dir
    for dir in /lib/modules/*; do
        if [ -d "$dir/kernel" ] && command -v depmod > /dev/null; then depmod -a "${dir##*/}"; fi
    done
}
baseFixupKernelModuleDependencies() { baseUpdateModuleDependencies; }

baseCleanup() { rm -rf /var/cache/zypp/* /var/cache/dnf/* /var/cache/libdnf5/* /var/cache/yum/* /var/cache/apt/archives/*.deb /var/cache/pacman/pkg/* /var/cache/apk/*; }

# Mounts are the sandbox's: /proc, /sys and /dev are there, and go with it.
baseMount() { :; }
baseCleanMount() { :; }
mountCgroups() { :; }
umountCgroups() { :; }

# SUSE.

suseImportBuildKey() {
    local key
    for key in /usr/lib/rpm/gnupg/keys/*.asc; do
        if [ -e "$key" ] && command -v rpm > /dev/null; then rpm --import "$key"; fi
    done
}

suseSetupProduct() {
    # Makes the first product the base product, if none is.
    local product
    if [ -e /etc/products.d/baseproduct ]; then return 0; fi
    for product in /etc/products.d/*.prod; do
        if [ -e "$product" ]; then ln -sf "${product##*/}" /etc/products.d/baseproduct; return 0; fi
    done
}
suseSetupProductInformation() { suseSetupProduct; }
suseConfig() { deprecated suseConfig; }
suseRemoveYaST() { deprecated suseRemoveYaST; }
suseCleanup() { baseCleanup; }
setupContainerRuntime() { deprecated setupContainerRuntime; }
