package zypper

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/rootfs/packages"
)

func TestOffline(t *testing.T) {
	needZypper(t)
	repo := t.TempDir()
	testrepos.MakeRPMRepo(t, repo, testrepos.RPMRepo{Packages: few()[:3]})
	server := testrepos.Serve(t, repo, "", "")
	r := description.Repository{Origin: origin(7), Source: server.URL}
	cache := t.TempDir()
	first := newWorld(t, repo)
	first.offline, first.cache = true, cache
	wantError(t, first.bootstrap(t, set("hello"), r), "config.xml:7:5: the package cache lacks the package lists of repository "+server.URL, "--offline")
	first.offline = false
	must(t, first.bootstrap(t, set("hello"), r))
	server.Requests()
	second := newWorld(t, repo)
	second.cache = cache
	must(t, second.bootstrap(t, set("hello"), r))
	if requests := strings.Join(server.Requests(), " "); strings.Contains(requests, ".rpm") || strings.Contains(requests, "primary") {
		t.Errorf("fetched again: %s", requests)
	}
	server.Close()
	third := newWorld(t, repo)
	third.offline, third.cache = true, cache
	must(t, third.bootstrap(t, set("hello"), r))
	third.wantInstalled(t, "greeting-1:2.0-1", "hello-1.0-1")
	wantError(t, third.bootstrap(t, set("extra"), r), "the package cache lacks extra-3-1.noarch", "--offline")
}

// TestDamagedCache changes a package in the cache, which must not be installed.
func TestDamagedCache(t *testing.T) {
	needZypper(t)
	w := newWorld(t, sharedRepo(t))
	server := testrepos.Serve(t, w.repo, "", "")
	r := description.Repository{Origin: origin(7), Source: server.URL}
	w.cache = t.TempDir()
	must(t, w.bootstrap(t, set("extra"), r))
	files, err := filepath.Glob(filepath.Join(w.cache, "zypper/*/cache/packages/extra*.rpm"))
	if err != nil || len(files) != 1 {
		t.Fatalf("in the cache: %q, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	must(t, err)
	data[len(data)-3] ^= 1
	must(t, os.WriteFile(files[0], data, 0o644))
	server.Requests()
	other := newWorld(t, w.repo)
	other.cache = w.cache
	must(t, other.bootstrap(t, set("extra"), r))
	if !server.Fetched(".rpm") {
		t.Error("the damaged package was not fetched again")
	}
}

func TestLocked(t *testing.T) {
	needZypper(t)
	repo := t.TempDir()
	testrepos.MakeRPMRepo(t, repo, testrepos.RPMRepo{Packages: []testrepos.RPM{{Name: "top", Requires: []string{"below"}}, {Name: "below", Version: "1"}}})
	first := newWorld(t, repo)
	var lock []packages.Package
	must(t, first.session(t, func(s packages.Session) error {
		defer func() { lock = s.Installed() }()
		return s.Bootstrap(t.Context(), set("top"))
	}))
	testrepos.MakeRPMRepo(t, repo, testrepos.RPMRepo{Packages: []testrepos.RPM{{Name: "below", Version: "2"}, {Name: "other"}}})
	newest := newWorld(t, repo)
	must(t, newest.bootstrap(t, set("top")))
	newest.wantInstalled(t, "below-2-1", "top-1-1")
	again := newWorld(t, repo)
	again.locked = lock
	must(t, again.session(t, func(s packages.Session) error {
		err := s.Bootstrap(t.Context(), set("top"))
		if diff := cmp.Diff(lock, s.Installed()); diff != "" {
			t.Error(diff)
		}
		return err
	}))
	again.wantInstalled(t, "below-1-1", "top-1-1")
	wantError(t, again.bootstrap(t, set("other")), "other-1-1.noarch is not in the lock file", "--locked")
	changed := newWorld(t, repo)
	changed.locked = append([]packages.Package(nil), lock...)
	changed.locked[0].Checksum = "sha256:" + strings.Repeat("0", 64)
	wantError(t, changed.bootstrap(t, set("top")), "below-1-1.noarch has the checksum", "--locked")
	must(t, os.Remove(filepath.Join(repo, "below-1-1.noarch.rpm")))
	testrepos.IndexRPM(t, repo, testrepos.RPMRepo{})
	gone := newWorld(t, repo)
	gone.locked = lock
	wantError(t, gone.bootstrap(t, set("top")), "lock file", "below", "--locked")
	for _, w := range []*world{changed, gone} {
		if len(w.installed(t)) != 0 {
			t.Error("something was installed")
		}
	}
}
