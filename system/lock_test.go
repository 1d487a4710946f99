package system

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/rootfs/packages"
)

const (
	sum1 = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	sum2 = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
)

func aLock() Lock {
	l := Lock{Format: lockFormat, Image: LockedImage{Name: "web", Version: "1.0.0", Arch: "x86_64", Type: "oem", Description: sum1},
		Containers: []LockedContainer{{Use: useBase, Name: "debian:12", Digest: sum1}}}
	l.add([]packages.Package{{Name: "bash", Version: "5.2", Arch: "amd64", Checksum: sum1}, {Name: "apt", Version: "2.6", Arch: "amd64", Checksum: sum2, Download: 5}})
	return l
}

func TestLockIsWrittenAndRead(t *testing.T) {
	l := aLock()
	first, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	l.Packages[0], l.Packages[1] = l.Packages[1], l.Packages[0]
	second, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if string(first) != string(second) {
		t.Errorf("the order in which packages were installed shows:\n%s\n%s", first, second)
	}
	name := filepath.Join(t.TempDir(), LockFile)
	if err := os.WriteFile(name, first, 0o644); err != nil {
		t.Fatal(err)
	}
	read, err := ReadLock(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&l, read); diff != "" {
		t.Error(diff)
	}
}

func TestWrongLocks(t *testing.T) {
	for text, want := range map[string]string{
		``:                           "EOF",
		`{"format": 2}`:              "only 1 is known",
		`{"format": 1, "colour": 3}`: "colour",
		`{"format": 1, "containers": [{"name": "a", "digest": "md5"}]}`: "container a",
	} {
		if _, err := decodeLock("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := ReadLock(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzLock(f *testing.F) {
	l := aLock()
	text, err := l.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := decodeLock("f", data)
		if err != nil {
			return
		}
		text, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeLock("f", text)
		if err != nil {
			t.Fatalf("what was written can't be read: %v\n%s", err, text)
		}
		if rewritten, _ := again.Encode(); string(rewritten) != string(text) {
			t.Errorf("not stable: %s\n%s", text, rewritten)
		}
	})
}

func TestLockIsObeyed(t *testing.T) {
	l := aLock()
	install := func(list ...packages.Package) (used Lock) {
		used.add(list)
		return used
	}
	bash, apt := packages.Package{Name: "bash", Version: "5.2", Arch: "amd64", Checksum: sum1}, packages.Package{Name: "apt", Version: "2.6", Arch: "amd64"}
	for name, c := range map[string]struct {
		known, used Lock
		want        []string
	}{
		"exactly":          {Lock{}, install(apt, bash), nil},
		"was there before": {install(bash), install(apt), nil},
		"one more":         {Lock{}, install(apt, bash, packages.Package{Name: "vim", Version: "9", Arch: "all"}), []string{"package vim is 9 for all, locked is none"}},
		"one less":         {Lock{}, install(apt), []string{"package bash is not installed, locked is 5.2 for amd64 (" + sum1 + ")"}},
		"newer": {Lock{}, install(packages.Package{Name: "apt", Version: "2.7", Arch: "amd64"}, bash),
			[]string{"package apt is 2.7 for amd64, locked is 2.6 for amd64 (" + sum2 + ")"}},
		"other file": {Lock{}, install(apt, packages.Package{Name: "bash", Version: "5.2", Arch: "amd64", Checksum: sum2}),
			[]string{"package bash is 5.2 for amd64 (" + sum2 + "), locked is 5.2 for amd64 (" + sum1 + ")"}},
		"for another one": {Lock{}, install(apt, packages.Package{Name: "bash", Version: "5.2", Arch: "i386"}), []string{"package bash is 5.2 for i386, locked is 5.2 for amd64 (" + sum1 + ")"}},
		"nothing at all":  {install(apt, bash), Lock{}, nil},
		"nothing, and none": {Lock{}, Lock{},
			[]string{"package apt is not installed, locked is 2.6 for amd64 (" + sum2 + ")", "package bash is not installed, locked is 5.2 for amd64 (" + sum1 + ")"}},
	} {
		err := l.complete("oci", c.known, c.used)
		var differs *LockError
		if errors.As(err, &differs) != (c.want != nil) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if differs != nil {
			if diff := cmp.Diff(c.want, differs.Differences); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
	var none *Lock
	if err := none.complete("oci", Lock{}, install(bash)); err != nil || none.packages("oci") != nil {
		t.Error("without a lock something is forbidden")
	}
	if empty := (&Lock{}); empty.packages("oci") == nil {
		t.Error("an empty lock allows everything")
	}
}

func TestContainersArePinned(t *testing.T) {
	l := aLock()
	for name, want := range map[string]string{"debian:12": "debian:12@" + sum1} {
		if got, err := l.pin(useBase, name); err != nil || got != want {
			t.Errorf("%s became %s, %v", name, got, err)
		}
	}
	if _, err := l.pin(useStack, "debian:12"); err == nil || !strings.Contains(err.Error(), "debian:12 (stack) is not in it") {
		t.Errorf("the container was locked for something else: %v", err)
	}
	for name, want := range map[string]string{
		"docker://example.org/a:1":  "example.org/a:1@" + sum1,
		"oci-archive:/a.tar:latest": "oci-archive:/a.tar:latest",
	} {
		if got, err := pinned(name, sum1); err != nil || got != want {
			t.Errorf("%s became %s, %v", name, got, err)
		}
	}
	if err := l.matches(LockedContainer{Use: useBase, Name: "debian:12", Digest: sum2}); err == nil || !strings.Contains(err.Error(), sum1) {
		t.Error(err)
	}
	if err := l.isFor("x86_64"); err != nil {
		t.Error(err)
	}
	if err := l.isFor("aarch64"); err == nil || !strings.Contains(err.Error(), "for x86_64 and not for aarch64") {
		t.Error(err)
	}
	var none *Lock
	if got, err := none.pin(useBase, "debian:12"); err != nil || got != "debian:12" {
		t.Error(got, err)
	}
}

func TestLockOfAChangedTree(t *testing.T) {
	l, more := aLock(), Lock{Containers: []LockedContainer{{Use: useBuilder, Name: "b", Digest: sum2}}}
	more.add([]packages.Package{{Name: "apt", Version: "3.0", Arch: "amd64"}, {Name: "vim", Version: "9", Arch: "amd64"}})
	both := l.with(more)
	var got []string
	for _, p := range both.Packages {
		got = append(got, p.Name+" "+p.Version)
	}
	if diff := cmp.Diff([]string{"bash 5.2", "apt 3.0", "vim 9"}, got); diff != "" {
		t.Error(diff)
	}
	if len(both.Containers) != 2 {
		t.Errorf("containers %v", both.Containers)
	}
}

func TestLongListsOfDifferencesAreCut(t *testing.T) {
	e := &LockError{Differences: strings.Fields(strings.Repeat("x ", 15))}
	if text := e.Error(); !strings.Contains(text, "and 5 more") || !strings.Contains(text, "without --locked") {
		t.Error(text)
	}
}
