// Package managertest is what the tests of package managers have in common: a root tree, a repository, and sessions in which the real programs run.
package managertest

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Must ends the test at an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// WantError fails unless there is an error that has all of the texts.
func WantError(t *testing.T, err error, texts ...string) {
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

// Origin is a place in a description.
func Origin(line int) description.Origin {
	return description.Origin{Pos: description.Position{File: "config.xml", Line: line, Column: 5}}
}

// Packages are packages that a description names in one line.
func Packages(line int, names ...string) []description.Package {
	var list []description.Package
	for _, name := range names {
		list = append(list, description.Package{Name: name, Origin: Origin(line)})
	}
	return list
}

// Set are packages to install, of line 12.
func Set(names ...string) description.PackageSet {
	return description.PackageSet{Packages: Packages(12, names...)}
}

// World is a root tree, a repository, and what sessions on them need.
type World struct {
	// Manager opens a session of the package manager.
	Manager func(context.Context, packages.Options) (packages.Session, error)
	// Root is the directory of the root tree, Repo that of the repository which is used where none is named, Work for temporary files.
	Root, Repo, Work string
	// Cache, Offline and Locked are as in packages.Options, Env is added to the environment of all programs.
	Cache   string
	Offline bool
	Locked  []packages.Package
	Env     []string
	// Image is the description without its repositories.
	Image description.Image
	// Files has the description's files.
	Files files.Source
	// Own says that the description has no repository.
	Own bool
	// Borrow names programs of /usr/bin that the tree borrows of this machine, with all that they need.
	Borrow []string
	// Show are further directories of this machine that a tree that borrows sees.
	Show []string
	// Binds are further directories that a program in the tree sees.
	Binds []sandbox.Bind
	// Answer stands for all programs, in the tree and outside of it, where no real ones can run; nil runs them.
	Answer func(sandbox.Spec) error
	// Builder lends its programs in the place of this machine; nil is this machine.
	Builder *Builder
	// Log is what was logged, Commands the command lines of all that ran, those in the tree with "inside: " before them.
	Log      bytes.Buffer
	Commands []string
	// Environments are the environments that these programs got besides the sandbox's own.
	Environments []string

	mu sync.Mutex
}

// New makes an empty root tree. The log is shown if the test fails.
func New(t *testing.T, manager, repo string, open func(context.Context, packages.Options) (packages.Session, error)) *World {
	t.Helper()
	w := &World{Manager: open, Root: t.TempDir(), Repo: repo, Work: t.TempDir()}
	w.Image = description.Image{Name: "test", Arch: testrepos.HostArch(), PackageManager: manager}
	w.Files = files.Source{Dir: repo, FS: os.DirFS(repo)}
	Must(t, os.Chmod(w.Root, 0o755))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log:\n%s", w.Log.String())
		}
	})
	return w
}

// Furnish makes the directories of a tree that borrows the programs of this machine.
func (w *World) Furnish(t *testing.T, programs ...string) {
	t.Helper()
	w.Borrow = programs
	for _, dir := range []string{"usr/bin", "usr/lib", "usr/lib64", "usr/share", "etc"} {
		Must(t, os.MkdirAll(filepath.Join(w.Root, dir), 0o755))
	}
	for _, link := range []string{"bin", "lib", "lib64"} {
		Must(t, os.Symlink("usr/"+link, filepath.Join(w.Root, link)))
	}
}

// Like is an empty tree in the place of w's, all else being the same.
func (w *World) Like(t *testing.T) *World {
	t.Helper()
	other := New(t, w.Image.PackageManager, w.Repo, w.Manager)
	other.Image, other.Files, other.Cache, other.Offline, other.Locked, other.Env, other.Builder = w.Image, w.Files, w.Cache, w.Offline, w.Locked, w.Env, w.Builder
	return other
}

// Plain is the repository as a directory, at line 7 of the description.
func (w *World) Plain() description.Repository {
	return description.Repository{Origin: Origin(7), Source: "dir://" + w.Repo}
}

// Open starts a session with these repositories, or with the plain one.
func (w *World) Open(t *testing.T, repos ...description.Repository) (packages.Session, error) {
	t.Helper()
	if len(repos) == 0 && !w.Own {
		repos = []description.Repository{w.Plain()}
	}
	image := w.Image
	image.Repositories = repos
	set, err := repositories.Open(t.Context(), repositories.Options{Image: &image, Files: w.Files, Workdir: w.Work, Cache: w.Cache, Offline: w.Offline})
	if err != nil {
		return nil, err
	}
	outside := func(_ context.Context, spec sandbox.Spec) error { return w.Answer(w.note("", spec)) }
	if w.Answer == nil {
		box := w.toolbox(t)
		outside = func(ctx context.Context, spec sandbox.Spec) error {
			spec.Target = w.Root
			return box.Run(ctx, w.note("", spec))
		}
	}
	return w.Manager(t.Context(), packages.Options{
		Image: &image, Repositories: set, Files: w.Files, Workdir: w.Work, Cache: w.Cache, Offline: w.Offline, Locked: w.Locked, Arch: image.Arch, Progress: progress.Discard,
		Log: slog.New(slog.NewTextHandler(&w.Log, &slog.HandlerOptions{Level: slog.LevelDebug})), Tree: w.Tree,
		Unpacked: func(context.Context) (string, error) { return w.Root, nil },
		Inside:   w.inside,
		Outside:  outside,
	})
}

// note adds the environment and takes down what runs.
func (w *World) note(where string, spec sandbox.Spec) sandbox.Spec {
	w.mu.Lock()
	defer w.mu.Unlock()
	spec.Env = append(slices.Clone(spec.Env), w.Env...)
	w.Commands = append(w.Commands, where+strings.Join(spec.Args, " "))
	w.Environments = append(w.Environments, spec.Env...)
	return spec
}

// inside runs a program in the tree.
func (w *World) inside(ctx context.Context, spec sandbox.Spec) error {
	spec = w.note("inside: ", spec)
	if w.Answer != nil {
		return w.Answer(spec)
	}
	spec.Root = w.Root
	for _, dir := range append([]string{"/usr/bin", "/usr/lib", "/usr/lib64", "/usr/share"}, w.Show...) {
		source := dir
		if w.Builder != nil {
			source = filepath.Join(w.Builder.Dir, dir)
		}
		if info, err := os.Stat(source); w.Borrow != nil && err == nil && info.IsDir() {
			spec.Binds = append(spec.Binds, sandbox.Bind{Source: source, Target: dir, ReadOnly: true})
		}
	}
	spec.Binds = append(spec.Binds, w.Binds...)
	return sandbox.Run(ctx, spec)
}

// Tree is the root tree. Small files stand for the programs that it borrows.
func (w *World) Tree(ctx context.Context) (*layers.Tree, error) {
	tree, _, err := layers.ScanDir(ctx, w.Root, layers.ScanOptions{})
	if err != nil {
		return nil, err
	}
	edit := tree.Edit(layers.Timespec{})
	for _, name := range w.Borrow {
		if err := edit.WriteFile("usr/bin/"+name, []byte("x"), 0o755); err != nil {
			return nil, err
		}
	}
	return edit.Tree(), nil
}

// With does something in a session of its own, which must leave nothing in the directory for temporary files.
func (w *World) With(t *testing.T, do func(s packages.Session) error, repos ...description.Repository) error {
	t.Helper()
	s, err := w.Open(t, repos...)
	if err != nil {
		return err
	}
	err = do(s)
	Must(t, s.Close())
	entries, readErr := os.ReadDir(w.Work)
	Must(t, readErr)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("left in the working directory: %s", e.Name())
		}
	}
	return err
}

// Bootstrap installs packages from outside, in a session of its own.
func (w *World) Bootstrap(t *testing.T, what description.PackageSet, repos ...description.Repository) error {
	t.Helper()
	return w.With(t, func(s packages.Session) error { return s.Bootstrap(t.Context(), what) }, repos...)
}

// Left lists the files of the tree outside of some directories.
func (w *World) Left(t *testing.T, outside ...string) []string {
	t.Helper()
	var left []string
	Must(t, filepath.WalkDir(w.Root, func(path string, e fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, w.Root+"/")
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

// Read is the content of a file of the tree, or why there is none.
func (w *World) Read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.Root, name))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// NoSecret fails if a secret is in the log, in a command line, in a file of the tree, the cache or the working directory, or in one of the texts.
func (w *World) NoSecret(t *testing.T, secret string, texts ...string) {
	t.Helper()
	for _, text := range append(texts, w.Log.String(), strings.Join(slices.Concat(w.Commands, w.Environments), "\n")) {
		if strings.Contains(text, secret) {
			t.Errorf("the secret is in %q", text)
		}
	}
	for _, dir := range []string{w.Root, w.Cache, w.Work} {
		if dir == "" {
			continue
		}
		Must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("the secret is in %s", path)
			}
			return err
		}))
	}
}
