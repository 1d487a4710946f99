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
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
)

func TestOffline(t *testing.T) {
	needZypper(t)
	repo := t.TempDir()
	testrepos.MakeRPMRepo(t, repo, testrepos.RPMRepo{Packages: few()[:3]})
	server := testrepos.Serve(t, repo, "", "")
	r := description.Repository{Origin: managertest.Origin(7), Source: server.URL}
	cache := t.TempDir()
	first := newWorld(t, repo)
	first.Offline, first.Cache = true, cache
	managertest.WantError(t, first.Bootstrap(t, managertest.Set("hello"), r), "config.xml:7:5: the package cache lacks the package lists of repository "+server.URL, "--offline")
	first.Offline = false
	managertest.Must(t, first.Bootstrap(t, managertest.Set("hello"), r))
	server.Requests()
	second := newWorld(t, repo)
	second.Cache = cache
	managertest.Must(t, second.Bootstrap(t, managertest.Set("hello"), r))
	if requests := strings.Join(server.Requests(), " "); strings.Contains(requests, ".rpm") || strings.Contains(requests, "primary") {
		t.Errorf("fetched again: %s", requests)
	}
	server.Close()
	third := newWorld(t, repo)
	third.Offline, third.Cache = true, cache
	managertest.Must(t, third.Bootstrap(t, managertest.Set("hello"), r))
	third.wantInstalled(t, "greeting-1:2.0-1", "hello-1.0-1")
	managertest.WantError(t, third.Bootstrap(t, managertest.Set("extra"), r), "the package cache lacks extra-3-1.noarch", "--offline")
}

// TestDamagedCache changes a package in the cache, which must not be installed.
func TestDamagedCache(t *testing.T) {
	needZypper(t)
	w := newWorld(t, sharedRepo(t))
	server := testrepos.Serve(t, w.Repo, "", "")
	r := description.Repository{Origin: managertest.Origin(7), Source: server.URL}
	w.Cache = t.TempDir()
	managertest.Must(t, w.Bootstrap(t, managertest.Set("extra"), r))
	files, err := filepath.Glob(filepath.Join(w.Cache, "zypper/*/cache/packages/extra*.rpm"))
	if err != nil || len(files) != 1 {
		t.Fatalf("in the cache: %q, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	managertest.Must(t, err)
	data[len(data)-3] ^= 1
	managertest.Must(t, os.WriteFile(files[0], data, 0o644))
	server.Requests()
	other := newWorld(t, w.Repo)
	other.Cache = w.Cache
	managertest.Must(t, other.Bootstrap(t, managertest.Set("extra"), r))
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
	managertest.Must(t, first.With(t, func(s packages.Session) error {
		defer func() { lock = s.Installed() }()
		return s.Bootstrap(t.Context(), managertest.Set("top"))
	}))
	testrepos.MakeRPMRepo(t, repo, testrepos.RPMRepo{Packages: []testrepos.RPM{{Name: "below", Version: "2"}, {Name: "other"}}})
	newest := newWorld(t, repo)
	managertest.Must(t, newest.Bootstrap(t, managertest.Set("top")))
	newest.wantInstalled(t, "below-2-1", "top-1-1")
	again := newWorld(t, repo)
	again.Locked = lock
	managertest.Must(t, again.With(t, func(s packages.Session) error {
		err := s.Bootstrap(t.Context(), managertest.Set("top"))
		if diff := cmp.Diff(lock, s.Installed()); diff != "" {
			t.Error(diff)
		}
		return err
	}))
	again.wantInstalled(t, "below-1-1", "top-1-1")
	managertest.WantError(t, again.Bootstrap(t, managertest.Set("other")), "other-1-1.noarch is not in the lock file", "--locked")
	changed := newWorld(t, repo)
	changed.Locked = append([]packages.Package(nil), lock...)
	changed.Locked[0].Checksum = "sha256:" + strings.Repeat("0", 64)
	managertest.WantError(t, changed.Bootstrap(t, managertest.Set("top")), "below-1-1.noarch has the checksum", "--locked")
	managertest.Must(t, os.Remove(filepath.Join(repo, "below-1-1.noarch.rpm")))
	testrepos.IndexRPM(t, repo, testrepos.RPMRepo{})
	gone := newWorld(t, repo)
	gone.Locked = lock
	managertest.WantError(t, gone.Bootstrap(t, managertest.Set("top")), "lock file", "below", "--locked")
	for _, w := range []world{changed, gone} {
		w.wantInstalled(t)
	}
}
