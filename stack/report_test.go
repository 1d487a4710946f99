package stack

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
	"github.com/imgbuild/imgbuild/rootfs/inspect"
)

func TestCompareFindsMismatchesAndAccounts(t *testing.T) {
	r := &Report{Containers: []Container{
		{Name: "base", Architecture: "x86_64", Distribution: "debian 12", Packages: []string{"dpkg"}},
		{Name: "app", Architecture: "aarch64", Distribution: "fedora 40", Packages: []string{"rpm"}},
		{Name: "files"}, // says nothing of itself, so it fits
	}}
	err := r.compare([]*layers.Tree{
		layerstest.Files(t, map[string]string{"etc/passwd": "www:x:33:33\n"}),
		layerstest.Files(t, map[string]string{"etc/passwd": "www:x:48:48\n"}),
		layerstest.Files(t, map[string]string{"etc/motd": "hello"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	wantMismatches := []Mismatch{
		{What: "architecture", From: "base", Has: "x86_64", Took: "app", Now: "aarch64"},
		{What: "distribution", From: "base", Has: "debian 12", Took: "app", Now: "fedora 40"},
		{What: "package database", From: "base", Has: "dpkg", Took: "app", Now: "rpm"},
	}
	if diff := cmp.Diff(wantMismatches, r.Mismatches); diff != "" {
		t.Error(diff)
	}
	wantAccounts := []AccountClash{{Clash: inspect.Clash{Database: "passwd", Name: "www", Was: 33, Now: 48}, From: "base", Took: "app"}}
	if diff := cmp.Diff(wantAccounts, r.Accounts); diff != "" {
		t.Error(diff)
	}
	var mismatch *MismatchError
	if err := r.fatal(); !errors.As(err, &mismatch) || len(mismatch.Mismatches) != 1 || !strings.Contains(err.Error(), "--force") {
		t.Errorf("different architectures gave %v", err)
	}
	r.Mismatches = r.Mismatches[1:]
	if err := r.fatal(); err != nil {
		t.Errorf("different distributions alone gave %v", err)
	}
}

func TestReportIsShortAndComplete(t *testing.T) {
	r := &Report{Containers: []Container{{Name: "a", Architecture: "x86_64", Entries: 3}, {Name: "b", Architecture: "x86_64", Entries: 9}}}
	for _, name := range []string{"1", "2", "3", "4", "5", "6", "7"} {
		r.Clashes = append(r.Clashes, Clash{Path: "etc/" + name, Kind: "file taken over", From: "a", Took: "b"})
	}
	r.Accounts = []AccountClash{{Clash: inspect.Clash{Database: "group", Name: "kvm", Was: 100, Now: 100, Taken: "users"}, From: "a", Took: "b"}}
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"file taken over: 7\n", `"/etc/5" of a, now of b`, "and 2 more", "group: 100 was kvm in a and is users in b"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "etc/6") {
		t.Error("the short form shows too much")
	}
}
