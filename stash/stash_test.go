package stash

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/container"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/registry/reference"
)

func TestMain(m *testing.M) {
	userns.MustEnter()
	os.Exit(m.Run())
}

func openStore(t *testing.T) (registry.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	client, err := registry.NewClient(registry.Options{Store: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client.Store(), dir
}

// rootTree makes a small root tree whose entries have times of their own.
func rootTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/old": "old", "usr/bin/tool": "#!/bin/sh\n",
		"proc/1/status": "running", "tmp/scratch": "scratch", "var/cache/apt/pkgcache.bin": "cache"} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(root, "usr/bin/tool"), filepath.Join(root, "usr/bin/same")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(root, "usr/bin/tool"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	return root
}

func mustMake(t *testing.T, store registry.Store, opts Options) *Result {
	t.Helper()
	if opts.Repro.Epoch.IsZero() {
		opts.Repro = repro.New(time.Unix(2000000000, 0))
	}
	result, err := Make(t.Context(), store, opts)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// treeOf returns the tree of a stash.
func treeOf(t *testing.T, store registry.Store, name string) *layers.Tree {
	t.Helper()
	image, err := store.Image(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := container.Open(t.Context(), image, store, container.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree.Tree
}

func TestEachStashAddsExactlyWhatChanged(t *testing.T) {
	store, _ := openStore(t)
	root := rootTree(t)
	opts := Options{Root: root, Name: "web"}

	first := mustMake(t, store, opts)
	if !first.Changed || first.Layers != 1 || first.Name != "web:latest" {
		t.Errorf("the first stash: %+v", first)
	}
	again := mustMake(t, store, opts)
	if again.Changed || again.Layers != 1 || again.Digest != first.Digest {
		t.Errorf("a stash of the same tree: %+v", again)
	}

	if err := os.WriteFile(filepath.Join(root, "etc/new"), []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(root, "etc/old")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "srv"), 0o755); err != nil {
		t.Fatal(err)
	}
	second := mustMake(t, store, opts)
	// The new file and directory, and the two directories whose time changed.
	if !second.Changed || second.Layers != 2 || second.Put != 4 || second.Removed != 1 {
		t.Errorf("the stash after three changes: %+v", second)
	}

	now, _, err := layers.ScanDir(t.Context(), root, layers.ScanOptions{OneFileSystem: true})
	if err != nil {
		t.Fatal(err)
	}
	differences, err := layers.Diff(t.Context(), now, treeOf(t, store, "web:latest"))
	if err != nil || len(differences) != 0 {
		t.Errorf("the stash differs from its root tree: %v, %v", differences, err)
	}
}

func TestAStashOfACopyReadsContents(t *testing.T) {
	store, _ := openStore(t)
	root := rootTree(t)
	mustMake(t, store, Options{Root: root, Name: "web"})
	file := filepath.Join(root, "etc/old")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("OLD"), 0o644); err != nil { // same size
		t.Fatal(err)
	}
	if err := os.Chtimes(file, info.ModTime(), info.ModTime()); err != nil { // same time
		t.Fatal(err)
	}
	if result := mustMake(t, store, Options{Root: root, Name: "web"}); !result.Changed || result.Put != 1 {
		t.Errorf("a change that keeps size and time was missed: %+v", result)
	}
}

func TestTagsAreIndependentAndListed(t *testing.T) {
	store, _ := openStore(t)
	root := rootTree(t)
	mustMake(t, store, Options{Root: root, Name: "web", Tag: "a"})
	if err := os.Remove(filepath.Join(root, "etc/old")); err != nil {
		t.Fatal(err)
	}
	if b := mustMake(t, store, Options{Root: root, Name: "web", Tag: "b"}); b.Layers != 1 {
		t.Errorf("the other tag's layers count: %+v", b)
	}
	if a := mustMake(t, store, Options{Root: root, Name: "web", Tag: "a"}); a.Layers != 2 {
		t.Errorf("the first tag: %+v", a)
	}
	list, err := List(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name+":"+e.Tag)
		if e.Size == 0 || e.Digest == "" || e.Created.Unix() != 2000000000 {
			t.Errorf("entry %+v", e)
		}
	}
	if diff := cmp.Diff([]string{"web:a", "web:b"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestConfigIsWhatKIWISets(t *testing.T) {
	store, _ := openStore(t)
	mustMake(t, store, Options{Root: rootTree(t), Name: "web"})
	image, err := store.Image(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/bin/sh"}, config.Config.Entrypoint); diff != "" {
		t.Error(diff)
	}
	if config.Config.Labels["io.osinside.kiwi.meta"] != "KIWI - https://github.com/OSInside/kiwi" {
		t.Errorf("labels are %v", config.Config.Labels)
	}
	if len(config.History) != 1 || config.History[0].Comment != "KIWI Root Tree Stash" {
		t.Errorf("history is %+v", config.History)
	}
	manifest, err := image.Manifest()
	if err != nil || manifest.Annotations["org.opencontainers.image.created"] != "2033-05-18T03:33:20Z" {
		t.Errorf("annotations are %v, %v", manifest.Annotations, err)
	}
}

func TestTheSameTreeGivesTheSameDigest(t *testing.T) {
	root := rootTree(t)
	digests := map[string]bool{}
	for range 2 {
		store, _ := openStore(t)
		digests[mustMake(t, store, Options{Root: root, Name: "web"}).Digest] = true
	}
	if len(digests) != 1 {
		t.Errorf("digests %v", digests)
	}
}

func TestLeavesOutVolatileAndExcluded(t *testing.T) {
	store, _ := openStore(t)
	mustMake(t, store, Options{Root: rootTree(t), Name: "web", Exclude: []string{"/var/cache/**", "old"}})
	tree := treeOf(t, store, "web")
	for _, gone := range []string{"proc/1", "tmp/scratch", "etc/old", "var/cache/apt"} {
		if _, err := tree.Lookup(gone); err == nil {
			t.Errorf("/%s was kept", gone)
		}
	}
	for _, kept := range []string{"proc", "tmp", "var/cache", "etc/passwd"} {
		if _, err := tree.Lookup(kept); err != nil {
			t.Error(err)
		}
	}
}

func TestArchiveAsRootTree(t *testing.T) {
	file := filepath.Join(t.TempDir(), "root.tar")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "./dev/", Mode: 0o755},
		{Typeflag: tar.TypeChar, Name: "./dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Typeflag: tar.TypeDir, Name: "./srv/", Mode: 0o2775, Uid: 1234567, Gid: 42},
		{Typeflag: tar.TypeBlock, Name: "./srv/disk", Mode: 0o660, Devmajor: 8, Devminor: 1},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	store, _ := openStore(t)
	mustMake(t, store, Options{Root: file, Name: "tar"})
	tree := treeOf(t, store, "tar")
	srv, err := tree.Lookup("srv")
	if err != nil || srv.UID != 1234567 || srv.Perm() != 0o2775 {
		t.Errorf("srv is %+v, %v", srv, err)
	}
	if disk, err := tree.Lookup("srv/disk"); err != nil || disk.Major != 8 {
		t.Errorf("the device is %+v, %v", disk, err)
	}
	if _, err := tree.Lookup("dev/null"); err == nil {
		t.Error("what is in /dev was kept")
	}
	if again := mustMake(t, store, Options{Root: file, Name: "tar"}); again.Changed {
		t.Errorf("the same archive again: %+v", again)
	}
}

func TestBadNamesAndRoots(t *testing.T) {
	store, _ := openStore(t)
	root := rootTree(t)
	empty := t.TempDir()
	for name, c := range map[string]struct {
		opts Options
		want string
	}{
		"upper case":     {Options{Root: root, Name: "Web"}, `"web" would do`},
		"tag in name":    {Options{Root: root, Name: "web:1"}, "--tag"},
		"bad tag":        {Options{Root: root, Name: "web", Tag: "a/b"}, "tag"},
		"no name":        {Options{Root: root}, "--container-name"},
		"empty":          {Options{Root: empty, Name: "web"}, "empty"},
		"missing":        {Options{Root: filepath.Join(empty, "none"), Name: "web"}, "none"},
		"bad pattern":    {Options{Root: root, Name: "web", Exclude: []string{"[a"}}, "[a"},
		"broken archive": {Options{Root: filepath.Join(root, "etc/passwd"), Name: "web"}, "passwd"},
	} {
		_, err := Make(t.Context(), store, c.opts)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var bad *reference.Error
	if _, err := Make(t.Context(), store, Options{Root: root, Name: "Web"}); !errors.As(err, &bad) {
		t.Errorf("a bad name gave a %T", err)
	}
	if list, err := List(t.Context(), store); err != nil || len(list) != 0 {
		t.Errorf("failed stashes left %v, %v", list, err)
	}
}

func TestCancelledStashLeavesNothing(t *testing.T) {
	store, _ := openStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Make(ctx, store, Options{Root: rootTree(t), Name: "web"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if list, err := List(t.Context(), store); err != nil || len(list) != 0 {
		t.Errorf("left %v, %v", list, err)
	}
}

func TestStandardToolsReadTheStore(t *testing.T) {
	testenv.NeedProgram(t, "skopeo")
	testenv.NeedProgram(t, "umoci")
	store, dir := openStore(t)
	root := rootTree(t)
	mustMake(t, store, Options{Root: root, Name: "web"})
	if err := os.Remove(filepath.Join(root, "etc/old")); err != nil {
		t.Fatal(err)
	}
	result := mustMake(t, store, Options{Root: root, Name: "web"})
	out := testenv.Run(t, "skopeo", "inspect", "oci:"+dir+":web:latest")
	if !strings.Contains(out, result.Digest) {
		t.Errorf("skopeo sees another container: %s", out)
	}
	if out := testenv.Run(t, "umoci", "ls", "--layout", dir); !strings.Contains(out, "web:latest") {
		t.Errorf("umoci ls says %q", out)
	}
	bundle := filepath.Join(t.TempDir(), "bundle")
	if out, err := exec.Command("umoci", "unpack", "--image", dir+":web:latest", bundle).CombinedOutput(); err != nil {
		t.Fatalf("umoci unpack: %v: %s", err, out)
	}
	if _, err := os.Lstat(filepath.Join(bundle, "rootfs/etc/old")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("umoci sees the deleted file: %v", err)
	}
	if info, err := os.Lstat(filepath.Join(bundle, "rootfs/usr/bin/same")); err != nil || info.Mode()&os.ModeSetuid == 0 {
		t.Errorf("the hard link is %v, %v", info, err)
	}
}
