package zypper

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
	"github.com/imgbuild/imgbuild/rootfs/rpm"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	var err error
	if shared.builder, err = managertest.BuilderOf(zypperVariable); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := errors.Join(os.RemoveAll(shared.dir), shared.builder.Close()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// zypperVariable names a tar file with a root tree that has zypper, rpm and createrepo_c, in the place of this machine's: such as one of a newer Debian.
const zypperVariable = "IMGBUILD_TEST_ZYPPER_TAR"

func needZypper(t *testing.T) {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedPrograms(t, "zypper", "rpm", "rpmbuild", "createrepo_c")
}

// shared is the repository of many tests: making one takes a moment. Tests don't change it.
var shared struct {
	sync.Mutex
	dir     string
	builder *managertest.Builder // nil is this machine
}

func sharedRepo(t *testing.T) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.dir == "" {
		dir, err := os.MkdirTemp("", "repository-")
		managertest.Must(t, err)
		testrepos.MakeRPMRepo(t, dir, testrepos.RPMRepo{Packages: few()})
		shared.dir = dir
	}
	return shared.dir
}

// few are packages with all kinds of relations.
func few() []testrepos.RPM {
	file := func(name string) []testrepos.File { return []testrepos.File{{Path: "/opt/" + name, Content: name}} }
	return []testrepos.RPM{
		{Name: "hello", Version: "1.0", Requires: []string{"greeting >= 1"}, Recommends: []string{"extra"}, Files: file("hello")},
		{Name: "greeting", Epoch: "1", Version: "2.0", Files: append(file("greeting"), testrepos.File{Path: "/usr/share/doc/greeting", Content: "doc", Attr: "%doc"}, testrepos.File{Path: "/opt/de", Content: "de", Attr: "%lang(de)"})},
		{Name: "extra", Version: "3", Files: file("extra")},
		{Name: "needy", Requires: []string{"nowhere"}, Files: file("needy")},
		{Name: "guard", Provides: []string{"/bin/sh"}, Preun: "exit 1"},
		{Name: "user", Requires: []string{"extra"}, Files: file("user")},
		testrepos.Pattern("basis", []string{"user"}, []string{"hello"}),
		testrepos.Product("Thing", []string{"greeting"}),
	}
}

// world is a root tree, a repository, and what sessions on them need.
type world struct{ *managertest.World }

func newWorld(t *testing.T, repo string) world {
	t.Helper()
	w := managertest.New(t, "zypper", repo, Open)
	w.Builder = shared.builder
	w.Files = files.Source{FS: fstest.MapFS{"edit.sh": {Data: []byte("sed -i s/enabled=1/enabled=0/ \"$1\"\n")}}}
	return world{w}
}

// borrowing makes a tree that works with this machine's programs.
func borrowing(t *testing.T) world {
	t.Helper()
	w := newWorld(t, sharedRepo(t))
	w.Furnish(t, "zypper", "rpm")
	w.Show = []string{"/usr/libexec"}
	for _, dir := range []string{"var/lib/rpm", "etc/zypp/repos.d", "usr/libexec"} {
		managertest.Must(t, os.MkdirAll(w.Root+"/"+dir, 0o755))
	}
	w.Image.RPM.ExcludeDocs = true // the tree has no place for it
	return w
}

// wantInstalled compares what the tree's database has.
func (w world) wantInstalled(t *testing.T, want ...string) {
	t.Helper()
	tree, err := w.Tree(t.Context())
	managertest.Must(t, err)
	list, err := rpm.Installed(tree)
	managertest.Must(t, err)
	var names []string
	for _, p := range list {
		if !p.IsKey() {
			names = append(names, p.Name+"-"+p.EVR())
		}
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

// nothingLeft checks that zypper left nothing but what it leaves on a running machine.
func (w world) nothingLeft(t *testing.T) {
	t.Helper()
	known := []string{"bin", "sbin", "lib", "lib64", "etc/os-release", "etc/ran", "var/lib/rpm", "var/lib/zypp/AutoInstalled", "etc/products.d/Thing.prod"}
	for _, name := range w.Left(t, "opt", "usr") {
		if !slices.Contains(known, name) {
			t.Errorf("%s was left", name)
		}
	}
}
