package pacman

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
	os.Exit(m.Run())
}

func need(t *testing.T) {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedPrograms(t, "pacman", "repo-add", "bsdtar", "gpg")
}

// asBoth runs a test as root and again as an ordinary user.
func asBoth(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	need(t)
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
	env                     []string
	offline                 bool
	locked                  []packages.Package
	borrow                  bool // the tree has the programs of this machine
}

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
func newWorld(t *testing.T, repo testrepos.PacmanRepo) *world {
	t.Helper()
	w := &world{root: t.TempDir(), repo: t.TempDir(), work: t.TempDir(), log: &bytes.Buffer{}}
	w.image = description.Image{Name: "test", Arch: testrepos.HostArch(), PackageManager: "pacman"}
	testrepos.MakePacmanRepo(t, w.repo, repo)
	return w
}

// plain is the repository as a directory.
func (w *world) plain() description.Repository {
	return description.Repository{Origin: origin(7), Source: "dir://" + w.repo, Alias: "test"}
}

// open starts a session with the given repositories.
func (w *world) open(t *testing.T, repos ...description.Repository) (packages.Session, error) {
	t.Helper()
	image := w.image
	image.Repositories = repos
	source := files.Source{Dir: w.repo, FS: os.DirFS(w.repo)}
	set, err := repositories.Open(t.Context(), repositories.Options{Image: &image, Files: source, Workdir: w.work, Cache: w.cache, Offline: w.offline})
	if err != nil {
		return nil, err
	}
	box := toolbox.Open(toolbox.Options{Workdir: w.work})
	t.Cleanup(func() { must(t, box.Close()) })
	return Open(t.Context(), packages.Options{
		Image: &image, Repositories: set, Files: source, Workdir: w.work, Cache: w.cache, Offline: w.offline, Locked: w.locked, Arch: image.Arch, Progress: progress.Discard,
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Tree: w.tree, Inside: w.inside,
		Outside: func(ctx context.Context, spec sandbox.Spec) error {
			w.commands = append(w.commands, strings.Join(spec.Args, " "))
			spec.Target = w.root
			spec.Env = append(spec.Env, w.env...)
			return box.Run(ctx, spec)
		},
	})
}

// tree is the root tree; an empty file stands for the program that it borrows.
func (w *world) tree(ctx context.Context) (*layers.Tree, error) {
	tree, _, err := layers.ScanDir(ctx, w.root, layers.ScanOptions{})
	if err != nil || !w.borrow {
		return tree, err
	}
	edit := tree.Edit(layers.Timespec{})
	if err := edit.WriteFile("usr/bin/pacman", []byte("x"), 0o755); err != nil {
		return nil, err
	}
	return edit.Tree(), nil
}

// inside runs a program in the tree, with this machine's programs and libraries.
func (w *world) inside(ctx context.Context, spec sandbox.Spec) error {
	w.commands = append(w.commands, "inside: "+strings.Join(spec.Args, " "))
	spec.Root = w.root
	for _, dir := range []string{"/usr/bin", "/usr/lib", "/usr/lib64", "/usr/share"} {
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

// with does something in a session of its own.
func (w *world) with(t *testing.T, repos []description.Repository, do func(s packages.Session) error) error {
	t.Helper()
	if repos == nil {
		repos = []description.Repository{w.plain()}
	}
	s, err := w.open(t, repos...)
	if err != nil {
		return err
	}
	defer func() {
		must(t, s.Close())
		if left, err := filepath.Glob(w.work + "/.pacman-*"); len(left) > 0 || err != nil {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}()
	return do(s)
}

// bootstrap installs packages from outside, in a session of its own.
func (w *world) bootstrap(t *testing.T, what description.PackageSet, repos ...description.Repository) error {
	t.Helper()
	return w.with(t, repos, func(s packages.Session) error { return s.Bootstrap(t.Context(), what) })
}

// wantInstalled compares what the tree's database has, with the reasons why it was installed.
func (w *world) wantInstalled(t *testing.T, want ...string) {
	t.Helper()
	entries, err := filepath.Glob(filepath.Join(w.root, databaseDir, "local", "*", "desc"))
	must(t, err)
	var got []string
	for _, entry := range entries {
		data, err := os.ReadFile(entry)
		must(t, err)
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

// left lists what is in the tree outside of some directories.
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

// noSecret fails if a secret is in the log, in a command line or in a text.
func (w *world) noSecret(t *testing.T, secret string, texts ...string) {
	t.Helper()
	for _, text := range append(append(texts, w.log.String()), w.commands...) {
		if strings.Contains(text, secret) {
			t.Errorf("the secret is told: %s", text)
		}
	}
}
