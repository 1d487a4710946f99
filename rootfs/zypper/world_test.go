package zypper

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/rpm"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/rootfs/toolbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	code := m.Run()
	if err := os.RemoveAll(shared.dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func needZypper(t *testing.T) {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedPrograms(t, "zypper", "rpm", "rpmbuild", "createrepo_c")
}

// asBoth runs a test as root and again as an ordinary user.
func asBoth(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	needZypper(t)
	test(t)
	if testenv.InUserNamespace() || t.Failed() {
		return
	}
	t.Run("ordinary user", func(t *testing.T) {
		testenv.OrdinaryUser(t).RunAgain(t, strings.TrimSuffix(t.Name(), "/ordinary_user"))
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shared is the repository of many tests: making one takes a moment. Tests don't change it.
var shared struct {
	sync.Mutex
	dir string
}

func sharedRepo(t *testing.T) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.dir == "" {
		dir, err := os.MkdirTemp("", "repository-")
		must(t, err)
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
type world struct {
	root, repo, work, cache string
	image                   description.Image
	log                     *bytes.Buffer
	mu                      sync.Mutex
	commands                []string // command lines of everything that ran, and what /proc showed of it
	offline                 bool
	locked                  []packages.Package
	borrow                  bool // the tree has the programs of this machine
	own                     bool // the description has no repository
}

// borrowing makes a tree that works with this machine's programs.
func borrowing(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, sharedRepo(t))
	w.borrow = true
	for _, dir := range []string{"usr/bin", "usr/lib", "usr/lib64", "usr/share", "var/lib/rpm", "etc/zypp/repos.d"} {
		must(t, os.MkdirAll(filepath.Join(w.root, dir), 0o755))
	}
	for _, link := range []string{"bin", "lib", "lib64"} {
		must(t, os.Symlink("usr/"+link, filepath.Join(w.root, link)))
	}
	w.image.RPM.ExcludeDocs = true // the tree has no place for it
	return w
}

func newWorld(t *testing.T, repo string) *world {
	t.Helper()
	w := &world{root: t.TempDir(), repo: repo, work: t.TempDir(), log: &bytes.Buffer{}, image: description.Image{Name: "test", Arch: testrepos.HostArch(), PackageManager: "zypper"}}
	must(t, os.Chmod(w.root, 0o755))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log:\n%s", w.log)
		}
	})
	return w
}

// open starts a session with the repositories, or with the plain one.
func (w *world) open(t *testing.T, repos ...description.Repository) (packages.Session, error) {
	t.Helper()
	if len(repos) == 0 && !w.own {
		repos = []description.Repository{{Origin: origin(7), Source: "dir://" + w.repo}}
	}
	image := w.image
	image.Repositories = repos
	source := files.Source{FS: fstest.MapFS{"edit.sh": {Data: []byte("sed -i s/enabled=1/enabled=0/ \"$1\"\n")}}}
	set, err := repositories.Open(t.Context(), repositories.Options{Image: &image, Files: source, Workdir: w.work, Cache: w.cache, Offline: w.offline})
	if err != nil {
		return nil, err
	}
	box := toolbox.Open(toolbox.Options{Workdir: w.work})
	t.Cleanup(func() { must(t, box.Close()) })
	return Open(t.Context(), packages.Options{
		Image: &image, Repositories: set, Files: source, Workdir: w.work, Cache: w.cache, Offline: w.offline, Locked: w.locked, Arch: image.Arch, Progress: progress.Discard,
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Tree: w.tree,
		Inside: func(ctx context.Context, spec sandbox.Spec) error {
			w.noteCommand("inside: ", spec)
			spec.Root = w.root
			for _, dir := range []string{"/usr/bin", "/usr/lib", "/usr/lib64", "/usr/share"} {
				if info, err := os.Stat(dir); err == nil && info.IsDir() {
					spec.Binds = append(spec.Binds, sandbox.Bind{Source: dir, Target: dir, ReadOnly: true})
				}
			}
			return sandbox.Run(ctx, spec)
		},
		Outside: func(ctx context.Context, spec sandbox.Spec) error {
			w.noteCommand("", spec)
			spec.Target = w.root
			return box.Run(ctx, spec)
		},
	})
}

func (w *world) noteCommand(where string, spec sandbox.Spec) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commands = append(w.commands, where+strings.Join(append(slices.Clone(spec.Env), spec.Args...), " "))
}

func (w *world) tree(ctx context.Context) (*layers.Tree, error) {
	tree, _, err := layers.ScanDir(ctx, w.root, layers.ScanOptions{})
	if err != nil || !w.borrow {
		return tree, err
	}
	edit := tree.Edit(layers.Timespec{})
	for _, name := range []string{"zypper", "rpm"} { // they stand for the programs that it borrows
		if err := edit.WriteFile("usr/bin/"+name, []byte("x"), 0o755); err != nil {
			return nil, err
		}
	}
	return edit.Tree(), nil
}

func origin(line int) description.Origin {
	return description.Origin{Pos: description.Position{File: "config.xml", Line: line, Column: 5}}
}

func pkg(line int, names ...string) []description.Package {
	var list []description.Package
	for _, name := range names {
		list = append(list, description.Package{Name: name, Origin: origin(line)})
	}
	return list
}

func set(names ...string) description.PackageSet {
	return description.PackageSet{Packages: pkg(12, names...)}
}

// bootstrap installs packages from outside, in a session of its own.
func (w *world) bootstrap(t *testing.T, what description.PackageSet, repos ...description.Repository) error {
	t.Helper()
	s, err := w.open(t, repos...)
	if err != nil {
		return err
	}
	defer func() { must(t, s.Close()) }()
	return s.Bootstrap(t.Context(), what)
}

// session runs one step in a session of its own.
func (w *world) session(t *testing.T, step func(s packages.Session) error, repos ...description.Repository) error {
	t.Helper()
	s, err := w.open(t, repos...)
	if err != nil {
		return err
	}
	defer func() { must(t, s.Close()) }()
	return step(s)
}

// installed lists what the tree's database has.
func (w *world) installed(t *testing.T) []string {
	t.Helper()
	tree, err := w.tree(t.Context())
	must(t, err)
	list, err := rpm.Installed(tree)
	must(t, err)
	var names []string
	for _, p := range list {
		if !p.IsKey() {
			names = append(names, p.Name+"-"+p.EVR())
		}
	}
	return names
}

func (w *world) wantInstalled(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.installed(t)); diff != "" {
		t.Error(diff)
	}
}

// nothingLeft checks that zypper left nothing but what it leaves on a running machine.
func (w *world) nothingLeft(t *testing.T) {
	t.Helper()
	must(t, filepath.WalkDir(w.root, func(path string, e fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, w.root+"/")
		if err == nil && e.IsDir() && slices.Contains([]string{"opt", "usr"}, name) {
			return filepath.SkipDir
		}
		if err == nil && !e.IsDir() && !slices.Contains([]string{
			"bin", "sbin", "lib", "lib64", "etc/os-release", "etc/ran", "var/lib/rpm", "var/lib/zypp/AutoInstalled", "etc/products.d/Thing.prod", "var/lib/zypp/LastDistributionFlavor",
		}, name) {
			t.Errorf("%s was left", name)
		}
		return err
	}))
	entries, err := os.ReadDir(w.work)
	must(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".zypper") {
			t.Errorf("%s was left in the working directory", e.Name())
		}
	}
}

func (w *world) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.root, name))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func wantError(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Error("there is no error")
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error is %q, without %q", err, text)
		}
	}
}
