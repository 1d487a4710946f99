package system

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/stash/stashtest"
)

// derivedType is an image that starts from the container base.
const derivedType = `<type image="oci" derived_from="base:latest"><containerconfig name="c"/></type><type image="tbz" primary="true"/>`

// base is a store with a container of that name, in which no program can run.
func base(t *testing.T) *registry.Client {
	t.Helper()
	return stashtest.Client(t, map[string]map[string]string{"base": {
		"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/shadow": "root:*:1::::::\n", "root/": "", "etc/issue": "base\n",
	}})
}

func prepareOptions(client *registry.Client, description, root string) PrepareOptions {
	opts := PrepareOptions{Options: from(client, description), Root: root}
	opts.Selection.Type = "oci"
	return opts
}

func TestPrepareThenCreateIsBuild(t *testing.T) {
	client, top := base(t), t.TempDir()
	dir := describedBy(t, aDescription("web", derivedType))
	writeFile(t, filepath.Join(dir, "root/etc/motd"), "welcome\n")
	root := filepath.Join(top, "root")
	made, err := Prepare(t.Context(), prepareOptions(client, dir, root))
	if err != nil {
		t.Fatal(err)
	}
	if made.Root != root {
		t.Errorf("the root tree is %s", made.Root)
	}
	for name, want := range map[string]string{"etc/issue": "base\n", "etc/motd": "welcome\n"} {
		if data, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(data) != want {
			t.Errorf("%s holds %q, %v", name, data, err)
		}
	}
	for _, name := range []string{"image/config.xml", ".profile", ".kconfig"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
	before := below(t, root)
	// The type is that of the preparation, though another is the description's primary one.
	created, err := Create(t.Context(), CreateOptions{Options: from(client, ""), Root: root, TargetDir: filepath.Join(top, "created")})
	if err != nil {
		t.Fatal(err)
	}
	if name := created.Results.Files[0].Path; !strings.HasSuffix(name, ".oci.tar") {
		t.Errorf("the image is %s", name)
	}
	if diff := cmp.Diff(before, below(t, root)); diff != "" {
		t.Errorf("the root tree was changed: %s", diff)
	}
	build := BuildOptions{Options: prepareOptions(client, dir, "").Options, TargetDir: filepath.Join(top, "built")}
	if _, err := Build(t.Context(), build); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"SHA256SUMS", LockFile} {
		one, err := os.ReadFile(filepath.Join(top, "created", name))
		if err != nil {
			t.Fatal(err)
		}
		other, err := os.ReadFile(filepath.Join(top, "built", name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(one), string(other)); diff != "" {
			t.Errorf("%s differs between prepare and create, and build: %s", name, diff)
		}
	}
	if diff := cmp.Diff([]string{"built", "created", "root", "root.log"}, names(t, top)); diff != "" {
		t.Error(diff)
	}
}

// names lists what is in a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestExistingRootTree(t *testing.T) {
	client, root := base(t), filepath.Join(t.TempDir(), "root")
	dir := describedBy(t, aDescription("web", derivedType))
	writeFile(t, filepath.Join(root, "etc/mine"), "of before\n")
	opts := prepareOptions(client, dir, root)
	if _, err := Prepare(t.Context(), opts); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "--allow-existing-root") {
		t.Errorf("over an existing root tree: %v", err)
	}
	opts.AllowExistingRoot = true

	broken := opts
	broken.Description = describedBy(t, strings.Replace(aDescription("web", derivedType), `<packages type="image"/>`, `<packages type="image"><archive name="none.tar"/></packages>`, 1))
	if _, err := Prepare(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "none.tar") {
		t.Errorf("with a missing archive: %v", err)
	}
	if diff := cmp.Diff([]string{"etc", "etc/mine"}, below(t, root)); diff != "" {
		t.Errorf("after an error the root tree is another: %s", diff)
	}

	writeFile(t, filepath.Join(dir, "root/etc/motd"), "welcome\n")
	if _, err := Prepare(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"etc/mine": "of before\n", "etc/motd": "welcome\n"} {
		if data, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(data) != want {
			t.Errorf("%s holds %q, %v", name, data, err)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "etc/issue")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the container was put over the root tree: %v", err)
	}
	if diff := cmp.Diff([]string{"root", "root.log"}, names(t, filepath.Dir(root))); diff != "" {
		t.Error(diff)
	}
}

func TestCancelledPrepareLeavesNothing(t *testing.T) {
	client, top := base(t), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Prepare(ctx, prepareOptions(client, describedBy(t, aDescription("web", derivedType)), filepath.Join(top, "a/root")))
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left := below(t, top); left != nil {
		t.Errorf("left %v", left)
	}
}

func TestLockedBuild(t *testing.T) {
	client, top := base(t), t.TempDir()
	opts := BuildOptions{Options: prepareOptions(client, describedBy(t, aDescription("web", derivedType)), "").Options, TargetDir: filepath.Join(top, "one")}
	opts.LockFile = filepath.Join(top, "kept.lock")
	if _, err := Build(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	lock, err := ReadLock(filepath.Join(top, "one", LockFile))
	if err != nil {
		t.Fatal(err)
	}
	if besides, err := ReadLock(opts.LockFile); err != nil || !cmp.Equal(lock, besides) {
		t.Errorf("the lock file besides: %v, %v", besides, err)
	}
	if len(lock.Containers) != 1 || lock.Containers[0].Name != "base:latest" {
		t.Errorf("containers %v", lock.Containers)
	}
	opts.LockFile, opts.Locked, opts.TargetDir = "", lock, filepath.Join(top, "two")
	if _, err := Build(t.Context(), opts); err != nil {
		t.Errorf("locked: %v", err)
	}
	lock.Containers[0].Digest = sum2
	if _, err := Build(t.Context(), opts); err == nil || !strings.Contains(err.Error(), sum2) {
		t.Errorf("with a lock on a container that is not there: %v", err)
	}
	lock.Containers = nil
	var differs *LockError
	if _, err := Build(t.Context(), opts); !errors.As(err, &differs) {
		t.Errorf("with a lock on another container: %v", err)
	}
}

// TestLockInAHostileTree lets the root tree's /image lead out of it.
func TestLockInAHostileTree(t *testing.T) {
	client := stashtest.Client(t, map[string]map[string]string{"base": {"etc/issue": "base"}})
	top := t.TempDir()
	root, victim := filepath.Join(top, "root"), filepath.Join(top, "victim")
	writeFile(t, filepath.Join(victim, "kept"), "")
	if _, err := Prepare(t.Context(), prepareOptions(client, describedBy(t, aDescription("web", derivedType)), root)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(root, "image")), os.Symlink(victim, filepath.Join(root, "image"))); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), CreateOptions{Options: from(client, ""), Root: root, TargetDir: filepath.Join(top, "out")}); err == nil {
		t.Error("a description was read outside of the root tree")
	}
	opts := prepareOptions(client, describedBy(t, aDescription("web", derivedType)), root)
	opts.AllowExistingRoot = true
	if _, err := Prepare(t.Context(), opts); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"kept"}, names(t, victim)); diff != "" {
		t.Errorf("outside of the root tree: %s", diff)
	}
}

func TestCreateRefuses(t *testing.T) {
	client := base(t)
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "etc/issue"), "")
	for root, want := range map[string]string{root: "no description in /image", filepath.Join(root, "none"): "none"} {
		target := filepath.Join(t.TempDir(), "out")
		_, err := Create(t.Context(), CreateOptions{Options: from(client, ""), Root: root, TargetDir: target})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", root, err)
		}
		if _, err := os.Stat(target); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the target was made", root)
		}
	}
}

func TestPackageCacheIsEmptiedOnlyIfItIsOne(t *testing.T) {
	client, top := base(t), t.TempDir()
	opts := prepareOptions(client, describedBy(t, aDescription("web", derivedType)), filepath.Join(top, "root"))
	opts.PackageCache, opts.AllowExistingRoot = filepath.Join(top, "cache"), true
	if _, err := Prepare(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(opts.PackageCache, "apt/old.deb"), "")
	opts.ClearCache = true
	if _, err := Prepare(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{cacheTag}, names(t, opts.PackageCache)); diff != "" {
		t.Error(diff)
	}
	opts.PackageCache = filepath.Join(top, "home")
	writeFile(t, filepath.Join(opts.PackageCache, "letter"), "")
	if _, err := Prepare(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "not made by imgbuild") {
		t.Errorf("emptying a directory of somebody: %v", err)
	}
	if diff := cmp.Diff([]string{"letter"}, names(t, opts.PackageCache)); diff != "" {
		t.Error(diff)
	}
}

func TestPackageCacheThatCannotBe(t *testing.T) {
	client, top := base(t), t.TempDir()
	opts := prepareOptions(client, describedBy(t, aDescription("web", derivedType)), filepath.Join(top, "root"))
	file := filepath.Join(top, "file")
	writeFile(t, file, "")
	opts.PackageCache = filepath.Join(file, "cache")
	if _, err := Prepare(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "--package-cache") {
		t.Errorf("asked for: %v", err)
	}
	opts.CacheIfPossible = true
	if _, err := Prepare(t.Context(), opts); err != nil {
		t.Errorf("the default: %v", err)
	}
}

func TestDerivedFromNames(t *testing.T) {
	client, top := base(t), t.TempDir()
	opts := BuildOptions{Options: prepareOptions(client, describedBy(t, aDescription("web", derivedType)), "").Options, TargetDir: filepath.Join(top, "out")}
	built, err := Build(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	archive := built.Results.Files[0].Path
	j, err := newJob(opts.Options, false)
	if err != nil {
		t.Fatal(err)
	}
	j.image.Dir = filepath.Dir(archive)
	for uri, want := range map[string]string{
		"base:latest":                             "base:latest",
		"docker://example.org/a:1":                "docker://example.org/a:1",
		"containers-storage:localhost/a":          "containers-storage:localhost/a",
		"file://" + archive:                       "oci-archive:" + archive,
		"file://" + filepath.Base(archive):        "oci-archive:" + archive,
		"file:" + filepath.Base(archive):          "oci-archive:" + archive,
		"file://localhost" + archive:              "oci-archive:" + archive,
		"file://../out/" + filepath.Base(archive): "oci-archive:" + archive,
		"obs://home:me:branches/images/base#15.6": "registry.opensuse.org/home/me/branches/images/base:15.6",
	} {
		if got, err := j.baseName(t.Context(), uri); err != nil || got != want {
			t.Errorf("%s is %s, %v", uri, got, err)
		}
	}
	j.OpenBuildService = "https://download.example.org/repositories"
	if got, err := j.baseName(t.Context(), "obs://A/b/c"); err != nil || got != "registry.example.org/a/b/c" {
		t.Error(got, err)
	}
	j.Offline = true
	if got, err := j.baseName(t.Context(), "docker://example.org/a:1"); err != nil || got != "example.org/a:1" {
		t.Error(got, err)
	}
	for _, uri := range []string{"file:///etc/passwd", "file:///none", "obs://A"} {
		if got, err := j.baseName(t.Context(), uri); err == nil {
			t.Errorf("%s is %s", uri, got)
		}
	}
	data, err := json.Marshal(built)
	if err != nil || !strings.Contains(string(data), `"results"`) {
		t.Errorf("%s, %v", data, err)
	}
}
