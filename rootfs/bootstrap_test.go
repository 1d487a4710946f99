package rootfs

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/database"
)

// debian is a description of a Debian made from its packages alone.
func debian(suite string, bootstrap []string, more string) string {
	var list strings.Builder
	for _, p := range bootstrap {
		fmt.Fprintf(&list, "<package name=%q/>", p)
	}
	return `<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.6" name="from-nothing">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>test</specification></description>
  <preferences>
    <version>1.0.0</version><packagemanager>apt</packagemanager>
    <type image="tbz"/>
  </preferences>
  <repository type="apt-deb" distribution="` + suite + `" components="main"><source path="http://deb.debian.org/debian"/></repository>
  <packages type="bootstrap">` + list.String() + `</packages>` + more + `
</image>
`
}

// TestBootstrapDebian makes a Debian from nothing, twice, and compares.
func TestBootstrapDebian(t *testing.T) { testenv.AsBoth(t, testBootstrapDebian) }

func testBootstrapDebian(t *testing.T) {
	if testing.Short() {
		t.Skip("not in short mode: it installs packages from Debian's mirror")
	}
	testenv.NeedPrograms(t, "apt-get", "xz")
	cache := fastDir(t)
	image := load(t, map[string]string{"config.xml": debian("bookworm", []string{"ca-certificates"}, `<packages type="image"><package name="less"/></packages>`)})
	result, log := overlayOf(t, layers.NewTree(), image, fastDir(t), cache)
	t.Log(log)
	got := result.Tree
	db, err := database.Open(got)
	if err != nil || db == nil {
		t.Fatalf("%v, %v", db, err)
	}
	if missing := db.Missing([]string{"apt", "dpkg", "libc6", "ca-certificates", "less", "usr-is-merged", "debian-archive-keyring"}); missing != nil {
		t.Errorf("missing: %q", missing)
	}
	if extra := len(db.Installed()) - len(result.Installed); extra != 0 {
		t.Errorf("%d packages are installed, %d are told", len(db.Installed()), len(result.Installed))
	}
	for _, p := range result.Installed {
		if !strings.HasPrefix(p.Checksum, "sha256:") || p.Version == "" || p.Repository == "" {
			t.Errorf("package %+v", p)
		}
	}
	for name, want := range map[string]string{"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib"} {
		if n, err := got.Lookup(name); err != nil || n.Target != want {
			t.Errorf("/%s: %+v, %v", name, n, err)
		}
	}
	if n, err := got.Lookup("etc/resolv.conf"); err == nil {
		t.Errorf("etc/resolv.conf was left: %+v", n)
	}
	verified(t, result)
	if testenv.InUserNamespace() {
		return
	}
	second, _ := overlayOf(t, layers.NewTree(), image, fastDir(t), cache)
	sameTrees(t, got, second.Tree)
}

// TestBootstrapForeign makes a small Debian for 64-bit ARM, whose programs run emulated here.
func TestBootstrapForeign(t *testing.T) {
	testenv.NeedRoot(t)
	if testing.Short() {
		t.Skip("not in short mode: it installs packages from Debian's mirror")
	}
	if runtime.GOARCH == "arm64" {
		t.Skip("that architecture is not foreign here")
	}
	if testenv.InUserNamespace() {
		t.Skip("tried as root; an ordinary user's smaller check is in package emulation")
	}
	testenv.NeedPrograms(t, "apt-get", "xz", "qemu-aarch64-static")
	image := loadFor(t, "aarch64", map[string]string{
		"config.xml": debian("bookworm", nil, `<packages type="image"><package name="ed"/></packages>`),
		"config.sh":  "#!/bin/bash\nset -e\n(uname -m; dpkg --print-architecture; echo p | ed -s /etc/debian_version) > /etc/made\n",
	})
	result, log := overlayOf(t, layers.NewTree(), image, fastDir(t), "")
	t.Log(log)
	if diff := cmp.Diff("aarch64\narm64\n"+read(t, result.Tree, "etc/debian_version"), read(t, result.Tree, "etc/made")); diff != "" {
		t.Error(diff)
	}
}
