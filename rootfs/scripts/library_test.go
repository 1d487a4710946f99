package scripts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// functions are the names that scripts which were written for KIWI may call.
const functions = `baseSystemdServiceInstalled baseSysVServiceInstalled baseSystemdCall baseInsertService baseRemoveService baseService suseImportBuildKey
	baseStripLocales baseStripTranslations baseStripUnusedLibs baseUpdateSysConfig baseStripInitrd baseStripFirmware baseStripModules baseStripKernelModules
	baseUpdateModuleDependencies baseStripKernel baseSetRunlevel baseSetupBuildDay baseVagrantSetup suseInsertService suseRemoveService suseService suseSetupProduct Echo Debug
	baseQuoteFile baseCreateKernelTree baseSyncKernelTree baseFixupKernelModuleDependencies baseKernelDriverMatches baseStripAndKeep baseStripTools Rm deprecated baseCleanMount
	baseMount suseActivateDefaultServices baseSetupUserPermissions suseConfig baseGetPackagesForDeletion baseGetProfilesUsed baseStripMans baseStripDocs baseStripInfos Rpm
	rhelStripInitrd rhelStripKernel debianStripInitrd debianStripKernel suseSetupProductInformation baseCleanup suseCleanup suseRemoveYaST setupContainerRuntime mountCgroups
	umountCgroups`

// shells are those that scripts run in.
func shells(t *testing.T) map[string][]string {
	t.Helper()
	return map[string][]string{
		"bash": {testenv.NeedProgram(t, "bash")}, "dash": {testenv.NeedProgram(t, "dash")}, "busybox": {testenv.NeedProgram(t, "busybox"), "sh"},
	}
}

// TestLibrary looks whether all names are there, in each shell and under the strictest settings.
func TestLibrary(t *testing.T) {
	var script strings.Builder
	script.WriteString("set -eu\n. ./kconfig.sh\n")
	for name := range strings.FieldsSeq(functions) {
		fmt.Fprintf(&script, "command -v %s > /dev/null || echo missing: %[1]s\n", name)
	}
	for name, shell := range shells(t) {
		out, err := exec.Command(shell[0], append(shell[1:], "-c", script.String())...).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v %s", name, err, out)
		}
	}
	if path, err := exec.LookPath("shellcheck"); err == nil {
		testenv.Run(t, path, "-s", "dash", "kconfig.sh")
	} else {
		t.Log("shellcheck is not installed")
	}
}

// TestFunctions calls the functions in a root tree.
func TestFunctions(t *testing.T) {
	const script = `set -eu
. /.kconfig
exec 2> /stderr
baseSetupBuildDay
printf 'A="1"\nB=2\n' > /etc/x
baseUpdateSysConfig /etc/x B "two words"
baseUpdateSysConfig /etc/x C 3
baseQuoteFile /etc/x > /quoted
if baseSystemdServiceInstalled nothing; then exit 5; fi
baseSystemdServiceInstalled there > /unit
baseSystemdCall there enable --now
baseInsertService there
suseRemoveService there.timer
baseService sysv on
if baseInsertService nothing; then exit 6; fi
if baseService there maybe; then exit 7; fi
baseSetRunlevel 3
baseSetRunlevel graphical
if baseSetRunlevel 7; then exit 8; fi
baseStripLocales de_DE fr
baseStripDocs
baseStripMans
baseStripTranslations 'x.*'
printf '/srv/a\n/srv/b\n' | baseStripAndKeep b
baseVagrantSetup
baseSetupUserPermissions
suseSetupProduct
suseSetupProduct
kiwi_profiles=one,two
baseGetProfilesUsed > /profiles
baseGetPackagesForDeletion > /delete
Rm /srv/b > /rm
for f in ` + `suseConfig baseStripInitrd baseStripKernel suseRemoveYaST setupContainerRuntime baseMount mountCgroups baseCleanup suseImportBuildKey suseActivateDefaultServices; do
    $f
done
`
	for name := range shells(t) {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			for file, text := range map[string]string{
				"etc/passwd": "root:x:0:0::/root:/bin/sh\nvagrant:x:12:34::/home/vagrant:/bin/sh\n", "etc/group": "root:x:0:\n", "home/vagrant/x": "",
				"etc/systemd/system/there.service": "", "etc/systemd/system/there.timer": "", "etc/ssh/sshd_config": "Port 22\n",
				"usr/share/locale/de/x.mo": "", "usr/share/locale/de/y.mo": "", "usr/share/locale/fr/y": "", "usr/share/locale/es/y": "", "usr/share/doc/a/README": "", "usr/share/doc/a/copyright": "", "usr/share/man/man1/x": "",
				"srv/a": "", "srv/b": "", "etc/products.d/SLES.prod": "",
			} {
				m.write(t, file, text, 0o644)
			}
			m.write(t, "etc/init.d/sysv", "", 0o755)
			for _, program := range []string{"systemctl", "update-rc.d"} {
				m.write(t, "usr/local/bin/"+program, "#!/bin/sh\necho ${0##*/} $* >> /called\n", 0o755)
			}
			first := "#!/bin/sh\n"
			switch name {
			case "bash":
				first = "#!/bin/bash\n"
			case "busybox":
				first = "#!/usr/bin/busybox sh\n"
				m.know(t, "usr/bin/busybox")
			}
			m.write(t, "image/config.sh", first+script, 0o755)
			if err := m.run(t.Context(), t); err != nil {
				t.Fatalf("%v\n%s", err, m.read(t, "stderr"))
			}
			for file, want := range map[string]string{
				"build_day": "build_day=19700102\n", "etc/x": "A=\"1\"\nB=\"two words\"\nC=\"3\"\n", "quoted": "A='1'\nB='two words'\nC='3'\n",
				"unit": "/etc/systemd/system\n", "profiles": "one two\n", "delete": "\n", "rm": "rm /srv/b\n", "etc/ssh/sshd_config": "Port 22\nUseDNS no\n",
				"called": "systemctl enable --now there\nsystemctl enable there\nsystemctl disable there.timer\nupdate-rc.d sysv defaults\n" +
					"systemctl set-default multi-user.target\nsystemctl set-default graphical.target\n",
			} {
				if diff := cmp.Diff(want, m.read(t, file)); diff != "" {
					t.Errorf("%s: %s", file, diff)
				}
			}
			for file, want := range map[string]bool{
				"usr/share/locale/de/y.mo": true, "usr/share/locale/de/x.mo": false, "usr/share/locale/fr/y": true, "usr/share/locale/es": false, "usr/share/doc/a/README": false, "usr/share/doc/a/copyright": true,
				"usr/share/man/man1": false, "srv/a": false, "srv/b": false, "home/vagrant/.ssh/authorized_keys": true, "etc/sudoers.d/vagrant": true,
			} {
				if _, err := os.Stat(filepath.Join(m.dir, file)); (err == nil) != want {
					t.Errorf("/%s: %v", file, err)
				}
			}
			if target, err := os.Readlink(filepath.Join(m.dir, "etc/products.d/baseproduct")); target != "SLES.prod" {
				t.Errorf("base product %q, %v", target, err)
			}
			for _, want := range []string{"suseConfig: it has no meaning", "there is no service nothing", "NAME on|off", "7 is no runlevel"} {
				if !strings.Contains(m.read(t, "stderr"), want) {
					t.Errorf("it does not say %q", want)
				}
			}
		})
	}
}
