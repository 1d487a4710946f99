package apt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// script runs a script in a tree of its own, with this machine's programs but for those in /usr/sbin, and returns what it says.
func script(t *testing.T, text string, env ...string) string {
	t.Helper()
	root := t.TempDir()
	var out bytes.Buffer
	spec := sandbox.Spec{Root: root, Args: []string{"/bin/sh", "-c", text}, Env: env, Files: standIns(), NoNetwork: true, Stdout: &out, Stderr: &out}
	for _, dir := range []string{"/bin", "/usr/bin", "/lib", "/usr/lib", "/usr/share", "/lib64"} {
		if _, err := os.Stat(dir); err == nil {
			must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
			spec.Binds = append(spec.Binds, sandbox.Bind{Source: dir, Target: dir, ReadOnly: true})
		}
	}
	must(t, os.MkdirAll(filepath.Join(root, "usr/sbin"), 0o755))
	must(t, os.MkdirAll(filepath.Join(root, "etc"), 0o755))
	must(t, sandbox.Run(t.Context(), spec))
	return out.String()
}

// TestUnitsStandIn runs what stands in for deb-systemd-helper, and the program itself, on trees that are alike: neither what they say nor what they leave may differ.
func TestUnitsStandIn(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedProgram(t, "deb-systemd-helper")
	const state = "/var/lib/systemd/deb-systemd-helper"
	starts := map[string]string{
		"new": "true",
		"disabled": "mkdir -p " + state + "-enabled/multi-user.target.wants /etc/systemd/system/multi-user.target.wants; " +
			"echo /etc/systemd/system/multi-user.target.wants/x.service > " + state + "-enabled/x.service.dsh-also; touch " + state + "-enabled/multi-user.target.wants/x.service",
		"masked by the administrator": "mkdir -p /etc/systemd/system; ln -s /dev/null /etc/systemd/system/x.service",
		"masked by its package":       "mkdir -p /etc/systemd/system " + state + "-masked; ln -s /dev/null /etc/systemd/system/x.service; touch " + state + "-masked/x.service",
		"empty directory":             "mkdir -p " + state + "-masked/a",
	}
	calls := []string{"unmask x.service", "unmask --user x.service", "--quiet was-enabled x.service", "was-enabled x.service", "--quiet was-enabled x.service y.service", "enable y.service", ""}
	for start, prepare := range starts {
		var got [2]string
		for i, path := range []string{sandbox.Path, "/usr/bin:/usr/sbin"} {
			text := "mkdir -p /etc/systemd/system; printf '[Install]\\nWantedBy=multi-user.target\\n' > /etc/systemd/system/y.service; " + prepare + "; export DPKG_MAINTSCRIPT_PACKAGE=x\n"
			for _, call := range calls {
				text += fmt.Sprintf("echo '%[1]s'; (deb-systemd-helper %[1]s) 2>&1; echo $?; find /etc/systemd /var/lib/systemd 2>&1 | sort\n", call)
			}
			got[i] = script(t, text, "PATH="+path)
		}
		if diff := cmp.Diff(got[1], got[0]); diff != "" {
			t.Errorf("%s: (-program +stand-in): %s", start, diff)
		}
	}
}

// TestCertificatesStandIn skips the first of two runs, and none that could have an effect of its own.
func TestCertificatesStandIn(t *testing.T) { asBoth(t, testCertificatesStandIn) }

func testCertificatesStandIn(t *testing.T) {
	for _, test := range []struct {
		name, before, want string
	}{
		{"set up", "set -- --hooksdir ''", ""},
		{"asked by dpkg", "set --", "ran []"},
		{"by another package", "DPKG_MAINTSCRIPT_PACKAGE=java; set -- --hooksdir ''", "ran [--hooksdir ]"},
		{"with hooks", "mkdir -p /etc/ca-certificates/update.d; touch /etc/ca-certificates/update.d/java; set -- --hooksdir ''", "ran [--hooksdir ]"},
		{"fresh", "set -- --hooksdir '' --fresh", "ran [--hooksdir  --fresh]"},
	} {
		text := "printf '#!/bin/sh\\necho \"ran [$*]\"\\n' > /usr/sbin/update-ca-certificates; chmod 755 /usr/sbin/update-ca-certificates; export DPKG_MAINTSCRIPT_PACKAGE=ca-certificates DPKG_MAINTSCRIPT_NAME=postinst; "
		got := script(t, text+test.before+"; update-ca-certificates \"$@\"")
		if got = strings.TrimSpace(got); got != test.want {
			t.Errorf("%s: %q", test.name, got)
		}
	}
}

// TestStandInsWithoutPrograms has scripts find that a program is there which is not.
func TestStandInsWithoutPrograms(t *testing.T) { asBoth(t, testStandInsWithoutPrograms) }

func testStandInsWithoutPrograms(t *testing.T) {
	for _, f := range standIns() {
		name := filepath.Base(f.Path)
		if _, err := os.Stat("/usr/bin/" + name); !errors.Is(err, fs.ErrNotExist) {
			continue // the tree borrows this machine's programs
		}
		want := f.Path + "\n0\n"
		if got := script(t, "command -v "+name+"; "+name+" --x; echo $?"); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
