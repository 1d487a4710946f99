package podman

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testimage"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/registry/store"
)

func TestMain(m *testing.M) {
	if Init() {
		return
	}
	userns.MustEnter()
	if spec := os.Getenv("PODMAN_TEST_CHURN"); spec != "" {
		if err := churn(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// place is a storage of its own for one test.
type place struct{ driver, root, run string }

func (p place) spec() string { return p.driver + "@" + p.root + "+" + p.run }

// args are podman's flags for this storage.
func (p place) args(more ...string) []string {
	return append([]string{"--root", p.root, "--runroot", p.run, "--storage-driver", p.driver}, more...)
}

// needPodman leaves a test out where podman itself can't work: with overlay it mounts, which our user namespace does not allow.
func (p place) needPodman(t *testing.T) {
	if p.driver == overlay && testenv.InUserNamespace() {
		t.Skip("not possible here: podman mounts the overlay driver's directory, which takes a mount namespace")
	}
}

// unmount takes away the bind mount of the overlay driver's directory that podman itself leaves behind.
func (p place) unmount(t *testing.T) {
	if p.driver == overlay {
		testenv.Run(t, "umount", filepath.Join(p.root, "overlay"))
	}
}

// each runs a test with both drivers and checks that it leaves no mount behind.
func each(t *testing.T, fn func(t *testing.T, p place)) {
	testenv.NeedRoot(t)
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "ib") // podman refuses long paths for its run root
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			})
			p := place{driver, filepath.Join(dir, "root"), filepath.Join(dir, "run")}
			fn(t, p)
			if left := mounts(t, dir); left != "" {
				t.Errorf("mounts stay: %s", left)
			}
		})
	}
}

// mounts are those below a directory.
func mounts(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, dir+"/") {
			own = append(own, line)
		}
	}
	return strings.Join(own, "")
}

func openTest(t *testing.T, p place) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Spec: p.spec()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// testImage returns base (nil: none) with one more layer.
func testImage(t testing.TB, base v1.Image, name, content string) v1.Image {
	t.Helper()
	then := time.Unix(1_700_000_000, 0)
	if base == nil {
		base = testimage.Empty(t, func(c *v1.ConfigFile) {
			c.Created = v1.Time{Time: then.UTC()}
			c.Config.Entrypoint = []string{"/bin/sh"}
		})
	}
	return testimage.Append(t, base, testimage.Layer(t, types.OCILayer, content,
		tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755, ModTime: then},
		tar.Header{Typeflag: tar.TypeReg, Name: "etc/" + name, Mode: 0o4750, Uid: 12, Gid: 34, ModTime: then,
			PAXRecords: map[string]string{"SCHILY.xattr.user.note": "kept"}},
		tar.Header{Typeflag: tar.TypeLink, Name: "etc/" + name + ".link", Linkname: "etc/" + name, Mode: 0o4750, Uid: 12, Gid: 34, ModTime: then},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "etc/" + name + ".symlink", Linkname: name, Mode: 0o777, ModTime: then},
	), v1.History{})
}

func tars(t testing.TB, img v1.Image) []string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		all = append(all, string(data))
	}
	return all
}

// TestReadingEndsEarly reads the beginnings of a layer: the streams leave no goroutine behind, and closing them ends.
func TestReadingEndsEarly(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		s := openTest(t, p)
		if err := s.PutImage(t.Context(), "x", testImage(t, nil, "a", strings.Repeat("content", 10000))); err != nil {
			t.Fatal(err)
		}
		img, err := s.Image(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		list, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		before := runtime.NumGoroutine()
		for i := range 300 {
			r, err := list[0].Compressed()
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.CopyN(io.Discard, r, int64(i%5*512)); err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		after := runtime.NumGoroutine()
		for end := time.Now().Add(10 * time.Second); after > before && time.Now().Before(end); after = runtime.NumGoroutine() {
			time.Sleep(10 * time.Millisecond)
		}
		if after > before {
			t.Errorf("%d goroutines never end", after-before)
		}
	})
}

func TestPodmanSeesIt(t *testing.T) {
	podman := testenv.NeedProgram(t, "podman")
	skopeo := testenv.NeedProgram(t, "skopeo")
	each(t, func(t *testing.T, p place) {
		p.needPodman(t)
		ctx := t.Context()
		s := openTest(t, p)
		img := testImage(t, nil, "a", "one")
		if err := s.PutImage(ctx, "leap:15.3", img); err != nil {
			t.Fatal(err)
		}
		err := s.Update(ctx, "leap:15.3", func(_ context.Context, old v1.Image) (v1.Image, error) { return testImage(t, old, "b", "two"), nil })
		if err != nil {
			t.Fatal(err)
		}
		var list []struct {
			Names  []string
			Digest string
		}
		if err := json.Unmarshal([]byte(testenv.Run(t, podman, p.args("images", "--format", "json", "--filter", "dangling=false")...)), &list); err != nil {
			t.Fatal(err)
		}
		entries, err := s.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != 1 || !cmp.Equal(list[0].Names, []string{"localhost/leap:15.3"}) || len(entries) != 1 || list[0].Digest != entries[0].Digest.String() {
			t.Errorf("podman lists %+v, we %+v", list, entries)
		}
		if e := entries[0]; e.FullName() != "leap:15.3" || e.Layers != 2 || e.Problem != nil || e.Created.Unix() != 1_700_000_000 {
			t.Errorf("%+v", e)
		}
		mnt := strings.TrimSpace(testenv.Run(t, podman, p.args("image", "mount", "leap:15.3")...))
		for name, want := range map[string]string{"a": "one", "b": "two", "a.link": "one", "b.symlink": "two"} {
			if data, err := os.ReadFile(filepath.Join(mnt, "etc", name)); err != nil || string(data) != want {
				t.Errorf("%s: %q, %v", name, data, err)
			}
		}
		info, err := os.Stat(filepath.Join(mnt, "etc/a"))
		if err != nil || info.Mode() != 0o750|os.ModeSetuid {
			t.Errorf("mode of a: %v, %v", info.Mode(), err)
		}
		testenv.Run(t, podman, p.args("image", "umount", "leap:15.3")...)

		dir := t.TempDir()
		testenv.Run(t, podman, p.args("push", "-q", "leap:15.3", "oci:"+dir+"/pushed:x")...)
		testenv.Run(t, skopeo, "--insecure-policy", "copy", "-q", "containers-storage:["+p.spec()+"]localhost/leap:15.3", "oci:"+dir+"/copied:x")
		if out := testenv.Run(t, skopeo, "inspect", "--format", "{{len .Layers}}", "oci:"+dir+"/copied:x"); strings.TrimSpace(out) != "2" {
			t.Errorf("skopeo copied %s layers", out)
		}
		p.unmount(t)
	})
}

func TestReadsWhatPodmanHas(t *testing.T) {
	podman := testenv.NeedProgram(t, "podman")
	skopeo := testenv.NeedProgram(t, "skopeo")
	each(t, func(t *testing.T, p place) {
		p.needPodman(t)
		ctx := t.Context()
		if Exists(Options{Spec: p.spec()}) {
			t.Error("a storage exists that nobody made")
		}
		img := testImage(t, testImage(t, nil, "a", "one"), "b", strings.Repeat("two", 10_000))
		file := filepath.Join(t.TempDir(), "x.tar")
		ref := mustTag(t, "registry.example.org/leap:15.3")
		if err := tarball.WriteToFile(file, ref, img); err != nil {
			t.Fatal(err)
		}
		testenv.Run(t, podman, p.args("load", "-q", "-i", file)...)
		testenv.Run(t, podman, p.args("tag", "registry.example.org/leap:15.3", "own")...)
		testenv.Run(t, skopeo, "--insecure-policy", "copy", "-q", "docker-archive:"+file, "containers-storage:["+p.spec()+"]other:1")
		p.unmount(t)
		if !Exists(Options{Spec: p.spec()}) {
			t.Error("the storage is not seen")
		}
		s := openTest(t, p)
		entries, err := s.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.FullName())
		}
		if diff := cmp.Diff([]string{"docker.io/library/other:1", "own:latest", "registry.example.org/leap:15.3"}, names); diff != "" {
			t.Error(diff)
		}
		got, err := s.Image(ctx, "own")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tars(t, img), tars(t, got)); diff != "" {
			t.Error("the layers differ")
		}
		checkBlobs(t, s, got)
	})
}

// checkBlobs reads layers at any offset, and keeps an index beside them.
func checkBlobs(t *testing.T, s *Store, img v1.Image) {
	t.Helper()
	for i, want := range tars(t, img) {
		d := digest.FromString(want)
		blob, err := s.Blob(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range []int64{0, 100, int64(len(want)) - 10} {
			buf := make([]byte, 10)
			if _, err := blob.ReadAt(buf, off); err != nil || string(buf) != want[off:off+10] {
				t.Errorf("layer %d at %d: %v", i, off, err)
			}
		}
		if blob.Size() != int64(len(want)) {
			t.Errorf("layer %d has %d bytes, not %d", i, blob.Size(), len(want))
		}
		if err := blob.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Index(d); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("index of layer %d: %v", i, err)
		}
		if err := s.PutIndex(t.Context(), d, func(w io.Writer) error { _, err := w.Write([]byte("index")); return err }); err != nil {
			t.Fatal(err)
		}
		r, err := s.Index(d)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(r); err != nil || string(data) != "index" {
			t.Errorf("index of layer %d: %q, %v", i, data, err)
		}
		r.Close()
	}
}

func TestTagRemovePrune(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		ctx := t.Context()
		s := openTest(t, p)
		first := testImage(t, nil, "a", "one")
		for _, img := range []v1.Image{first, testImage(t, first, "b", "two")} {
			if err := s.PutImage(ctx, "a", img); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.PutImage(ctx, "b:1", testImage(t, nil, "c", "three")); err != nil {
			t.Fatal(err)
		}
		if err := s.Tag(ctx, "a", "other.example.org/x:2"); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(ctx, "b:1"); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(ctx, "b:1"); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		if _, err := s.Prune(ctx); err != nil {
			t.Fatal(err)
		}
		img, err := s.Image(ctx, "other.example.org/x:2")
		if err != nil {
			t.Fatal(err)
		}
		if n := len(tars(t, img)); n != 2 {
			t.Errorf("%d layers", n)
		}
		images, err := s.store.Images()
		if err != nil || len(images) != 1 {
			t.Errorf("%d images left, %v", len(images), err)
		}
		layers, err := s.store.Layers()
		if err != nil || len(layers) != 2 {
			t.Errorf("%d layers left, %v", len(layers), err)
		}
	})
}

func TestWrongDigest(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		s := openTest(t, p)
		img := testImage(t, nil, "a", "one")
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		config = config.DeepCopy()
		config.RootFS.DiffIDs[0].Hex = strings.Repeat("0", 64)
		bad, err := mutate.ConfigFile(img, config)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.PutImage(t.Context(), "a", bad); err == nil {
			t.Error("a layer with another digest was stored")
		} else {
			t.Log(err)
		}
		if layers, err := s.store.Layers(); err != nil || len(layers) > 0 {
			t.Errorf("%d layers are left over, %v", len(layers), err)
		}
	})
}

func TestUpdatesDoNotGetLost(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		s := openTest(t, p)
		var wg sync.WaitGroup
		for _, name := range []string{"a", "b", "c"} {
			wg.Go(func() {
				err := s.Update(t.Context(), "x", func(_ context.Context, old v1.Image) (v1.Image, error) { return testImage(t, old, name, name), nil })
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		img, err := s.Image(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		if n := len(tars(t, img)); n != 3 {
			t.Errorf("%d layers of 3", n)
		}
	})
}

// TestLayerOnOthers puts a layer that the storage has on top of others: reading and writing one storage at once must not stop.
func TestLayerOnOthers(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		ctx := t.Context()
		s := openTest(t, p)
		if err := s.PutImage(ctx, "a", testImage(t, nil, "a", strings.Repeat("x", 200_000))); err != nil {
			t.Fatal(err)
		}
		a, err := s.Image(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		layers, err := a.Layers()
		if err != nil {
			t.Fatal(err)
		}
		b, err := mutate.Append(testImage(t, nil, "b", "below"), mutate.Addendum{Layer: layers[0], MediaType: types.OCIUncompressedLayer})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.PutImage(ctx, "b", b); err != nil {
			t.Fatal(err)
		}
		got, err := s.Image(ctx, "b")
		if err != nil {
			t.Fatal(err)
		}
		if all := tars(t, got); len(all) != 2 || all[1] != tars(t, a)[0] {
			t.Error("the layer is another")
		}
	})
}
