package pacman

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	var err error
	if builder, err = managertest.BuilderOf(pacmanVariable); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := builder.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// pacmanVariable names a tar file with a root tree that has pacman and gpg, in the place of this machine's: such as one of a newer Debian.
const pacmanVariable = "IMGBUILD_TEST_PACMAN_TAR"

// builder lends the programs; nil is this machine.
var builder *managertest.Builder

func need(t *testing.T) {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedPrograms(t, "pacman", "repo-add", "bsdtar", "gpg")
}

// world is a root tree, a repository, and what sessions on them need.
type world struct{ *managertest.World }

// few are packages with all kinds of relations.
func few() []testrepos.PacmanPackage {
	file := func(name string) []testrepos.File {
		return []testrepos.File{{Path: "/opt/" + name, Content: name}}
	}
	return []testrepos.PacmanPackage{
		{Name: "hello", Version: "1.0-1", Depends: []string{"greeting>=1:2"}, Groups: []string{"nice"}, Files: file("hello")},
		{Name: "greeting", Version: "1:2.0-3", Files: file("greeting")},
		{Name: "extra", Version: "3-1", Arch: testrepos.HostArch(), Groups: []string{"nice"}, Files: file("extra")},
		{Name: "needy", Depends: []string{"nowhere>=2"}, Files: file("needy")},
	}
}

// newWorld makes an empty tree and a repository with packages.
func newWorld(t *testing.T, repo testrepos.PacmanRepo) world {
	t.Helper()
	dir := t.TempDir()
	testrepos.MakePacmanRepo(t, dir, repo)
	w := managertest.New(t, "pacman", dir, Open)
	w.Builder = builder
	return world{w}
}

// plain is the repository as a directory.
func (w world) plain() description.Repository {
	r := w.Plain()
	r.Alias = "test"
	return r
}

// with does something in a session of its own, with the plain repository if none is given.
func (w world) with(t *testing.T, repos []description.Repository, do func(s packages.Session) error) error {
	t.Helper()
	if repos == nil {
		repos = []description.Repository{w.plain()}
	}
	w.Own = len(repos) == 0
	return w.With(t, do, repos...)
}

// bootstrap installs packages from outside, in a session of its own.
func (w world) bootstrap(t *testing.T, what description.PackageSet, repos ...description.Repository) error {
	t.Helper()
	return w.with(t, repos, func(s packages.Session) error { return s.Bootstrap(t.Context(), what) })
}

// wantInstalled compares what the tree's database has, with the reasons why it was installed.
func (w world) wantInstalled(t *testing.T, want ...string) {
	t.Helper()
	entries, err := filepath.Glob(filepath.Join(w.Root, databaseDir, "local", "*", "desc"))
	managertest.Must(t, err)
	var got []string
	for _, entry := range entries {
		data, err := os.ReadFile(entry)
		managertest.Must(t, err)
		name := filepath.Base(filepath.Dir(entry))
		if strings.Contains(string(data), "%REASON%\n1\n") {
			name += " (needed)"
		}
		got = append(got, name)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("installed (-want +got): %s", diff)
	}
}
