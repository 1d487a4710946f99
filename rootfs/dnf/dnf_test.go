package dnf

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
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/rootfs/toolbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	code := m.Run()
	if err := shared.remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// shared is the repository of many tests: making one takes a moment.
var shared sharedRepository

type sharedRepository struct {
	mu  sync.Mutex
	dir string
}

func (r *sharedRepository) remove() error { return os.RemoveAll(r.dir) }

// path returns the directory, which is made when it is asked for first. Tests don't change it.
func (r *sharedRepository) path(t *testing.T) string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dir == "" {
		dir, err := os.MkdirTemp("", "repository-")
		must(t, err)
		testrepos.MakeRPMRepo(t, dir, testrepos.RPMRepo{Packages: few(), Groups: testrepos.Group("basics", []string{"hello", "absent"}, []string{"extra"})})
		r.dir = dir
	}
	return r.dir
}

func needs(t *testing.T) {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedPrograms(t, "dnf-3", "rpm", "rpmbuild", "createrepo_c")
}

// asBoth runs a test as root and again as an ordinary user.
func asBoth(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	needs(t)
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

// world is a root tree, a repository, and what sessions on them need.
type world struct {
	root, repo, work, cache string
	image                   description.Image
	log                     *bytes.Buffer
	commands                []string // command lines of everything that ran
	offline                 bool
	locked                  []packages.Package
	borrow                  bool // the tree has the programs of this machine
}

// newWorld makes an empty tree and a repository with packages.
func newWorld(t *testing.T, repo testrepos.RPMRepo) *world {
	t.Helper()
	w := emptyWorld(t, t.TempDir())
	testrepos.MakeRPMRepo(t, w.repo, repo)
	return w
}

func emptyWorld(t *testing.T, repo string) *world {
	t.Helper()
	return &world{
		root: t.TempDir(), repo: repo, work: t.TempDir(), log: &bytes.Buffer{}, image: description.Image{Name: "test", Arch: testrepos.HostArch(), PackageManager: "dnf4"},
	}
}

// fewWorld is an empty tree and the shared repository.
func fewWorld(t *testing.T) *world {
	t.Helper()
	return emptyWorld(t, shared.path(t))
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
	}
}

// open starts a session with the repositories of the image, or with the plain one.
func (w *world) open(t *testing.T, repos ...description.Repository) (packages.Session, error) {
	t.Helper()
	if len(repos) == 0 {
		repos = []description.Repository{{Origin: origin(7), Source: "dir://" + w.repo}}
	}
	image := w.image
	image.Repositories = repos
	source := files.Source{FS: fstest.MapFS{"edit.sh": {Data: []byte("echo exclude=extra >> \"$1\"\n")}}}
	set, err := repositories.Open(t.Context(), repositories.Options{Image: &image, Files: source, Workdir: w.work, Cache: w.cache, Offline: w.offline})
	if err != nil {
		return nil, err
	}
	box := toolbox.Open(toolbox.Options{Workdir: w.work})
	t.Cleanup(func() { must(t, box.Close()) })
	return Open(t.Context(), packages.Options{
		Image: &image, Repositories: set, Files: source, Workdir: w.work, Cache: w.cache, Offline: w.offline, Locked: w.locked, Arch: image.Arch, Progress: progress.Discard,
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Tree: w.tree,
		Inside: w.inside,
		Outside: func(ctx context.Context, spec sandbox.Spec) error {
			w.commands = append(w.commands, strings.Join(spec.Args, " "))
			spec.Target = w.root
			return box.Run(ctx, spec)
		},
	})
}

// tree is the root tree; a few empty files stand for the programs that it borrows.
func (w *world) tree(ctx context.Context) (*layers.Tree, error) {
	tree, _, err := layers.ScanDir(ctx, w.root, layers.ScanOptions{})
	if err != nil || !w.borrow {
		return tree, err
	}
	edit := tree.Edit(layers.Timespec{})
	for _, name := range []string{"dnf-3", "rpm", "bash"} {
		if err := edit.WriteFile("usr/bin/"+name, []byte("x"), 0o755); err != nil {
			return nil, err
		}
	}
	return edit.Tree(), nil
}

// inside runs a program in the tree, with this machine's programs and libraries.
func (w *world) inside(ctx context.Context, spec sandbox.Spec) error {
	w.commands = append(w.commands, "inside: "+strings.Join(spec.Args, " "))
	spec.Root = w.root
	for _, dir := range []string{"/usr/bin", "/usr/lib", "/usr/lib64", "/usr/share", "/etc/dnf"} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			spec.Binds = append(spec.Binds, sandbox.Bind{Source: dir, Target: dir, ReadOnly: true})
		}
	}
	return sandbox.Run(ctx, spec)
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

// installed lists what the tree's database has.
func (w *world) installed(t *testing.T) []string {
	t.Helper()
	out := testenv.Run(t, "rpm", "--root", w.root, "--dbpath", "/var/lib/rpm", "-qa", "--qf", "%{NAME}-%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}\n")
	return slices.Sorted(strings.FieldsSeq(out))
}

func (w *world) wantInstalled(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.installed(t)); diff != "" {
		t.Error(diff)
	}
}

// left lists the files of the tree outside of some directories.
func (w *world) left(t *testing.T, outside ...string) []string {
	t.Helper()
	var left []string
	must(t, filepath.WalkDir(w.root, func(path string, e fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, w.root+"/")
		if err == nil && e.IsDir() && slices.Contains(outside, name) {
			return filepath.SkipDir
		}
		if err == nil && !e.IsDir() {
			left = append(left, name)
		}
		return err
	}))
	return left
}

// nothingLeft checks that dnf left nothing but what it leaves on a running machine.
func (w *world) nothingLeft(t *testing.T) {
	t.Helper()
	for _, name := range w.left(t, "opt", "usr", "var/lib/rpm", "var/lib/dnf", "etc/dnf/modules.d") {
		if !slices.Contains([]string{"bin", "sbin", "lib", "lib64", "etc/os-release", "etc/ran"}, name) {
			t.Errorf("%s was left", name)
		}
	}
	entries, err := os.ReadDir(w.work)
	must(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".dnf") {
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

func TestBootstrap(t *testing.T) { asBoth(t, testBootstrap) }

func testBootstrap(t *testing.T) {
	distribution := testrepos.Distribution(t, "fedora")
	distribution = append(distribution, testrepos.RPM{Name: "script", Requires: []string{"base"}, Post: "id > /etc/ran; grep ^ID= /etc/os-release >> /etc/ran"})
	w := newWorld(t, testrepos.RPMRepo{Packages: distribution})
	s, err := w.open(t)
	must(t, err)
	plan, err := s.Simulate(t.Context(), set("script"))
	must(t, err)
	if err := s.Bootstrap(t.Context(), set("script")); err != nil {
		t.Fatalf("%v\n%s", err, w.log)
	}
	got := s.Installed()
	must(t, s.Close())
	w.wantInstalled(t, "base-1", "busybox-1.35", "filesystem-1", "release-15.6", "script-1")
	if ran := w.read(t, "etc/ran"); !strings.HasPrefix(ran, "uid=0") || !strings.HasSuffix(ran, "ID=fedora\n") {
		t.Errorf("the script says %q", ran)
	}
	w.nothingLeft(t)
	if len(plan.Packages) != 5 || plan.Growth < 500e3 || plan.Download() < 300e3 {
		t.Errorf("simulated: %+v", plan)
	}
	for i, p := range got {
		sum, err := packages.Sum(filepath.Join(w.repo, p.File))
		must(t, err)
		if p.Checksum != sum || p.Name != plan.Packages[i].Name || p.Listed != (p.Name == "script") || p.Installed != plan.Packages[i].Installed || p.Repository != "dir://"+w.repo {
			t.Errorf("installed %+v, planned %+v, %s", p, plan.Packages[i], sum)
		}
	}
}

func TestInstall(t *testing.T) { asBoth(t, testInstall) }

func testInstall(t *testing.T) {
	w := fewWorld(t)
	w.image.RPM = description.RPMSettings{LocaleFiltering: true, ExcludeDocs: true}
	w.image.Locales = []string{"en_US"}
	what := set("hello")
	must(t, w.bootstrap(t, what))
	w.wantInstalled(t, "greeting-1:2.0", "hello-1.0")
	what.PlusRecommended = true
	what.Packages = pkg(12, "hello", "extra")
	must(t, w.bootstrap(t, what))
	w.wantInstalled(t, "extra-3", "greeting-1:2.0", "hello-1.0")
	if _, err := os.Stat(filepath.Join(w.root, "usr/share/doc/greeting")); err == nil {
		t.Error("documentation was installed")
	}
	if _, err := os.Stat(filepath.Join(w.root, "opt/de")); err == nil {
		t.Error("a file of another language was installed")
	}
	w.nothingLeft(t)

	other := fewWorld(t)
	what = set("hello")
	what.PlusRecommended = true
	must(t, other.bootstrap(t, what))
	other.wantInstalled(t, "extra-3", "greeting-1:2.0", "hello-1.0")
	if doc := other.read(t, "usr/share/doc/greeting") + other.read(t, "opt/de"); doc != "docde" {
		t.Error(doc)
	}
	other = fewWorld(t)
	what.Ignore = pkg(13, "extra")
	must(t, other.bootstrap(t, what))
	other.wantInstalled(t, "greeting-1:2.0", "hello-1.0")
	what.Ignore = pkg(13, "greeting")
	wantError(t, newWorldLike(t, other).bootstrap(t, what), "the packages don't fit together", "greeting")
}

// newWorldLike is an empty tree with another one's repository.
func newWorldLike(t *testing.T, other *world) *world {
	t.Helper()
	return &world{root: t.TempDir(), repo: other.repo, work: t.TempDir(), log: other.log, image: other.image, cache: other.cache}
}

func TestRemove(t *testing.T) { asBoth(t, testRemove) }

func testRemove(t *testing.T) {
	w := fewWorld(t)
	what := set("hello", "guard")
	what.PlusRecommended = true
	must(t, w.bootstrap(t, what))
	s, err := w.open(t)
	must(t, err)
	defer func() { must(t, s.Close()) }()
	// By force: hello still needs it; a script is not run.
	must(t, s.Delete(t.Context(), pkg(20, "greeting", "guard", "nonsense")))
	w.wantInstalled(t, "extra-3", "hello-1.0")
	if !strings.Contains(w.log.String(), "package=nonsense") {
		t.Error("nothing is said of a package that is not installed")
	}
	must(t, s.Delete(t.Context(), pkg(20, "nonsense")))
	must(t, s.Install(t.Context(), set("greeting")))
	must(t, s.Uninstall(t.Context(), pkg(21, "greeting", "nothing")))
	// With what needs it, and with what came along.
	w.wantInstalled(t)
	if !strings.Contains(w.log.String(), "package=nothing") {
		t.Error("nothing is said of a package that is not installed")
	}
}

func TestGroups(t *testing.T) {
	needs(t)
	w := fewWorld(t)
	must(t, w.bootstrap(t, description.PackageSet{Collections: pkg(14, "basics")}))
	w.wantInstalled(t, "greeting-1:2.0", "hello-1.0")
	if !strings.Contains(w.log.String(), "a group names a package that no repository has") {
		t.Errorf("nothing is said of the package that the group lacks: %s", w.log)
	}
	err := newWorldLike(t, w).bootstrap(t, description.PackageSet{Collections: pkg(14, "basicks"), Packages: pkg(12, "extra")})
	wantError(t, err, "config.xml:14:5", "no repository has the group basicks")
}

func TestModules(t *testing.T) {
	needs(t)
	testenv.NeedPrograms(t, "modifyrepo_c")
	server := func(version string) testrepos.RPM { return testrepos.RPM{Name: "server", Version: version} }
	w := newWorld(t, testrepos.RPMRepo{
		Packages: []testrepos.RPM{server("1"), server("2")},
		Modules:  testrepos.Module("web", "1", "server", "server-0:1-1.noarch") + testrepos.Module("web", "2", "server", "server-0:2-1.noarch"),
	})
	w.image.Packages.Modules = []description.CollectionModule{{Origin: origin(15), Name: "web", Stream: "1", Enable: true}}
	must(t, w.bootstrap(t, set("server")))
	w.wantInstalled(t, "server-1")
	if state := w.read(t, "etc/dnf/modules.d/web.module"); !strings.Contains(state, "state=enabled") {
		t.Error(state)
	}
	w.image.Packages.Modules = []description.CollectionModule{{Origin: origin(15), Name: "web"}}
	wantError(t, newWorldLike(t, w).bootstrap(t, set("server")), "server")
	w.image.Packages.Modules = []description.CollectionModule{{Origin: origin(15), Name: "mail", Stream: "1", Enable: true}}
	wantError(t, newWorldLike(t, w).bootstrap(t, set("server")), "config.xml:15:5", "no repository has the module mail")
}

func TestMissingPackages(t *testing.T) {
	needs(t)
	w := fewWorld(t)
	err := w.bootstrap(t, set("extra", "helo", "zzzzzzzzzz"))
	wantError(t, err, `config.xml:12:5: no repository has the package helo; did you mean "hello"?`, "no repository has the package zzzzzzzzzz; check its name", w.repo)
	wantError(t, w.bootstrap(t, set("needy")), "the packages don't fit together", "nothing provides nowhere needed by needy-1-1.noarch")
	w.wantInstalled(t)
	s, err := w.open(t)
	must(t, err)
	defer func() { must(t, s.Close()) }()
	_, err = s.Simulate(t.Context(), set("helo"))
	wantError(t, err, "no repository has the package helo")
}

func TestInside(t *testing.T) { asBoth(t, testInside) }

// testInside works with this machine's programs as if they were the tree's.
func testInside(t *testing.T) {
	w := fewWorld(t)
	w.borrow = true
	for _, dir := range []string{"usr/bin", "usr/lib", "usr/lib64", "usr/share", "usr/sbin", "etc/dnf", "etc/yum.repos.d", "root", "tmp", "var"} {
		must(t, os.MkdirAll(filepath.Join(w.root, dir), 0o755))
	}
	for _, link := range []string{"bin", "lib", "lib64", "sbin"} {
		must(t, os.Symlink("usr/"+link, filepath.Join(w.root, link)))
	}
	w.image.ReleaseVersion = "9"
	w.image.RPM.ExcludeDocs = true
	s, err := w.open(t, description.Repository{Origin: origin(7), Source: "dir://" + w.repo, Alias: "mine", Customize: "edit.sh"})
	must(t, err)
	what := set("hello")
	what.PlusRecommended = true
	must(t, s.Install(t.Context(), what))
	w.wantInstalled(t, "greeting-1:2.0", "hello-1.0") // the script took extra away
	must(t, s.Delete(t.Context(), pkg(20, "greeting")))
	w.wantInstalled(t, "hello-1.0")
	must(t, s.Uninstall(t.Context(), pkg(20, "hello")))
	must(t, s.Close())
	if commands := strings.Join(w.commands, "\n"); !strings.Contains(commands, "inside: dnf-3 ") || !strings.Contains(commands, "inside: rpm -e") || !strings.Contains(commands, " --releasever=9 ") ||
		strings.Contains(commands, "--installroot") || strings.Contains(commands, "--root") {
		t.Error(commands)
	}
	w.nothingLeft(t)
}
