package pacman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
)

// wantError checks that an error is of the description, at a line, with certain words.
func wantError(t *testing.T, err error, at string, words ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	if at != "" && !strings.Contains(err.Error(), at) {
		t.Errorf("not at %s: %v", at, err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("not %q: %v", word, err)
		}
	}
}

// TestBootstrap makes a tree from nothing, with a scriptlet that runs in it.
func TestBootstrap(t *testing.T) {
	need(t)
	testenv.AsBoth(t, testBootstrap, pacmanVariable+"="+os.Getenv(pacmanVariable))
}

func testBootstrap(t *testing.T) {
	list := append(testrepos.PacmanDistribution(t), testrepos.PacmanPackage{
		Name: "scripted", Depends: []string{"base"}, Install: "post_install() {\n  echo \"$(id -u) $(cat /etc/os-release | grep ^ID)\" > /etc/scripted\n  mkinitcpio -P || echo bad > /etc/scripted\n}\n",
		Files: []testrepos.File{{Path: "/usr/share/libalpm/hooks/x.hook", Content: "[Trigger]\nOperation = Install\nType = Package\nTarget = *\n[Action]\nDescription = hook\nWhen = PostTransaction\nExec = /usr/bin/touch /etc/hooked\n"}},
	})
	w := newWorld(t, testrepos.PacmanRepo{Packages: list})
	w.Env = []string{"SOURCE_DATE_EPOCH=1700000001"}
	err := w.with(t, nil, func(s packages.Session) error {
		if err := s.Bootstrap(t.Context(), managertest.Set("scripted")); err != nil {
			return err
		}
		var names []string
		for _, p := range s.Installed() {
			names = append(names, fmt.Sprint(p, " ", p.Listed, " ", len(p.Checksum), " ", p.Repository))
		}
		want := []string{"base-1-1.any false 71 test", "busybox-1-1." + testrepos.HostArch() + " false 71 test", "filesystem-1-1.any false 71 test", "release-1-1.any false 71 test", "scripted-1-1.any true 71 test"}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Error(diff)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, w.Log.String())
	}
	w.wantInstalled(t, "base-1-1 (needed)", "busybox-1-1 (needed)", "filesystem-1-1 (needed)", "release-1-1 (needed)", "scripted-1-1")
	if data, err := os.ReadFile(filepath.Join(w.Root, "etc/scripted")); string(data) != "0 ID=arch\n" {
		t.Errorf("the scriptlet has left %q, %v\n%s", data, err, w.Log.String())
	}
	if _, err := os.Stat(filepath.Join(w.Root, "etc/hooked")); err != nil {
		t.Errorf("the hook has not run: %v\n%s", err, w.Log.String())
	}
	if data, err := os.ReadFile(filepath.Join(w.Root, databaseDir, "local/scripted-1-1/desc")); !strings.Contains(string(data), "%INSTALLDATE%\n1700000001\n") {
		t.Errorf("%s, %v", data, err)
	}
	want := []string{"bin", "etc/hooked", "etc/os-release", "etc/scripted", "lib", "lib64", "sbin"}
	if diff := cmp.Diff(want, w.Left(t, "usr", "var/lib/pacman/local")); diff != "" {
		t.Errorf("pacman has left something else: %s", diff)
	}
	if _, err := os.Stat(filepath.Join(w.Root, databaseDir, "sync")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of lists is still there: %v", err)
	}
}

// TestInside installs, updates and removes with the tree's own pacman.
func TestInside(t *testing.T) {
	need(t)
	testenv.AsBoth(t, testInside, pacmanVariable+"="+os.Getenv(pacmanVariable))
}

func testInside(t *testing.T) {
	w := newWorld(t, testrepos.PacmanRepo{Packages: few()})
	w.makeInside(t)
	err := w.with(t, nil, func(s packages.Session) error { return s.Install(t.Context(), managertest.Set("hello", "extra")) })
	if err != nil {
		t.Fatalf("%v\n%s", err, w.Log.String())
	}
	w.wantInstalled(t, "extra-3-1", "greeting-1:2.0-3 (needed)", "hello-1.0-1")
	if !strings.Contains(strings.Join(w.Commands, "\n"), "inside: pacman") {
		t.Errorf("it ran outside: %q", w.Commands)
	}
	if w.Commands = nil; w.with(t, nil, func(s packages.Session) error {
		s.(*Session).Emulated = true
		_, err := s.Simulate(t.Context(), managertest.Set("hello"))
		return err
	}) != nil || !strings.HasPrefix(w.Commands[0], "pacman --version") || strings.Contains(strings.Join(w.Commands, "\n"), "inside: pacman") {
		t.Errorf("of another architecture: %q", w.Commands)
	}
	testrepos.MakePacmanRepo(t, w.Repo, testrepos.PacmanRepo{Packages: []testrepos.PacmanPackage{{Name: "extra", Version: "4-1"}}})
	if err := w.with(t, nil, func(s packages.Session) error { return s.Install(t.Context(), managertest.Set("hello")) }); err != nil {
		t.Fatal(err)
	}
	w.wantInstalled(t, "extra-3-1", "greeting-1:2.0-3 (needed)", "hello-1.0-1")
	err = w.with(t, nil, func(s packages.Session) error {
		err := s.Update(t.Context())
		if list := s.Installed(); len(list) != 1 || list[0].Version != "4-1" {
			t.Errorf("updated %v", list)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	w.wantInstalled(t, "extra-4-1", "greeting-1:2.0-3 (needed)", "hello-1.0-1")
	if err := w.with(t, nil, func(s packages.Session) error {
		return s.Delete(t.Context(), managertest.Packages(3, "greeting", "absent"))
	}); err != nil {
		t.Fatal(err)
	}
	w.wantInstalled(t, "extra-4-1", "hello-1.0-1")
	if err := w.with(t, nil, func(s packages.Session) error { return s.Install(t.Context(), managertest.Set("greeting")) }); err != nil {
		t.Fatal(err)
	}
	if err := w.with(t, nil, func(s packages.Session) error { return s.Uninstall(t.Context(), managertest.Packages(3, "greeting")) }); err != nil {
		t.Fatal(err)
	}
	w.wantInstalled(t, "extra-4-1")
	if err := w.with(t, nil, func(s packages.Session) error { return s.Uninstall(t.Context(), managertest.Packages(3, "greeting")) }); err != nil {
		t.Fatal(err)
	}
}

// makeInside makes a tree that borrows this machine's programs.
func (w world) makeInside(t *testing.T) {
	t.Helper()
	w.Borrow = []string{"pacman"}
	for _, dir := range []string{"usr/bin", "usr/lib", "usr/lib64", "usr/share", "etc", "root", "var/lib/pacman/local"} {
		managertest.Must(t, os.MkdirAll(filepath.Join(w.Root, dir), 0o755))
	}
	for _, link := range []string{"bin", "lib", "lib64"} {
		managertest.Must(t, os.Symlink("usr/"+link, filepath.Join(w.Root, link)))
	}
	managertest.Must(t, os.WriteFile(filepath.Join(w.Root, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644))
	managertest.Must(t, os.WriteFile(filepath.Join(w.Root, databaseDir, "local/ALPM_DB_VERSION"), []byte("9\n"), 0o644))
}

// TestSets installs groups, and leaves ignored packages out.
func TestSets(t *testing.T) {
	need(t)
	w := newWorld(t, testrepos.PacmanRepo{Packages: few()})
	what := managertest.Set()
	what.Collections = managertest.Packages(5, "nice")
	what.Products = managertest.Packages(6, "product")
	what.Ignore = managertest.Packages(8, "extra")
	w.Image.Packages.System = what
	if err := w.bootstrap(t, what); err != nil {
		t.Fatal(err)
	}
	w.wantInstalled(t, "greeting-1:2.0-3 (needed)", "hello-1.0-1")
	if !strings.Contains(w.Log.String(), "pacman knows no products") {
		t.Error("nothing is said of the product")
	}
	w = newWorld(t, testrepos.PacmanRepo{Packages: few()})
	w.Image.Packages.System.Ignore = managertest.Packages(8, "greeting")
	wantError(t, w.bootstrap(t, managertest.Set("hello")), "config.xml:8:5", "greeting is to be ignored, but hello needs it")
	if left := w.Left(t); len(left) > 1 {
		t.Errorf("something was installed: %v", left)
	}
}

func TestSimulate(t *testing.T) {
	need(t)
	w := newWorld(t, testrepos.PacmanRepo{Packages: few()})
	var got packages.Transaction
	simulate := func(s packages.Session) (err error) {
		got, err = s.Simulate(t.Context(), managertest.Set("hello"))
		return err
	}
	managertest.Must(t, w.with(t, nil, simulate))
	want := []packages.Package{
		{Name: "greeting", Version: "1:2.0-3", Arch: "any", Repository: "test", File: "greeting-1:2.0-3-any.pkg.tar.zst", Installed: 1000},
		{Name: "hello", Version: "1.0-1", Arch: "any", Repository: "test", File: "hello-1.0-1-any.pkg.tar.zst", Installed: 1000, Listed: true},
	}
	if diff := cmp.Diff(want, got.Packages, cmpopts.IgnoreFields(packages.Package{}, "Checksum", "Download")); diff != "" {
		t.Error(diff)
	}
	if got.Growth != 2000 || got.Download() < 400 {
		t.Errorf("growth %d, download %d", got.Growth, got.Download())
	}
	w.wantInstalled(t)
	managertest.Must(t, w.bootstrap(t, managertest.Set("greeting")))
	testrepos.MakePacmanRepo(t, w.Repo, testrepos.PacmanRepo{Packages: []testrepos.PacmanPackage{{Name: "greeting", Version: "1:2.1-1"}}})
	w.makeInside(t)
	managertest.Must(t, w.with(t, nil, simulate))
	if len(got.Packages) != 1 || got.Growth != 1000 {
		t.Errorf("packages %v, growth %d", got.Packages, got.Growth)
	}
}

// TestMissing names what is not there, with its place.
func TestMissing(t *testing.T) {
	need(t)
	w := newWorld(t, testrepos.PacmanRepo{Packages: few()})
	wantError(t, w.bootstrap(t, managertest.Set("hello", "helo", "zzzzzzz")), "config.xml:12:5: no repository has the package helo", `did you mean "hello"?`, "config.xml:12:5: no repository has the package zzzzzzz; check its name; the repositories are: dir://"+w.Repo)
	wantError(t, w.bootstrap(t, managertest.Set("needy")), "config.xml:12:5", "the package needy needs nowhere>=2, which no repository has")
	wantError(t, w.bootstrap(t, managertest.Set("--sysupgrade")), "config.xml:12:5", `can't install "--sysupgrade"`)
	wantError(t, w.with(t, []description.Repository{}, func(s packages.Session) error { return s.Bootstrap(t.Context(), managertest.Set("hello")) }), "", "there are no repositories")
	if left := w.Left(t); len(left) > 1 {
		t.Errorf("something was installed: %v", left)
	}
}

// TestSignatures takes what is signed by a key of the description only.
func TestSignatures(t *testing.T) {
	need(t)
	one, two := testrepos.NewKey(t, "one"), testrepos.NewKey(t, "two")
	signed := newWorld(t, testrepos.PacmanRepo{Packages: few(), Key: &one, IndexKey: &one})
	unsigned := newWorld(t, testrepos.PacmanRepo{Packages: few()})
	with := func(w world, key *testrepos.Key, change func(*description.Repository)) description.Repository {
		r := w.plain()
		if key != nil {
			r.SigningKeys = []description.SigningKey{{URI: "file://" + key.Public}}
		}
		if change != nil {
			change(&r)
		}
		return r
	}
	strict := func(r *description.Repository) {
		r.PackageGPGCheck, r.RepoGPGCheck = description.True, description.True
	}
	off := func(r *description.Repository) {
		r.PackageGPGCheck, r.RepoGPGCheck = description.False, description.False
	}
	for _, test := range []struct {
		name  string
		world world
		repo  description.Repository
		err   string
	}{
		{"signed by the key", signed, with(signed, &one, strict), ""},
		{"signed, the description leaves it open", signed, with(signed, &one, nil), ""},
		{"signed by another key", signed, with(signed, &two, strict), "a signature can't be verified"},
		{"packages signed by another key", signed, with(signed, &two, func(r *description.Repository) { r.RepoGPGCheck = description.False }), "a signature can't be verified"},
		{"signed, no key", signed, with(signed, nil, strict), "a signature can't be verified"},
		{"unsigned", unsigned, with(unsigned, &one, nil), "a signature can't be verified"},
		{"unsigned database", unsigned, with(unsigned, &one, strict), "a signature can't be verified"},
		{"unsigned, not checked", unsigned, with(unsigned, &one, off), ""},
		{"unsigned, nothing asked for", unsigned, with(unsigned, nil, nil), ""},
		{"signed by another key, not checked", signed, with(signed, &two, off), ""},
	} {
		test.world.Root = t.TempDir()
		err := test.world.bootstrap(t, managertest.Set("hello"), test.repo)
		if test.err != "" {
			wantError(t, err, "config.xml:7:5", test.err)
			test.world.wantInstalled(t)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", test.name, err, test.world.Log.String())
			continue
		}
		test.world.wantInstalled(t, "greeting-1:2.0-3 (needed)", "hello-1.0-1")
		if strings.Contains(test.world.Log.String(), "keyring not found") {
			t.Errorf("%s: %s", test.name, test.world.Log.String())
		}
	}
	// A package that was changed after it was signed.
	managertest.Must(t, os.WriteFile(filepath.Join(signed.Repo, "greeting-1:2.0-3-any.pkg.tar.zst"), []byte("changed"), 0o644))
	signed.Root = t.TempDir()
	wantError(t, signed.bootstrap(t, managertest.Set("hello"), with(signed, &one, strict)), "config.xml:7:5", "greeting")
	signed.wantInstalled(t)
}

// network is the repository on a server.
func (w world) network(address string) description.Repository {
	r := w.plain()
	r.Source = address
	return r
}

// TestNetwork fetches from a server that asks for a password, goes away, and is not there.
func TestNetwork(t *testing.T) {
	need(t)
	testenv.AsBoth(t, testNetwork, pacmanVariable+"="+os.Getenv(pacmanVariable))
}

func testNetwork(t *testing.T) {
	w := newWorld(t, testrepos.PacmanRepo{Packages: few()})
	server := testrepos.Serve(t, w.Repo, "user", "s3$arch/cr%et")
	r := w.network(server.URL)
	r.Username, r.Password = "user", "s3$arch/cr%et"
	if err := w.bootstrap(t, managertest.Set("hello"), r); err != nil {
		t.Fatalf("%v\n%s", err, w.Log.String())
	}
	w.wantInstalled(t, "greeting-1:2.0-3 (needed)", "hello-1.0-1")
	w.NoSecret(t, "s3$")
	w.NoSecret(t, "s3%24")

	r.Password = "wr0ng"
	w.Root = t.TempDir()
	err := w.bootstrap(t, managertest.Set("hello"), r)
	wantError(t, err, "config.xml:7:5", "it refuses access", "username and password")
	w.NoSecret(t, "wr0ng", err.Error())

	open := testrepos.Serve(t, w.Repo, "", "")
	open.Cut(func(path string) bool { return strings.Contains(path, "greeting") })
	err = w.bootstrap(t, managertest.Set("hello"), w.network(open.URL))
	wantError(t, err, "config.xml:7:5", "it can't be read", "greeting")
	w.wantInstalled(t)
	open.Cut(func(path string) bool { return strings.HasSuffix(path, ".db") })
	wantError(t, w.bootstrap(t, managertest.Set("hello"), w.network(open.URL)), "config.xml:7:5", "it can't be read")
	open.Close()
	wantError(t, w.bootstrap(t, managertest.Set("hello"), w.network(open.URL)), "config.xml:7:5", "it can't be read", "repository http://127.0.0.1")
	w.wantInstalled(t)
}

// TestMirrors reads a list of mirrors, of which the first does not answer.
func TestMirrors(t *testing.T) {
	need(t)
	w := newWorld(t, testrepos.PacmanRepo{Name: "core", Packages: few()[:2]})
	managertest.Must(t, os.MkdirAll(filepath.Join(w.Repo, "x/core/os"), 0o755))
	managertest.Must(t, os.Symlink("../../..", filepath.Join(w.Repo, "x/core/os", testrepos.HostArch())))
	managertest.Must(t, os.MkdirAll(filepath.Join(w.Repo, "x/extra/os", testrepos.HostArch()), 0o755))
	testrepos.MakePacmanRepo(t, filepath.Join(w.Repo, "x/extra/os", testrepos.HostArch()), testrepos.PacmanRepo{Name: "extra", Packages: few()[2:3]})
	server := testrepos.Serve(t, w.Repo, "", "")
	server.Answer("/list", "## mirrors\nServer = http://127.0.0.1:9/$repo/os/$arch\nServer = "+server.URL+"/x/$repo/os/$arch\n")
	r := w.network(server.URL + "/list")
	r.SourceType, r.Components = "mirrorlist", []string{"core", "extra"}
	w.Cache = t.TempDir()
	for range 2 {
		if err := w.bootstrap(t, managertest.Set("hello", "extra"), r); err != nil {
			t.Fatalf("%v\n%s", err, w.Log.String())
		}
		w.wantInstalled(t, "extra-3-1", "greeting-1:2.0-3 (needed)", "hello-1.0-1")
		server.Close()
		w.Root, w.Offline = t.TempDir(), true
	}
}

// TestCache builds again without the network, from what an earlier build has fetched.
func TestCache(t *testing.T) {
	need(t)
	one := testrepos.NewKey(t, "one")
	w := newWorld(t, testrepos.PacmanRepo{Packages: few(), Key: &one, IndexKey: &one})
	w.Cache = t.TempDir()
	server := testrepos.Serve(t, w.Repo, "", "")
	r := w.network(server.URL)
	r.SigningKeys = []description.SigningKey{{URI: "file://" + one.Public}}
	managertest.Must(t, w.bootstrap(t, managertest.Set("hello"), r))
	server.Requests()
	w.Root = t.TempDir()
	managertest.Must(t, w.bootstrap(t, managertest.Set("hello"), r))
	if server.Fetched(".zst") {
		t.Errorf("packages were fetched again: %v", server.Requests())
	}
	server.Close()
	w.Offline = true
	w.Root = t.TempDir()
	if err := w.bootstrap(t, managertest.Set("hello"), r); err != nil {
		t.Fatalf("%v\n%s", err, w.Log.String())
	}
	w.wantInstalled(t, "greeting-1:2.0-3 (needed)", "hello-1.0-1")
	wantError(t, w.bootstrap(t, managertest.Set("extra"), r), "", "--offline", "the package cache lacks extra-3-1")
	if err := w.bootstrap(t, managertest.Set("extra"), w.plain()); err != nil {
		t.Errorf("a directory of this machine without the network: %v", err)
	}
	// A damaged file of the cache is not taken.
	files, err := filepath.Glob(filepath.Join(w.Cache, "pacman/packages/*"))
	managertest.Must(t, err)
	for _, file := range files {
		managertest.Must(t, os.Remove(file))
		managertest.Must(t, os.WriteFile(file, []byte("damaged"), 0o644))
	}
	w.Root = t.TempDir()
	wantError(t, w.bootstrap(t, managertest.Set("hello"), r), "", "the package cache lacks greeting-1:2.0-3.any, hello-1.0-1.any")
	w.Cache = t.TempDir()
	wantError(t, w.bootstrap(t, managertest.Set("hello"), r), "config.xml:7:5", "not in the package cache", "--offline")
}

// TestLocked installs exactly what the lock has, or nothing.
func TestLocked(t *testing.T) {
	need(t)
	w := newWorld(t, testrepos.PacmanRepo{Packages: few()})
	managertest.Must(t, w.with(t, nil, func(s packages.Session) error {
		err := s.Bootstrap(t.Context(), managertest.Set("hello"))
		w.Locked = s.Installed()
		return err
	}))
	w.Root = t.TempDir()
	managertest.Must(t, w.bootstrap(t, managertest.Set("hello")))
	wantError(t, w.bootstrap(t, managertest.Set("extra")), "", "extra-3-1."+testrepos.HostArch()+" is not in the lock file")
	w.Root = t.TempDir()
	time.Sleep(10 * time.Millisecond)
	changed := few()[1]
	changed.Version = "1:2.1-1"
	testrepos.MakePacmanRepo(t, w.Repo, testrepos.PacmanRepo{Packages: []testrepos.PacmanPackage{changed}})
	wantError(t, w.bootstrap(t, managertest.Set("hello")), "", "greeting-1:2.1-1.any has another version than the lock file's 1:2.0-3")
	changed.Version = "1:2.0-3"
	changed.Files = []testrepos.File{{Path: "/opt/other", Content: "other"}}
	testrepos.MakePacmanRepo(t, w.Repo, testrepos.PacmanRepo{Packages: []testrepos.PacmanPackage{changed}})
	wantError(t, w.bootstrap(t, managertest.Set("hello")), "", "greeting-1:2.0-3.any has the checksum")
	w.wantInstalled(t)
}

// TestCustomize lets a script change the section.
func TestCustomize(t *testing.T) {
	need(t)
	w := newWorld(t, testrepos.PacmanRepo{Packages: few()})
	managertest.Must(t, os.WriteFile(filepath.Join(w.Repo, "custom.sh"), []byte("echo \"$1\" >&2\nsed -i s/Never/Required/ \"$1\"\n"), 0o644))
	r := w.plain()
	r.Customize = "custom.sh"
	wantError(t, w.bootstrap(t, managertest.Set("hello"), r), "config.xml:7:5", "can't be")
	managertest.Must(t, os.WriteFile(filepath.Join(w.Repo, "custom.sh"), []byte("exit 3\n"), 0o644))
	wantError(t, w.bootstrap(t, managertest.Set("hello"), r), "config.xml:7:5", "custom.sh", "exit code 3")
	r.Customize = "absent.sh"
	wantError(t, w.bootstrap(t, managertest.Set("hello"), r), "config.xml:7:5", "absent.sh")
}

// TestNoSpace fills the disk.
func TestNoSpace(t *testing.T) {
	need(t)
	testenv.NeedRealRoot(t) // for the small disk
	w := newWorld(t, testrepos.PacmanRepo{Packages: []testrepos.PacmanPackage{{Name: "big", Files: []testrepos.File{{Path: "/opt/big", Content: strings.Repeat("big", 1<<20)}}}}})
	managertest.Must(t, unix.Mount("tmpfs", w.Root, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { managertest.Must(t, unix.Unmount(w.Root, unix.MNT_DETACH)) })
	wantError(t, w.bootstrap(t, managertest.Set("big")), "", "no space left", "/opt/big")
}

// TestCancel ends pacman at once.
func TestCancel(t *testing.T) {
	need(t)
	w := newWorld(t, testrepos.PacmanRepo{Packages: append(testrepos.PacmanDistribution(t), testrepos.PacmanPackage{Name: "slow", Depends: []string{"base"}, Install: "post_install() {\n  sleep 100\n}\n"})})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	started := time.Now()
	err := w.with(t, nil, func(s packages.Session) error {
		go func() {
			for ctx.Err() == nil {
				if _, err := os.Stat(filepath.Join(w.Root, databaseDir, "local/slow-1-1")); err == nil || time.Since(started) > time.Minute {
					cancel(stop)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		return s.Bootstrap(ctx, managertest.Set("slow"))
	})
	if !errors.Is(err, stop) || time.Since(started) > time.Minute {
		t.Errorf("after %s: %v", time.Since(started), err)
	}
}
