package apt

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// makeDeb makes a package of files in the repository's pool. Those in DEBIAN whose content begins with #! can be run.
func (w *world) makeDeb(t *testing.T, name, fields string, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	files["DEBIAN/control"] = "Package: " + name + "\nVersion: 1\nArchitecture: all\nMaintainer: Test <test@example.org>\nDescription: test\n" + fields
	for file, text := range files {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644))
		if strings.HasPrefix(text, "#!") {
			must(t, os.Chmod(filepath.Join(dir, file), 0o755))
		}
	}
	must(t, os.Chmod(dir, 0o755))
	testenv.Run(t, "dpkg-deb", "--root-owner-group", "-b", dir, filepath.Join(w.repo, "pool"))
}

// modern gives the world's tree a package database of today, which this program adds to.
func (w *world) modern(t *testing.T) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(w.root, "var/lib/dpkg/info/format"), []byte("1\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(w.root, "var/lib/dpkg/status"), []byte("Package: dpkg\nStatus: install ok installed\nVersion: 1.21.22\nArchitecture: amd64\nMaintainer: x\nDescription: x\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(w.root, "var/lib/dpkg/info/dpkg.list"), []byte("/.\n/opt\n/opt/dpkg\n"), 0o644))
}

// byDpkg reports whether dpkg has unpacked a package itself.
func (w *world) byDpkg(name string) bool {
	return bytes.Contains(w.log.Bytes(), []byte("Unpacking "+name))
}

// TestUnpacking installs packages that this program unpacks, with scripts that run before.
func TestUnpacking(t *testing.T) { asBoth(t, testUnpacking) }

func testUnpacking(t *testing.T) {
	w := newWorld(t)
	w.modern(t)
	w.makeDeb(t, "early", "Depends: hello\nPre-Depends: greeting\n", map[string]string{
		"DEBIAN/preinst": "#!/bin/sh\nset -e\n{ echo \"$0 $*\"; pwd; ls \"$(dirname \"$0\")\"; env | grep ^DPKG_[AMR] | sort; cat /opt/greeting/file; echo; ls /opt/early 2>&1 || true; } > /opt/early-ran\n",
		"opt/early/file": "early\n", "etc/early.conf": "c\n", "DEBIAN/conffiles": "/etc/early.conf\n",
		"DEBIAN/postinst": "#!/bin/sh\ncat /etc/early.conf /opt/early/file > /opt/early-done\n",
	})
	w.index(t, "one")
	if err := w.install(t, "", w.flat(), false, "early"); err != nil {
		t.Fatalf("%v\n%s", err, w.log)
	}
	w.is(t, "dpkg 1.21.22 installed\nearly 1 installed\ngreeting 1:2.0-1 installed\nhello 1.0 installed\n")
	for _, name := range []string{"early", "greeting", "hello"} {
		if w.byDpkg(name) {
			t.Errorf("dpkg has unpacked %s\n%s", name, w.log)
		}
	}
	if bytes.Contains(w.log.Bytes(), []byte("APT had planned")) {
		t.Errorf("apt misses reports: %s", w.log)
	}
	for name, want := range map[string]string{
		"opt/early-ran": "/var/lib/dpkg/tmp.ci/preinst install\n/\nconffiles\ncontrol\npostinst\npreinst\nDPKG_ADMINDIR=/var/lib/dpkg\nDPKG_MAINTSCRIPT_ARCH=all\nDPKG_MAINTSCRIPT_DEBUG=0\nDPKG_MAINTSCRIPT_NAME=preinst\n" +
			"DPKG_MAINTSCRIPT_PACKAGE=early\nDPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1\nDPKG_ROOT=\nDPKG_RUNNING_VERSION=1.21.22\ngreeting\nls: cannot access '/opt/early': No such file or directory\n",
		"opt/early-done": "c\nearly\n",
	} {
		if got, err := os.ReadFile(filepath.Join(w.root, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, want %q, %v", name, got, want, err)
		}
	}
	// It is there already, and so dpkg's work.
	w.makePackage(t, "hello", "2.0", "Depends: greeting (>= 1)\n", "", []byte("hello"))
	w.index(t, "one")
	if err := w.install(t, "", w.flat(), false, "hello", "extra"); err != nil {
		t.Fatalf("%v\n%s", err, w.log)
	}
	w.is(t, "dpkg 1.21.22 installed\nearly 1 installed\nextra 3 installed\ngreeting 1:2.0-1 installed\nhello 2.0 installed\n")
	if !w.byDpkg("hello") {
		t.Error("dpkg has not unpacked hello")
	}
}

// TestUnpackingFails has packages that can't be unpacked: dpkg says why, and which one.
func TestUnpackingFails(t *testing.T) { asBoth(t, testUnpackingFails) }

func testUnpackingFails(t *testing.T) {
	w := newWorld(t)
	w.makeDeb(t, "refusing", "", map[string]string{"DEBIAN/preinst": "#!/bin/sh\necho not on this machine\nexit 5\n", "opt/refusing": "x"})
	w.makeDeb(t, "robber", "", map[string]string{"opt/hello/file": "mine\n"})
	w.makeDeb(t, "thief", "", map[string]string{"opt/dpkg": "mine\n"})
	w.makeDeb(t, "torn", "", map[string]string{"opt/torn": strings.Repeat("x", 100)})
	torn := filepath.Join(w.repo, "pool/torn_1_all.deb")
	data, err := os.ReadFile(torn)
	must(t, err)
	copy(data[len(data)-60:], bytes.Repeat([]byte{0xff}, 40))
	must(t, os.WriteFile(torn, data, 0o644))
	w.index(t, "one")
	for _, test := range []struct {
		name     string
		packages []string
		want     []string
	}{
		{"failing preinst", []string{"extra", "refusing"}, []string{"refusing", "not on this machine", "pre-installation script subprocess returned error exit status 5"}},
		{"a new package's file", []string{"hello", "robber"}, []string{"robber", "trying to overwrite '/opt/hello/file', which is also in package"}},
		{"an old package's file", []string{"thief"}, []string{"thief", "trying to overwrite '/opt/dpkg', which is also in package dpkg"}},
		{"damaged", []string{"extra", "torn"}, []string{"torn_1_all.deb", "dpkg-deb"}},
	} {
		w.modern(t)
		wrong(t, w.install(t, "", w.flat(), false, test.packages...), test.want...)
	}
}
