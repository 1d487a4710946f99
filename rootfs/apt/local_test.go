package apt

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// installSet installs a set and returns what was installed, for a lock.
func (w *world) installSet(t *testing.T, opts packages.Options, set description.PackageSet) ([]packages.Package, error) {
	t.Helper()
	s, err := Open(t.Context(), opts)
	if err != nil {
		return nil, err
	}
	defer func() { must(t, s.Close()) }()
	err = s.Install(t.Context(), set)
	return s.Installed(), err
}

// clear forgets the packages of the world's tree.
func (w *world) clear(t *testing.T) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(w.root, "var/lib/dpkg/status"), nil, 0o644))
}

func (w *world) is(t *testing.T, want string) {
	t.Helper()
	if diff := cmp.Diff(want, w.installed(t)); diff != "" {
		t.Error(diff)
	}
}

func wrong(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q has no %q", err, text)
		}
	}
}

// TestPlainDirectory installs from a directory of packages without an index.
func TestPlainDirectory(t *testing.T) { asBoth(t, testPlainDirectory) }

func testPlainDirectory(t *testing.T) {
	w := newWorld(t)
	pool := description.Repository{Origin: origin(7), Type: "deb-dir", Source: "dir://" + w.repo + "/pool"}
	opts, err := w.options(t, filepath.Join(t.TempDir(), "cache"), pool)
	must(t, err)
	if _, err := w.installSet(t, opts, description.PackageSet{Packages: pkg(1, "hello")}); err != nil {
		t.Fatalf("%v\n%s", err, w.log)
	}
	w.is(t, "greeting 1:2.0-1 installed\nhello 1.0 installed\n")

	pool.RepoGPGCheck = description.True
	_, err = w.open(t, "", pool)
	wrong(t, err, "config.xml:7:5: ", "no signature")
	pool.RepoGPGCheck, pool.Source = description.Unset, "dir://"+t.TempDir()
	_, err = w.open(t, "", pool)
	wrong(t, err, "config.xml:7:5: ", ".deb")
	// A directory that has an index and a signature is a repository like others.
	w.clear(t)
	flat := w.flat()
	flat.Type = "deb-dir"
	must(t, w.install(t, "", flat, false, "extra"))
	w.is(t, "extra 3 installed\n")
}

// TestIgnoredAndLocked keeps packages away, and to versions.
func TestIgnoredAndLocked(t *testing.T) { asBoth(t, testIgnoredAndLocked) }

func testIgnoredAndLocked(t *testing.T) {
	w := newWorld(t)
	opts, err := w.options(t, "", w.flat())
	must(t, err)
	set := description.PackageSet{Packages: pkg(3, "hello", "broken"), Ignore: pkg(4, "extra", "broken"), PlusRecommended: true}
	lock, err := w.installSet(t, opts, set)
	if err != nil {
		t.Fatalf("%v\n%s", err, w.log)
	}
	w.is(t, "greeting 1:2.0-1 installed\nhello 1.0 installed\n")
	if diff := cmp.Diff([]string{"greeting-1:2.0-1.all", "hello-1.0.all listed"}, names(lock)); diff != "" {
		t.Fatal(diff)
	}
	for _, p := range lock {
		if want, err := packages.Sum(filepath.Join(w.repo, "pool", strings.ReplaceAll(p.File, "%3a", ":"))); err != nil && p.Name != "greeting" || err == nil && want != p.Checksum {
			t.Errorf("%+v: %s, %v", p, want, err)
		}
		if p.Repository != "dir://"+w.repo || p.Download <= 0 {
			t.Errorf("%+v", p)
		}
	}
	w.clear(t)
	opts.Locked = lock
	if _, err := w.installSet(t, opts, set); err != nil {
		t.Fatalf("with its own lock: %v\n%s", err, w.log)
	}
	w.clear(t)
	_, err = w.installSet(t, opts, description.PackageSet{Packages: pkg(3, "extra")})
	wrong(t, err, "extra", "not in the lock file")
	opts.Locked = []packages.Package{lock[0], lock[1]}
	opts.Locked[1].Version = "0.9"
	_, err = w.installSet(t, opts, set)
	wrong(t, err, "hello", "0.9", "--locked")
	opts.Locked[1].Version, opts.Locked[1].Checksum = lock[1].Version, "sha256:00"
	_, err = w.installSet(t, opts, set)
	wrong(t, err, "hello", "checksum")
	w.is(t, "")
}

// TestOffline builds without the network, from what an earlier build has left in the cache.
func TestOffline(t *testing.T) { asBoth(t, testOffline) }

func testOffline(t *testing.T) {
	w := newWorld(t)
	server := httptest.NewServer(http.FileServer(http.Dir(w.repo)))
	repo := description.Repository{Origin: origin(7), Source: server.URL, Distribution: "stable", SigningKeys: []description.SigningKey{{URI: w.key}}}
	local := description.Repository{Origin: origin(8), Type: "deb-dir", Source: "dir://" + w.repo + "/pool"}
	cache := filepath.Join(t.TempDir(), "cache")
	offline := func(cache string, repos ...description.Repository) packages.Options {
		opts, err := w.options(t, cache, repos...)
		must(t, err)
		opts.Offline = true
		return opts
	}
	_, err := w.installSet(t, offline(cache, repo), description.PackageSet{Packages: pkg(1, "hello")})
	wrong(t, err, "config.xml:7:5: ", "package cache", "without --offline")
	must(t, w.install(t, cache, repo, false, "hello"))
	server.Close()
	w.clear(t)
	if _, err := w.installSet(t, offline(cache, repo), description.PackageSet{Packages: pkg(1, "hello")}); err != nil {
		t.Fatalf("%v\n%s", err, w.log)
	}
	w.is(t, "greeting 1:2.0-1 installed\nhello 1.0 installed\n")
	w.clear(t)
	_, err = w.installSet(t, offline(cache, repo), description.PackageSet{Packages: pkg(1, "extra")})
	wrong(t, err, "lacks extra-3.all", "without --offline")
	// What this machine has needs no network; the lists of both kinds count together.
	if _, err := w.installSet(t, offline("", local), description.PackageSet{Packages: pkg(1, "extra")}); err != nil {
		t.Errorf("%v\n%s", err, w.log)
	}
}

// TestQuickForms installs a large package twice: the second time from the cache, in the form that is quick to decompress, unless that is damaged.
func TestQuickForms(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedProgram(t, "xz")
	w := newWorld(t)
	big := make([]byte, 200<<10)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range big {
		big[i] = byte(random.IntN(256))
	}
	w.makePackage(t, "big", "1", "", "", big)
	w.index(t, "one")
	must(t, os.WriteFile(filepath.Join(w.root, "var/lib/dpkg/status"), []byte("Package: dpkg\nStatus: install ok installed\nVersion: 1.21.22\nArchitecture: amd64\nMaintainer: x\nDescription: x\n"), 0o644))
	server := httptest.NewServer(http.FileServer(http.Dir(w.repo)))
	defer server.Close()
	repo := description.Repository{Source: server.URL, RepoGPGCheck: description.False}
	cache := filepath.Join(t.TempDir(), "cache")
	for i := range 3 {
		if err := w.install(t, cache, repo, false, "big"); err != nil {
			t.Fatalf("%v\n%s", err, w.log)
		}
		got, err := os.ReadFile(filepath.Join(w.root, "opt/big/file"))
		if err != nil || !bytes.Equal(got, big) {
			t.Errorf("run %d: %d bytes, %v", i, len(got), err)
		}
		quick, err := filepath.Glob(filepath.Join(cache, "apt/*.quick"))
		must(t, err)
		if len(quick) != 1 {
			t.Fatalf("run %d: in the cache: %v", i, quick)
		}
		testenv.Run(t, "dpkg", "--root="+w.root, "--log=/dev/null", "--force-bad-path", "--purge", "big")
		if i == 1 {
			must(t, os.Truncate(quick[0], 100<<10))
		}
	}
	for version, want := range map[string]bool{"1.21.18": true, "1.21.17": false, "1.20.13": false, "1.22.0": true, "1.19.7ubuntu3": true, "2.0": true, "1.21.18~x": true, "": false} {
		if got := readsZstd(version); got != want {
			t.Errorf("dpkg %s reads zstd: %v", version, got)
		}
	}
}

// TestMirrorGone has a server that goes away: between two builds, and in the middle of one.
func TestMirrorGone(t *testing.T) {
	testenv.NeedRoot(t)
	w := newWorld(t)
	var mu sync.Mutex
	broken := 0
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".deb") {
			mu.Lock()
			broken++
			mu.Unlock()
			rw.Header().Set("Content-Length", "700")
			_, _ = rw.Write(make([]byte, 100)) // the rest never comes
			return
		}
		http.FileServer(http.Dir(w.repo)).ServeHTTP(rw, r)
	}))
	defer server.Close()
	cache := filepath.Join(t.TempDir(), "cache")
	err := w.install(t, cache, description.Repository{Origin: origin(7), Source: server.URL, RepoGPGCheck: description.False}, false, "extra")
	wrong(t, err, "config.xml:7:5: ", server.URL, "can't be read")
	if broken == 0 {
		t.Error("nothing was asked for")
	}
	if left, err := filepath.Glob(filepath.Join(cache, "apt/*.deb")); err != nil || left != nil {
		t.Errorf("in the cache: %v, %v", left, err)
	}
	w.is(t, "")
}

func TestDidYouMean(t *testing.T) {
	testenv.NeedRoot(t)
	w := newWorld(t)
	wrong(t, w.install(t, "", w.flat(), false, "greetin"), "config.xml:12:9: no repository has the package greetin", `did you mean "greeting"?`)
}

// TestCustomized has a script that changes the files of a repository.
func TestCustomized(t *testing.T) { asBoth(t, testCustomized) }

func testCustomized(t *testing.T) {
	w := newWorld(t)
	testenv.NeedProgram(t, "bash")
	const script = "#!/bin/bash\nset -e\ncase $1 in\n*.sources) echo 'Trusted: yes' >> \"$1\" ;;\n*.pref) sed -i s/700/701/ \"$1\" ;;\nesac\n"
	must(t, os.WriteFile(filepath.Join(w.repo, "customize.sh"), []byte(script), 0o755))
	repo := description.Repository{Origin: origin(7), Alias: "own", Source: "dir://" + w.repo, Customize: "customize.sh", Priority: 700}
	opts, err := w.options(t, "", repo)
	must(t, err)
	s, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatalf("%v\n%s", err, w.log)
	}
	defer func() { must(t, s.Close()) }()
	if got := s.(*session).sources.preferences; !strings.Contains(got, "Pin-Priority: 701\n") {
		t.Errorf("preferences: %q", got)
	}
	must(t, s.Install(t.Context(), description.PackageSet{Packages: pkg(1, "extra")}))
	w.is(t, "extra 3 installed\n")
}

// TestWhichRepositories looks at which repositories apt is shown for what.
func TestWhichRepositories(t *testing.T) {
	testenv.NeedProgram(t, "dpkg-deb")
	w := &world{root: t.TempDir(), repo: t.TempDir(), log: &bytes.Buffer{}, nothing: true}
	opts, err := w.options(t, "",
		description.Repository{Alias: "net", Source: "http://a.example.org/x"}, description.Repository{Alias: "base", Source: "http://b.example.org/x", Distribution: "s", UseForBootstrap: true},
		description.Repository{Alias: "here", Source: "dir://" + w.repo})
	must(t, err)
	opened, err := Open(t.Context(), opts)
	must(t, err)
	defer func() { must(t, opened.Close()) }()
	for _, test := range []struct {
		task task
		want string
	}{
		{task{}, "000-net.sources 001-base.sources 002-here.sources"},
		{task{bootstrap: true}, "001-base.sources"},
		{task{local: true}, "002-here.sources"},
	} {
		var shown []string
		for _, f := range opened.(*session).spec(test.task, "apt-get").Files {
			if filepath.Ext(f.Path) == ".sources" {
				shown = append(shown, filepath.Base(f.Path))
			}
		}
		if diff := cmp.Diff(test.want, strings.Join(shown, " ")); diff != "" {
			t.Errorf("%+v: %s", test.task, diff)
		}
	}
}

// TestInterrupted stops an installation in a package's script.
func TestInterrupted(t *testing.T) { asBoth(t, testInterrupted) }

func testInterrupted(t *testing.T) {
	w := newWorld(t)
	opts, err := w.options(t, "", w.flat())
	must(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by the user")
	run := opts.Inside
	opts.Inside = func(ctx context.Context, spec sandbox.Spec) error {
		if len(spec.Args) > 4 && spec.Args[4] == "install" {
			cancel(stop)
		}
		return run(ctx, spec)
	}
	s, err := Open(ctx, opts)
	must(t, err)
	if err := s.Install(ctx, description.PackageSet{Packages: pkg(1, "hello")}); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
	must(t, s.Close())
	if left, err := os.ReadDir(opts.Workdir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestBootstrapPackage makes the tree from a package that brings one.
func TestBootstrapPackage(t *testing.T) { asBoth(t, testBootstrapPackage) }

func testBootstrapPackage(t *testing.T) {
	testenv.NeedPrograms(t, "tar", "xz")
	w := newWorld(t)
	tree := filepath.Join(t.TempDir(), "tree")
	for _, dir := range []string{"var/lib/dpkg", "usr/bin", "etc"} {
		must(t, os.MkdirAll(filepath.Join(tree, dir), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(tree, "var/lib/dpkg/status"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(tree, "etc/brought"), []byte("x"), 0o600))
	build := filepath.Join(t.TempDir(), "bootroot")
	must(t, os.MkdirAll(filepath.Join(build, "DEBIAN"), 0o755))
	must(t, os.MkdirAll(filepath.Join(build, "var/lib/bootstrap"), 0o755))
	must(t, os.WriteFile(filepath.Join(build, "DEBIAN/control"), []byte("Package: bootroot\nVersion: 1\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: t\n"), 0o644))
	testenv.Run(t, "tar", "-C", tree, "-cJf", filepath.Join(build, "var/lib/bootstrap/bootroot.x86_64.tar.xz"), ".")
	must(t, os.Chmod(build, 0o755))
	testenv.Run(t, "dpkg-deb", "--root-owner-group", "-b", build, filepath.Join(w.repo, "pool"))
	w.index(t, "one")

	w.root, w.nothing = filepath.Join(t.TempDir(), "root"), true
	must(t, os.Mkdir(w.root, 0o755))
	opts, err := w.options(t, "", w.flat())
	must(t, err)
	opts.Image.Packages.BootstrapPackage = "bootroot"
	s, err := Open(t.Context(), opts)
	must(t, err)
	defer func() { must(t, s.Close()) }()
	if err := s.Bootstrap(t.Context(), description.PackageSet{}); err != nil {
		t.Fatalf("%v\n%s", err, w.log)
	}
	if info, err := os.Stat(filepath.Join(w.root, "etc/brought")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if diff := cmp.Diff([]string{"bootroot-1.all"}, names(s.Installed())); diff != "" {
		t.Error(diff)
	}
	opts.Image.Packages.BootstrapPackage = "extra"
	w.root = filepath.Join(t.TempDir(), "other")
	must(t, os.Mkdir(w.root, 0o755))
	other, err := Open(t.Context(), opts)
	must(t, err)
	defer func() { must(t, other.Close()) }()
	wrong(t, other.Bootstrap(t.Context(), description.PackageSet{}), "extra", "/var/lib/bootstrap/extra.x86_64.tar.xz")
}

// TestNoSpaceLeft unpacks a package into a file system that is too small for it: in a mount namespace of a second run of the test, which has one.
func TestNoSpaceLeft(t *testing.T) {
	testenv.NeedRoot(t)
	const variable = "APT_TEST_SMALL"
	small := os.Getenv(variable)
	if small == "" {
		testenv.NeedPrograms(t, "unshare", "mount")
		self, err := os.Executable()
		must(t, err)
		dir := t.TempDir()
		script := `mount -t tmpfs -o size=100k none "$1" && exec env ` + variable + `="$1" "$2" -test.v -test.run '^TestNoSpaceLeft$'`
		t.Log(testenv.Run(t, "unshare", "--mount", "sh", "-ec", script, "sh", dir, self))
		return
	}
	w := newWorld(t)
	w.makePackage(t, "fat", "1", "", "", make([]byte, 1<<20))
	w.index(t, "one")
	must(t, os.Mkdir(filepath.Join(w.root, "opt"), 0o755))
	opts, err := w.options(t, "", w.flat())
	must(t, err)
	opts.Inside = func(ctx context.Context, spec sandbox.Spec) error {
		spec.Binds = append(spec.Binds, sandbox.Bind{Source: small, Target: "/opt"})
		return w.run(ctx, spec)
	}
	_, err = w.installSet(t, opts, description.PackageSet{Packages: pkg(1, "fat")})
	wrong(t, err, "no space left", "/opt/fat/file")
}
