package inspect

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

func elfStart(order byte, machine [2]byte) string {
	return "\x7fELF\x02" + string(order) + "\x01" + string(make([]byte, 11)) + string(machine[:])
}

func TestArchitectureComesFromPrograms(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"amd64":             {map[string]string{"bin/sh": elfStart(1, [2]byte{62, 0})}, "x86_64"},
		"arm64":             {map[string]string{"bin/sh": elfStart(1, [2]byte{183, 0})}, "aarch64"},
		"big endian s390x":  {map[string]string{"bin/sh": elfStart(2, [2]byte{0, 22})}, "s390x"},
		"ppc64le":           {map[string]string{"bin/sh": elfStart(1, [2]byte{21, 0})}, "ppc64le"},
		"script, then bash": {map[string]string{"bin/sh": "#!/bin/x", "bin/bash": elfStart(1, [2]byte{62, 0})}, "x86_64"},
		"no programs":       {map[string]string{"etc/motd": "hello"}, ""},
		"too short":         {map[string]string{"bin/sh": "\x7fELF"}, ""},
	} {
		got, err := Architecture(layerstest.Files(t, c.files))
		if err != nil || got != c.want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func TestArchitectureNamesMapBothWays(t *testing.T) {
	for _, machine := range []string{"x86_64", "i686", "aarch64", "armv7l", "armv6l", "ppc64le", "s390x", "riscv64", "loongarch64"} {
		if back := MachineOf(OCIArchitecture(machine)); back != machine {
			t.Errorf("%s became %s", machine, back)
		}
	}
}

func TestDistribution(t *testing.T) {
	tree := layerstest.Files(t, map[string]string{"usr/lib/os-release": "# c\nID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME='A \"B\"'\nbroken\n"})
	if got, err := Distribution(tree); err != nil || got != "debian 12" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := Distribution(layers.NewTree()); err != nil || got != "" {
		t.Errorf("an empty tree is %q, %v", got, err)
	}
}

func TestPackageDatabases(t *testing.T) {
	tree := layerstest.Files(t, map[string]string{"var/lib/dpkg/status": "", "usr/lib/sysimage/rpm/rpmdb.sqlite": "x", "var/lib/rpm/Packages": "x"})
	if diff := cmp.Diff([]string{"dpkg", "rpm"}, PackageDatabases(tree)); diff != "" {
		t.Error(diff)
	}
}

func TestCompareAccounts(t *testing.T) {
	read := func(passwd, group string) Accounts {
		a, err := ReadAccounts(layerstest.Files(t, map[string]string{"etc/passwd": passwd, "etc/group": group}))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	earlier := read("root:x:0:0\nwww:x:33:33\nold:x:100:100\nalone:x:999:1\nbad line\nalso:x:bad:1\n", "root:x:0\nwww:x:33\n")
	later := read("root:x:0:0\nwww:x:34:33\nnew:x:100:100\n", "root:x:0\nwww:x:33\n")
	want := []Clash{
		{Database: "passwd", Name: "old", Was: 100, Now: 100, Taken: "new"},
		{Database: "passwd", Name: "www", Was: 33, Now: 34},
	}
	if diff := cmp.Diff(want, earlier.Compare(later)); diff != "" {
		t.Error(diff)
	}
}
