# Functions that a description's scripts may call, for those that were written for KIWI. A script reads them with:
#   test -f /.kconfig && . /.kconfig
# What a function did by hand in distributions of old and what no longer has a meaning says so and does nothing.

Echo() { echo "$@"; }

Debug() { if [ -n "${DEBUG:-}" ]; then echo "$@" >&2; fi; }

# Rm FILE... and Rpm ARGS... do and say so.
Rm() { echo "rm $*"; command rm "$@"; }
Rpm() { echo "rpm $*"; command rpm "$@"; }

deprecated() { echo "$1: this function does nothing any more" >&2; }

# Services.
baseSystemdServiceInstalled() {
    # Prints the directory of unit file $1 (NAME.service or NAME.mount) and succeeds, or fails.
    local name=${1:-} dir kind
    for kind in service mount; do
        for dir in /etc/systemd/system /usr/lib/systemd/system /lib/systemd/system; do
            if [ -e "$dir/${name%.$kind}.$kind" ]; then echo "$dir"; return 0; fi
        done
    done
    return 1
}
baseSysVServiceInstalled() { [ -x "/etc/init.d/${1:-}" ]; }
baseSystemdCall() {
    # UNIT ACTION...: systemctl ACTION... UNIT, if there is such a unit.
    local unit=$1
    shift
    if baseSystemdServiceInstalled "$unit" > /dev/null; then systemctl "$@" "$unit"; fi
}
baseInsertService() {
    if baseSystemdServiceInstalled "$1" > /dev/null; then systemctl enable "$1"
    elif baseSysVServiceInstalled "$1" && command -v update-rc.d > /dev/null; then update-rc.d "$1" defaults
    elif baseSysVServiceInstalled "$1" && command -v chkconfig > /dev/null; then chkconfig "$1" on
    else echo "baseInsertService: there is no service $1" >&2; return 1
    fi
}
baseRemoveService() {
    if baseSystemdServiceInstalled "$1" > /dev/null; then systemctl disable "$1"
    elif baseSysVServiceInstalled "$1" && command -v update-rc.d > /dev/null; then update-rc.d "$1" remove
    elif baseSysVServiceInstalled "$1" && command -v chkconfig > /dev/null; then chkconfig "$1" off
    else echo "baseRemoveService: there is no service $1" >&2; return 1
    fi
}
baseService() {
    case ${2:-} in
        on) baseInsertService "$1" ;;
        off) baseRemoveService "$1" ;;
        *) echo "baseService: call it as baseService NAME on|off" >&2; return 1 ;;
    esac
}
suseInsertService() { baseInsertService "$@"; }
suseRemoveService() { baseRemoveService "$@"; }
suseService() { baseService "$@"; }
suseActivateDefaultServices() { :; }
baseSetRunlevel() {
    case ${1:-} in
        1 | rescue) systemctl set-default rescue.target ;;
        2 | 3 | multi-user) systemctl set-default multi-user.target ;;
        5 | graphical) systemctl set-default graphical.target ;;
        *) echo "baseSetRunlevel: $1 is no runlevel of this function: 1, 2, 3 or 5" >&2; return 1 ;;
    esac
}

# Configuration files.
baseUpdateSysConfig() {
    # FILE NAME VALUE: sets NAME="VALUE" in FILE, which has it already or gets it at its end.
    local file=$1 name=$2 value=$3 line found= text=
    if [ ! -e "$file" ]; then echo "baseUpdateSysConfig: there is no file $file" >&2; return 1; fi
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in "$name="*) line="$name=\"$value\""; found=yes ;; esac
        text="$text$line
"
    done < "$file"
    if [ -z "$found" ]; then text="$text$name=\"$value\"
"; fi
    printf %s "$text" > "$file"
}
baseSetupBuildDay() { local day; day=$(date ${SOURCE_DATE_EPOCH:+-d "@$SOURCE_DATE_EPOCH"} -u +%Y%m%d); echo "build_day=$day" > /build_day; }
baseQuoteFile() {
    # FILE: prints its NAME=VALUE lines in a form that a shell can read.
    local line
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            '' | '#'*) ;;
            *=*) printf "%s='%s'\n" "${line%%=*}" "$(printf %s "${line#*=}" | sed -e "s/^[\"']//" -e "s/[\"']\$//" -e "s/'/'\\\\''/g")" ;;
        esac
    done < "$1"
}
baseGetProfilesUsed() { echo "${kiwi_profiles:-}" | tr , ' '; }
baseGetPackagesForDeletion() { echo "${kiwi_delete:-}"; }

# Making an image smaller.
baseStripLocales() {
    # LOCALE...: keeps those of /usr/share/locale and /usr/lib/locale.
    baseStripDirectory /usr/share/locale "$@" locale.alias
}
baseStripDirectory() {
    local dir=$1 entry keep wanted
    shift
    for entry in "$dir"/*; do
        wanted=
        for keep in "$@"; do
            case ${entry##*/} in "$keep" | "${keep%%_*}" | "${keep%%.*}") wanted=yes ;; esac
        done
        if [ -z "$wanted" ] && [ -e "$entry" ]; then rm -rf "$entry"; fi
    done
}
baseStripTranslations() { find /usr/share/locale -type f -name "${1:-*.mo}" -delete 2> /dev/null || true; }
baseStripMans() { rm -rf /usr/share/man/*; }
baseStripDocs() { find /usr/share/doc -type f ! -name copyright -delete 2> /dev/null || true; }
baseStripInfos() { rm -rf /usr/share/info/*; }
baseStripAndKeep() {
    # Reads file names and removes all but those whose last part is one of the arguments.
    local file keep wanted
    while IFS= read -r file; do
        wanted=
        for keep in "$@"; do if [ "${file##*/}" = "$keep" ]; then wanted=yes; fi; done
        if [ -z "$wanted" ]; then rm -rf "$file"; fi
    done
}
baseStripTools() { deprecated baseStripTools; }
baseStripUnusedLibs() { deprecated baseStripUnusedLibs; }
baseStripInitrd() { deprecated baseStripInitrd; }
baseStripFirmware() { deprecated baseStripFirmware; }
baseStripModules() { deprecated baseStripModules; }
baseStripKernelModules() { deprecated baseStripKernelModules; }
baseStripKernel() { deprecated baseStripKernel; }
rhelStripInitrd() { deprecated rhelStripInitrd; }
rhelStripKernel() { deprecated rhelStripKernel; }
debianStripInitrd() { deprecated debianStripInitrd; }
debianStripKernel() { deprecated debianStripKernel; }
baseUpdateModuleDependencies() {
    local dir
    for dir in /lib/modules/*; do if [ -d "$dir" ]; then depmod -a "${dir##*/}"; fi; done
}
baseFixupKernelModuleDependencies() { baseUpdateModuleDependencies; }
baseCreateKernelTree() { deprecated baseCreateKernelTree; }
baseSyncKernelTree() { deprecated baseSyncKernelTree; }
baseKernelDriverMatches() { deprecated baseKernelDriverMatches; }

# Mounts are the sandbox's: they are there and go with it.
baseMount() { :; }
baseCleanMount() { :; }
mountCgroups() { :; }
umountCgroups() { :; }

# Distributions.
suseImportBuildKey() {
    local key
    for key in /usr/lib/rpm/gnupg/keys/*.asc; do if [ -e "$key" ]; then rpm --import "$key"; fi; done
}
suseConfig() { deprecated suseConfig; }
suseSetupProduct() {
    # The product that /etc/products.d/baseproduct names is the one and only.
    local product
    if [ ! -e /etc/products.d/baseproduct ]; then
        for product in /etc/products.d/*.prod; do
            if [ -e "$product" ]; then ln -sf "${product##*/}" /etc/products.d/baseproduct; return 0; fi
        done
    fi
}
suseSetupProductInformation() { suseSetupProduct; }
suseRemoveYaST() { deprecated suseRemoveYaST; }
suseCleanup() { baseCleanup; }
baseCleanup() { rm -rf /var/cache/zypp/* /var/cache/dnf/* /var/cache/apt/archives/*.deb; }
baseSetupUserPermissions() {
    # Gives each home directory below /home to its user.
    local name home uid gid rest
    while IFS=: read -r name _ uid gid _ home rest; do
        case $home in /home/*) if [ -d "$home" ]; then chown -R "$uid:$gid" "$home"; fi ;; esac
    done < /etc/passwd
}
baseVagrantSetup() {
    # The user vagrant with the well-known insecure key is the description's to make; here it gets its rights.
    mkdir -p /etc/sudoers.d
    echo "vagrant ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/vagrant
    chmod 0440 /etc/sudoers.d/vagrant
    if [ -e /etc/ssh/sshd_config ]; then echo "UseDNS no" >> /etc/ssh/sshd_config; fi
}
setupContainerRuntime() { deprecated setupContainerRuntime; }
