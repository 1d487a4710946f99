package dnf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// bootstrap installs packages from outside, in a session of its own.
func bootstrap(t *testing.T, names ...string) func(packages.Session) error {
	t.Helper()
	return func(s packages.Session) error { return s.Bootstrap(t.Context(), managertest.Set(names...)) }
}

// TestOwnRepositories installs from what the tree's /etc/yum.repos.d says, which asks for fresh lists each time.
func TestOwnRepositories(t *testing.T) { each(t, bench.testOwnRepositories) }

func (b bench) testOwnRepositories(t *testing.T) {
	w := b.fewWorld(t)
	server := testrepos.Serve(t, w.Repo, "", "")
	w.Own = true
	w.Furnish(t, b.program, "rpm")
	b.ownState(t, w)
	for name, text := range map[string]string{
		"etc/yum.repos.d/own.repo": "[own]\nname=own\nbaseurl=" + server.URL + "/$thing\nmetadata_expire=0\n",
		"etc/dnf/vars/thing":       "\n",
		"etc/dnf/dnf.conf":         "[main]\nexclude=hello\n", // does not count
	} {
		managertest.Must(t, os.MkdirAll(filepath.Join(w.Root, filepath.Dir(name)), 0o755))
		managertest.Must(t, os.WriteFile(filepath.Join(w.Root, name), []byte(text), 0o644))
	}
	w.Show = nil
	s, err := w.Open(t)
	managertest.Must(t, err)
	defer func() { managertest.Must(t, s.Close()) }()
	managertest.WantError(t, s.Bootstrap(t.Context(), managertest.Set("extra")), "the description has no repository")
	managertest.Must(t, s.Install(t.Context(), managertest.Set("extra")))
	managertest.WantError(t, s.Install(t.Context(), managertest.Set("extr")), "no repository has the package extr", "extra")
	w.wantInstalled(t, "extra-3")
	if got := s.Installed(); len(got) != 1 || got[0].Repository != "own" || got[0].Checksum == "" {
		t.Errorf("%+v", got)
	}
}

// TestSameBytes makes two trees.
func TestSameBytes(t *testing.T) { each(t, bench.testSameBytes) }

func (b bench) testSameBytes(t *testing.T) {
	w := b.fewWorld(t)
	w.Env = []string{"SOURCE_DATE_EPOCH=1700000000"}
	var trees []*layers.Tree
	for range 2 {
		one := newWorldLike(t, w)
		managertest.Must(t, one.With(t, bootstrap(t, "hello")))
		managertest.Must(t, one.With(t, bootstrap(t, "extra")))
		managertest.Must(t, one.With(t, func(s packages.Session) error { return s.Uninstall(t.Context(), managertest.Packages(20, "extra")) }))
		tree, err := one.Tree(t.Context())
		managertest.Must(t, err)
		edit := tree.Edit(layers.Timespec{})
		for _, name := range []string{"var/lib/rpm/rpmdb.sqlite-shm", "var/lib/rpm/.rpm.lock", "var/lib/dnf/history.sqlite-shm"} {
			managertest.Must(t, edit.Remove(name)) // taken away at the end of each build
		}
		trees = append(trees, layers.Clamp(edit.Tree(), layers.Timespec{Sec: 1700000000}))
	}
	differences, err := layers.Diff(t.Context(), trees[0], trees[1])
	managertest.Must(t, err)
	for _, d := range differences {
		t.Errorf("/%s differs: %v %q", d.Path, d.Kind, d.What)
	}
}

// TestForeignArchitecture installs packages without scripts for another machine.
func TestForeignArchitecture(t *testing.T) { each(t, bench.testForeignArchitecture) }

func (b bench) testForeignArchitecture(t *testing.T) {
	arch := map[string]string{"x86_64": "aarch64", "aarch64": "x86_64"}[testrepos.HostArch()]
	w := b.newWorld(t, testrepos.RPMRepo{Packages: []testrepos.RPM{
		{Name: "tool", Arch: arch, Requires: []string{"data"}, Files: []testrepos.File{{Path: "/opt/tool", Content: "x"}}}, {Name: "data"}, {Name: "native", Arch: testrepos.HostArch()},
	}})
	w.Image.Arch = arch
	managertest.Must(t, w.With(t, bootstrap(t, "tool")))
	w.wantInstalled(t, "data-1", "tool-1")
	managertest.WantError(t, newWorldLike(t, w).With(t, bootstrap(t, "native")), "native-1-1."+testrepos.HostArch(), "does not have a compatible architecture")
}

// TestInThePlaceOf asks for flavors that this machine lacks.
func TestInThePlaceOf(t *testing.T) { each(t, bench.testInThePlaceOf) }

func (b bench) testInThePlaceOf(t *testing.T) {
	if b.manager != "dnf4" {
		return
	}
	for _, name := range []string{"dnf5", "microdnf"} {
		if _, err := os.Stat("/usr/bin/" + name); err == nil {
			t.Skipf("this machine has %s", name)
		}
		w := b.fewWorld(t)
		w.Image.PackageManager = name
		managertest.Must(t, w.With(t, bootstrap(t, "extra")))
		w.wantInstalled(t, "extra-3")
		if want := fmt.Sprintf(`"package manager"=%s program=dnf-3`, name); !strings.Contains(w.Log.String(), want) {
			t.Errorf("the log does not say %s", want)
		}
	}
}

func TestBadNames(t *testing.T) {
	w := bench{manager: "dnf4"}.emptyWorld(t, t.TempDir())
	s := &Session{Work: &packages.Work{Options: packages.Options{Image: &w.Image}}}
	bad := managertest.Packages(12, "good", "--nogpgcheck")
	_, err := s.specs(tool{}, description.PackageSet{Packages: bad})
	managertest.WantError(t, err, "config.xml:12:5", "--nogpgcheck")
	got, err := s.specs(tool{flavor: family("dnf4")[0]}, description.PackageSet{Packages: bad[:1], Collections: managertest.Packages(13, "one", "@^two")})
	if diff := cmp.Diff([]string{"good", "@one", "@^two"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// TestUnreadableDatabase goes outside to a tree whose database this machine's rpm does not know.
func TestUnreadableDatabase(t *testing.T) { each(t, bench.testUnreadableDatabase) }

func (b bench) testUnreadableDatabase(t *testing.T) {
	w := b.fewWorld(t)
	dir := filepath.Join(w.Root, "var/lib/rpm")
	managertest.Must(t, os.MkdirAll(dir, 0o755))
	managertest.Must(t, os.WriteFile(filepath.Join(dir, "Packages.db"), []byte("no database"), 0o644))
	for _, err := range []error{
		w.With(t, bootstrap(t, "extra")),
		w.With(t, func(s packages.Session) error { return s.Delete(t.Context(), managertest.Packages(20, "extra")) }),
	} {
		managertest.WantError(t, err, "package database", "Packages.db")
	}
}

// TestMissingPrograms runs where nothing is installed.
func TestMissingPrograms(t *testing.T) {
	w := bench{manager: "dnf4"}.emptyWorld(t, t.TempDir())
	managertest.Must(t, os.WriteFile(filepath.Join(w.Repo, "a.rpm"), []byte("x"), 0o644))
	nothing := func(_ context.Context, spec sandbox.Spec) error { return &command.MissingError{Program: spec.Args[0]} }
	plain := repositories.Repository{
		Alias: "plain", Local: w.Repo, URI: "file:///run/x", Description: description.Repository{Origin: managertest.Origin(7), Source: "dir://" + w.Repo, Type: "rpm-dir"},
	}
	opened, err := Open(t.Context(), packages.Options{
		Image: &w.Image, Outside: nothing, Tree: w.Tree, Workdir: w.Work, Log: slog.New(slog.DiscardHandler), Repositories: &repositories.Set{List: []repositories.Repository{plain}},
	})
	managertest.Must(t, err)
	defer func() { managertest.Must(t, opened.Close()) }()
	var missing *command.MissingError
	if err := opened.Bootstrap(t.Context(), managertest.Set("a")); !errors.As(err, &missing) || missing.Program != "dnf" {
		t.Errorf("without dnf: %v", err)
	}
	s, ok := opened.(*Session)
	if !ok {
		t.Fatalf("%T", opened)
	}
	_, err = s.index(t.Context(), plain)
	managertest.WantError(t, err, "config.xml:7:5", "createrepo_c")
}
