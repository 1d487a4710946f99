package zypper

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
)

func TestBootstrap(t *testing.T) {
	testenv.AsBoth(t, testBootstrap, zypperVariable+"="+os.Getenv(zypperVariable))
}

func testBootstrap(t *testing.T) {
	needZypper(t)
	repo := t.TempDir()
	key := testrepos.NewKey(t, "one")
	distribution := append(testrepos.Distribution(t, "opensuse-leap"),
		testrepos.RPM{Name: "script", Requires: []string{"base"}, Post: "id > /etc/ran; grep ^ID= /etc/os-release >> /etc/ran"})
	testrepos.MakeRPMRepo(t, repo, testrepos.RPMRepo{Packages: distribution, Key: &key, IndexKey: &key})
	w := newWorld(t, repo)
	w.Image.RPM.CheckSignatures = true
	s, err := w.Open(t, description.Repository{Origin: managertest.Origin(7), Source: "dir://" + repo, SigningKeys: []description.SigningKey{{URI: "file://" + key.Public}}})
	managertest.Must(t, err)
	plan, err := s.Simulate(t.Context(), managertest.Set("script"))
	managertest.Must(t, err)
	if entries, err := os.ReadDir(w.Root); err != nil || len(entries) > 5 {
		t.Errorf("simulating has written %v, %v", entries, err)
	}
	if err := s.Bootstrap(t.Context(), managertest.Set("script")); err != nil {
		t.Fatalf("%v\n%s", err, w.Log.String())
	}
	got := s.Installed()
	managertest.Must(t, s.Close())
	w.wantInstalled(t, "base-1-1", "busybox-1.35-1", "filesystem-1-1", "release-15.6-1", "script-1-1")
	if ran := w.Read(t, "etc/ran"); !strings.HasPrefix(ran, "uid=0") || !strings.HasSuffix(ran, "ID=opensuse-leap\n") {
		t.Errorf("the script says %q", ran)
	}
	w.nothingLeft(t)
	if info, err := os.Stat(filepath.Join(w.Root, "usr/lib/sysimage/rpm")); err != nil || !info.IsDir() {
		t.Errorf("the database is not where SUSE has it: %v", err)
	}
	if len(plan.Packages) != 5 || plan.Growth < 500e3 || plan.Download() < 300e3 {
		t.Fatalf("simulated: %+v", plan)
	}
	for i, p := range got {
		sum, err := packages.Sum(filepath.Join(repo, p.File))
		managertest.Must(t, err)
		if p.Checksum != sum || p.Name != plan.Packages[i].Name || p.Listed != (p.Name == "script") || p.Installed != plan.Packages[i].Installed || p.Download != plan.Packages[i].Download {
			t.Errorf("installed %+v, planned %+v, %s", p, plan.Packages[i], sum)
		}
	}
}

func TestInstall(t *testing.T) {
	needZypper(t)
	w := newWorld(t, sharedRepo(t))
	w.Image.RPM = description.RPMSettings{LocaleFiltering: true, ExcludeDocs: true}
	w.Image.Locales = []string{"en_US"}
	managertest.Must(t, w.Bootstrap(t, managertest.Set("hello")))
	w.wantInstalled(t, "greeting-1:2.0-1", "hello-1.0-1")
	if _, err := os.Stat(filepath.Join(w.Root, "usr/share/doc/greeting")); err == nil {
		t.Error("documentation was installed")
	}
	if _, err := os.Stat(filepath.Join(w.Root, "opt/de")); err == nil {
		t.Error("a file of another language was installed")
	}
	w.nothingLeft(t)
	managertest.Must(t, w.With(t, func(s packages.Session) error {
		plan, err := s.Simulate(t.Context(), managertest.Set("hello", "extra"))
		if len(plan.Packages) != 1 || plan.Packages[0].Name != "extra" {
			t.Errorf("simulated on what is there: %+v", plan)
		}
		return err
	}))
}

func TestRecommended(t *testing.T) {
	needZypper(t)
	w := newWorld(t, sharedRepo(t))
	what := managertest.Set("hello")
	what.PlusRecommended = true
	managertest.Must(t, w.With(t, func(s packages.Session) error { return s.Install(t.Context(), what) }))
	w.wantInstalled(t, "extra-3-1", "greeting-1:2.0-1", "hello-1.0-1")
	if w.Read(t, "opt/de") != "de" || w.Read(t, "usr/share/doc/greeting") != "doc" {
		t.Error("files are missing")
	}
}

func TestPatternProductAndIgnored(t *testing.T) {
	needZypper(t)
	w := newWorld(t, sharedRepo(t))
	what := description.PackageSet{Collections: managertest.Packages(20, "basis"), Products: managertest.Packages(21, "Thing")}
	managertest.Must(t, w.Bootstrap(t, what))
	w.wantInstalled(t, "Thing-release-15-1", "extra-3-1", "greeting-1:2.0-1", "patterns-test-basis-15-1", "user-1-1")
	if !strings.Contains(w.Read(t, "etc/products.d/Thing.prod"), "<name>Thing</name>") {
		t.Error("the product has no file")
	}
	other := newWorld(t, w.Repo)
	what = managertest.Set("hello")
	what.PlusRecommended = true
	what.Ignore = managertest.Packages(13, "extra")
	managertest.Must(t, other.Bootstrap(t, what))
	other.wantInstalled(t, "greeting-1:2.0-1", "hello-1.0-1")
	what = managertest.Set("user")
	what.Ignore = managertest.Packages(13, "extra")
	managertest.WantError(t, other.Bootstrap(t, what), "don't fit together", "extra")
}

func TestRemoval(t *testing.T) {
	needZypper(t)
	w := newWorld(t, sharedRepo(t))
	managertest.Must(t, w.Bootstrap(t, managertest.Set("hello", "user", "guard")))
	w.wantInstalled(t, "extra-3-1", "greeting-1:2.0-1", "guard-1-1", "hello-1.0-1", "user-1-1")
	managertest.Must(t, w.With(t, func(s packages.Session) error {
		return s.Uninstall(t.Context(), managertest.Packages(30, "greeting", "never-there"))
	}))
	w.wantInstalled(t, "extra-3-1", "guard-1-1", "user-1-1") // with what depends on it
	if !strings.Contains(w.Log.String(), "never-there") {
		t.Error("nothing was said of a package that is not there")
	}
	managertest.Must(t, w.With(t, func(s packages.Session) error { return s.Uninstall(t.Context(), managertest.Packages(30, "user")) }))
	w.wantInstalled(t, "guard-1-1") // and what was only there for it
	managertest.Must(t, w.Bootstrap(t, managertest.Set("user")))
	managertest.Must(t, w.With(t, func(s packages.Session) error {
		return s.Delete(t.Context(), managertest.Packages(31, "extra", "guard", "never-there"))
	}))
	w.wantInstalled(t, "user-1-1")
	w.nothingLeft(t)
}

func TestUpdate(t *testing.T) {
	needZypper(t)
	repo := t.TempDir()
	testrepos.MakeRPMRepo(t, repo, testrepos.RPMRepo{Packages: []testrepos.RPM{{Name: "thing", Version: "1"}, {Name: "still", Version: "1"}}})
	w := newWorld(t, repo)
	w.Cache = t.TempDir()
	managertest.Must(t, w.Bootstrap(t, managertest.Set("thing", "still")))
	testrepos.MakeRPMRepo(t, repo, testrepos.RPMRepo{Packages: []testrepos.RPM{{Name: "thing", Version: "2", Requires: []string{"more"}}, {Name: "more"}}})
	var got []packages.Package
	managertest.Must(t, w.With(t, func(s packages.Session) error {
		defer func() { got = s.Installed() }()
		return s.Update(t.Context())
	}))
	w.wantInstalled(t, "more-1-1", "still-1-1", "thing-2-1")
	if len(got) != 2 || got[0].Name != "more" || got[1].Version != "2-1" || !strings.HasPrefix(got[1].Checksum, "sha256:") {
		t.Errorf("%+v", got)
	}
}

func TestMissingPackages(t *testing.T) {
	needZypper(t)
	w := newWorld(t, sharedRepo(t))
	what := managertest.Set("helo", "greeting", "unheard-of")
	what.Collections, what.Products = managertest.Packages(20, "nopattern"), managertest.Packages(21, "noproduct")
	err := w.Bootstrap(t, what)
	managertest.WantError(t, err, "config.xml:12:5: no repository has the package helo", `did you mean "hello"`, "no repository has the package unheard-of", "the repositories are: dir://"+w.Repo,
		"config.xml:20:5: no repository has the pattern nopattern", "config.xml:21:5: no repository has the product noproduct")
	managertest.WantError(t, w.Bootstrap(t, managertest.Set("needy")), "don't fit together", "nothing provides", "nowhere", "needy-1-1.noarch")
	w.wantInstalled(t)
}

// TestInside works with the zypper of the root tree, which borrows this machine's.
func TestInside(t *testing.T) {
	needZypper(t)
	w := borrowing(t)
	managertest.Must(t, os.WriteFile(filepath.Join(w.Root, "etc/zypp/zypp.conf"), []byte("[main]\n## a comment = x\nmultiversion = provides:multiversion(kernel)\nrpm.install.excludedocs = no\n"), 0o644))
	managertest.Must(t, os.WriteFile(filepath.Join(w.Root, "etc/zypp/repos.d/own.repo"), []byte("[own]\nbaseurl=http://image.invalid/\nenabled=1\n"), 0o644))
	what := managertest.Set("extra", "guard")
	what.Collections = managertest.Packages(20, "basis")
	var plan packages.Transaction
	managertest.Must(t, w.With(t, func(s packages.Session) (err error) {
		if plan, err = s.Simulate(t.Context(), what); err != nil {
			return err
		}
		w.wantInstalled(t)
		return s.Install(t.Context(), what)
	}))
	w.wantInstalled(t, "extra-3-1", "guard-1-1", "patterns-test-basis-15-1", "user-1-1")
	if len(plan.Packages) != 4 || plan.Packages[0].Download <= 0 || !plan.Packages[0].Listed {
		t.Errorf("%+v", plan)
	}
	managertest.Must(t, w.With(t, func(s packages.Session) error { return s.Delete(t.Context(), managertest.Packages(20, "extra")) }))
	managertest.Must(t, w.With(t, func(s packages.Session) error { return s.Uninstall(t.Context(), managertest.Packages(20, "user")) }))
	w.wantInstalled(t, "guard-1-1")
	for _, command := range w.Commands {
		if !strings.HasPrefix(command, "inside: ") {
			t.Errorf("it ran outside: %s", command)
		}
	}
}

// TestOwnRepositories installs from the repositories that the root tree is set up with.
func TestOwnRepositories(t *testing.T) {
	needZypper(t)
	w := borrowing(t)
	w.Own = true
	managertest.WantError(t, w.Bootstrap(t, managertest.Set("extra")), "the description has no repository")
	testenv.Run(t, "cp", "-r", w.Repo, filepath.Join(w.Root, "repo"))
	managertest.Must(t, os.WriteFile(filepath.Join(w.Root, "etc/zypp/repos.d/own.repo"), []byte("[own]\nname=own\nbaseurl=file:///repo\nenabled=1\ngpgcheck=0\n"), 0o644))
	var got []packages.Package
	managertest.Must(t, w.With(t, func(s packages.Session) error {
		err := s.Install(t.Context(), managertest.Set("extra"))
		got = s.Installed()
		return err
	}))
	w.wantInstalled(t, "extra-3-1")
	if len(got) != 1 || got[0].Repository != "own" || !strings.HasPrefix(got[0].Checksum, "sha256:") {
		t.Errorf("%+v", got)
	}
	managertest.WantError(t, w.With(t, func(s packages.Session) error { return s.Install(t.Context(), managertest.Set("extar")) }), "no repository has the package extar", `did you mean "extra"`)
}

// TestScripts installs packages whose scripts fail.
func TestScripts(t *testing.T) {
	needZypper(t)
	repo := t.TempDir()
	testrepos.MakeRPMRepo(t, repo, testrepos.RPMRepo{Packages: append(testrepos.Distribution(t, "opensuse-leap"),
		testrepos.RPM{Name: "after", Requires: []string{"base"}, Post: "echo it went wrong >&2; exit 3"}, testrepos.RPM{Name: "before", Requires: []string{"base"}, Pre: "exit 4"},
		testrepos.RPM{Name: "network", Requires: []string{"base"}, Post: "cat /proc/net/dev > /etc/ran; sleep 0"})})
	w := newWorld(t, repo)
	managertest.Must(t, w.Bootstrap(t, managertest.Set("after", "network")))
	if !strings.Contains(w.Log.String(), "level=WARN") || !strings.Contains(w.Log.String(), "it went wrong") {
		t.Errorf("nothing was said of the script that failed")
	}
	if devices := w.Read(t, "etc/ran"); strings.Contains(devices, "eth") || !strings.Contains(devices, "lo:") {
		t.Errorf("scripts have a network: %s", devices)
	}
	managertest.WantError(t, w.Bootstrap(t, managertest.Set("before")), "a package does not install", "before")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := w.With(t, func(s packages.Session) error { return s.Install(ctx, managertest.Set("base")) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// TestAnotherArchitecture installs packages of another architecture from outside.
func TestAnotherArchitecture(t *testing.T) {
	needZypper(t)
	repo := t.TempDir()
	file := []testrepos.File{{Path: "/opt/file", Content: "x"}}
	testrepos.MakeRPMRepo(t, repo, testrepos.RPMRepo{Packages: []testrepos.RPM{{Name: "foreign", Arch: "riscv64", Files: file}, {Name: "native", Arch: testrepos.HostArch(), Files: file}, {Name: "any"}}})
	w := newWorld(t, repo)
	w.Image.Arch = "riscv64"
	managertest.Must(t, w.Bootstrap(t, managertest.Set("foreign", "any")))
	w.wantInstalled(t, "any-1-1", "foreign-1-1")
	managertest.WantError(t, w.Bootstrap(t, managertest.Set("native")), "native")
}
