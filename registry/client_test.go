package registry

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	inprocess "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testimage"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/registry/podman"
	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/registry/remote"
)

// TestMain gives the process a storage of podman's of its own before the storage library reads where it is.
func TestMain(m *testing.M) {
	if Init() {
		return
	}
	userns.MustEnter()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ib") // podman refuses long paths for its run root
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	conf := filepath.Join(dir, "storage.conf")
	text := fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", dir+"/root", dir+"/run")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if os.Getenv("REGISTRY_TEST_HOME") == "" { // that test wants the user's own storage
		os.Setenv("CONTAINERS_STORAGE_CONF", conf)
	}
	return m.Run()
}

// newRegistry starts a registry on loopback and returns its HOST:PORT.
func newRegistry(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(inprocess.New(inprocess.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func newClient(t *testing.T, where string) *Client {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "registries.conf")
	if err := os.WriteFile(conf, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(Options{Store: where, Remote: remote.Options{RegistriesConf: conf, Retries: -1, RetryDelay: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// testImage returns an image in the OCI's form or Docker's with one gzip layer that holds the file etc/NAME.
func testImage(t testing.TB, name string, docker bool) v1.Image {
	t.Helper()
	img, layerType := testimage.Empty(t, nil), types.OCILayer
	if docker {
		img, layerType = testimage.WithConfig(t, empty.Image, nil), types.DockerLayer
	}
	layer := testimage.Layer(t, layerType, name, tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755}, tar.Header{Typeflag: tar.TypeReg, Name: "etc/" + name, Mode: 0o644})
	return testimage.Append(t, img, layer, v1.History{Comment: "layer of " + name, CreatedBy: "a test"})
}

func putImage(t *testing.T, s Store, name string, img v1.Image) {
	t.Helper()
	if err := s.Update(t.Context(), name, func(context.Context, v1.Image) (v1.Image, error) { return img, nil }); err != nil {
		t.Fatal(err)
	}
}

// fill pushes an image to a registry.
func fill(t *testing.T, name string, img v1.Image) {
	t.Helper()
	c, err := remote.New(remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reference.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Push(t.Context(), img, ref, remote.PushOptions{}); err != nil {
		t.Fatal(err)
	}
}

// comment tells which test image one is.
func comment(t *testing.T, img *Image) string {
	t.Helper()
	d, err := Inspect(img)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(d.Layers[0].Comment, "layer of ")
}

func fetch(t *testing.T, c *Client, name string, opts FetchOptions) *Image {
	t.Helper()
	opts.Platform = "linux/amd64"
	img, err := c.Fetch(t.Context(), name, opts)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestFetchFromRegistry(t *testing.T) {
	for _, docker := range []bool{false, true} {
		t.Run(fmt.Sprintf("docker=%v", docker), func(t *testing.T) {
			reg := newRegistry(t)
			name := reg + "/a/b:1"
			img := testImage(t, "x", docker)
			fill(t, name, img)
			c := newClient(t, t.TempDir())
			plan, err := c.Plan(t.Context(), name, FetchOptions{Platform: "linux/amd64"})
			if err != nil {
				t.Fatal(err)
			}
			if plan.Where != reg || plan.PullBytes == 0 || plan.PullBytes != plan.Size || plan.Layers != 1 {
				t.Errorf("%+v", plan)
			}
			if _, err := c.Fetch(t.Context(), name, FetchOptions{Pull: PullNever}); !errors.Is(err, ErrNotFound) {
				t.Errorf("never pulling gave %v", err)
			}
			got := fetch(t, c, name, FetchOptions{})
			if got.From != reg || got.Name != name || comment(t, got) != "x" {
				t.Errorf("%+v", got)
			}
			again := fetch(t, c, name, FetchOptions{})
			if again.From != "store" {
				t.Errorf("the second time it came from %s", again.From)
			}
			plan, err = c.Plan(t.Context(), name, FetchOptions{})
			if err != nil || plan.Where != "store" || plan.PullBytes != 0 {
				t.Errorf("%+v, %v", plan, err)
			}
			sum, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			byDigest := fetch(t, c, reg+"/a/b@"+sum.String(), FetchOptions{})
			if byDigest.From != "store" {
				t.Errorf("by digest it came from %s", byDigest.From)
			}
			fill(t, name, testImage(t, "y", docker))
			if got := fetch(t, c, name, FetchOptions{Pull: PullAlways}); comment(t, got) != "y" {
				t.Error("always pulling gave the old one")
			}
			if got := fetch(t, c, "docker://"+name, FetchOptions{}); got.From != reg {
				t.Errorf("docker:// took it from %s", got.From)
			}
		})
	}
}

func TestFromRegistry(t *testing.T) {
	first, second := newRegistry(t), newRegistry(t)
	fill(t, second+"/ns/leap:15.3", testImage(t, "second", false))
	fill(t, second+"/ns/deb:12", testImage(t, "wrong", false))
	fill(t, first+"/deb:12", testImage(t, "first", false))
	c := newClient(t, t.TempDir())
	opts := FetchOptions{From: []string{first, second + "/ns"}}
	for name, want := range map[string]string{"leap:15.3": "second", "deb:12": "first"} {
		got := fetch(t, c, name, opts)
		if comment(t, got) != want {
			t.Errorf("%s is that of the %s registry", name, comment(t, got))
		}
		if again := fetch(t, c, name, opts); again.From != "store" || again.Name != got.Name {
			t.Errorf("%s: the second time %s from %s", name, again.Name, again.From)
		}
		if short := fetch(t, c, name, FetchOptions{}); short.Name != got.Name {
			t.Errorf("%s without a registry is %s", name, short.Name)
		}
	}
	putImage(t, c.Store(), "leap:15.3", testImage(t, "own", false))
	if got := fetch(t, c, "leap:15.3", opts); comment(t, got) != "own" {
		t.Error("a container of the store was not preferred")
	}
	_, err := c.Fetch(t.Context(), "none", opts)
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), first) || !strings.Contains(err.Error(), second) {
		t.Errorf("what is nowhere: %v", err)
	}
}

func TestShortNames(t *testing.T) {
	c := newClient(t, t.TempDir())
	a, b := testImage(t, "a", false), testImage(t, "b", false)
	putImage(t, c.Store(), "one.example.org/x/leap:1", a)
	if got := fetch(t, c, "leap:1", FetchOptions{Pull: PullNever}); got.Name != "one.example.org/x/leap:1" {
		t.Errorf("found %s", got.Name)
	}
	putImage(t, c.Store(), "two.example.org/leap:1", a)
	fetch(t, c, "leap:1", FetchOptions{Pull: PullNever}) // two names of one container are no question
	putImage(t, c.Store(), "two.example.org/leap:1", b)
	var ambiguous *AmbiguousError
	if _, err := c.Fetch(t.Context(), "leap:1", FetchOptions{}); !errors.As(err, &ambiguous) || len(ambiguous.Names) != 2 {
		t.Errorf("two of that name gave %v", err)
	}
	if _, err := c.Fetch(t.Context(), "eap:1", FetchOptions{Pull: PullNever}); !errors.Is(err, ErrNotFound) {
		t.Errorf("the end of a name gave %v", err)
	}
	_, err := c.Fetch(t.Context(), "two.example.org/leap:1", FetchOptions{Platform: "linux/arm64", Pull: PullNever})
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "two.example.org/leap:1, which is here in store, is for linux/amd64 and not for linux/arm64") {
		t.Errorf("another platform gave %v", err)
	}
	putImage(t, c.Store(), "127.0.0.1:1/leap:1", a)
	for what, ask := range map[string]func() error{
		"Fetch": func() error {
			_, err := c.Fetch(t.Context(), "127.0.0.1:1/leap:1", FetchOptions{Platform: "linux/arm64"})
			return err
		},
		"Plan": func() error {
			_, err := c.Plan(t.Context(), "127.0.0.1:1/leap:1", FetchOptions{Platform: "linux/arm64"})
			return err
		},
	} {
		if err := ask(); err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "nothing listens") || !strings.Contains(err.Error(), "is for linux/amd64") {
			t.Errorf("%s of what is here for another platform, from a registry that is not there, gave %v", what, err)
		}
	}
}

// TestCopy takes a container through every transport, and back into the store.
func TestCopy(t *testing.T) {
	testenv.NeedRoot(t)
	ctx := t.Context()
	reg := newRegistry(t)
	for _, docker := range []bool{false, true} {
		dir := t.TempDir()
		c := newClient(t, filepath.Join(dir, "store"))
		img := testImage(t, "x", docker)
		putImage(t, c.Store(), "start:1", img)
		want := contents(t, img)
		at := "start:1"
		other := filepath.Join(dir, "other")
		putImage(t, newClient(t, other).Store(), "first", img)
		for i, next := range []string{
			"oci:" + dir + "/layout:a:1", "oci-archive:" + dir + "/a.tar", "docker-archive:" + dir + "/d.tar:leap:1", "dir:" + dir + "/dir",
			"docker://" + reg + "/x/y:1", "containers-storage:x:1", "docker://" + reg + "/x/z:1", "oci:" + other + ":b:2", "end:1",
		} {
			sum, err := c.Copy(ctx, at, next, FetchOptions{Platform: "linux/amd64"})
			if err != nil {
				t.Fatalf("%d: from %s to %s: %v", i, at, next, err)
			}
			got := fetch(t, c, next, FetchOptions{})
			inDockersForm := strings.HasPrefix(next, "docker://") // as it came from an archive of Docker's, while the store keeps it in the OCI's
			if sum != "" && got.Digest != sum && !inDockersForm {
				t.Errorf("%s: its digest is %s, Copy said %s", next, got.Digest, sum)
			}
			if diff := cmp.Diff(want, contents(t, got.Image)); diff != "" {
				t.Errorf("%s: %s", next, diff)
			}
			at = next
		}
		if err := c.Store().Remove(ctx, "end:1"); err != nil {
			t.Fatal(err)
		}
	}
}

func contents(t *testing.T, img v1.Image) []string {
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
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		all = append(all, string(data))
	}
	return all
}

func TestPullIntoTheStore(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	from, to := newClient(t, filepath.Join(dir, "a")), newClient(t, filepath.Join(dir, "b"))
	putImage(t, from.Store(), "x:1", testImage(t, "x", false))
	for _, archive := range []string{"oci-archive:" + dir + "/o.tar", "docker-archive:" + dir + "/d.tar", "oci:" + dir + "/l", "dir:" + dir + "/d"} {
		if _, err := from.Copy(ctx, "x:1", archive, FetchOptions{}); err != nil {
			t.Fatal(err)
		}
		got, err := to.Pull(ctx, archive, FetchOptions{Platform: "linux/amd64"})
		if strings.HasPrefix(archive, "dir:") {
			if err == nil || !strings.Contains(err.Error(), "no name") {
				t.Errorf("%s: %v", archive, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if stored := fetch(t, to, "x:1", FetchOptions{Pull: PullNever}); stored.Digest != got.Digest || comment(t, stored) != "x" {
			t.Errorf("%s: %+v is stored as %+v", archive, got, stored)
		}
		if err := to.Store().Remove(ctx, "x:1"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPush(t *testing.T) {
	ctx := t.Context()
	reg := newRegistry(t)
	c := newClient(t, t.TempDir())
	putImage(t, c.Store(), "a:1", testImage(t, "x", false))
	if _, err := c.Push(ctx, "a:1", ""); err == nil || !strings.Contains(err.Error(), "registry.example.org/a") {
		t.Errorf("a push to nowhere: %v", err)
	}
	sum, err := c.Push(ctx, "a:1", reg+"/b:2")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Store().Tag(ctx, "a:1", reg+"/c:3"); err != nil {
		t.Fatal(err)
	}
	again, err := c.Push(ctx, reg+"/c:3", "")
	if err != nil || again != sum {
		t.Errorf("%s, not %s: %v", again, sum, err)
	}
	if _, err := c.Push(ctx, "none", reg+"/none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("pushing what is not there: %v", err)
	}
}

// TestFindsPodmansContainers looks in podman's storage beside the store.
func TestFindsPodmansContainers(t *testing.T) {
	testenv.NeedRoot(t)
	s, err := podman.Open(t.Context(), podman.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	img := testImage(t, "podmans", false)
	if err := s.PutImage(t.Context(), "beside:7", img); err != nil {
		t.Fatal(err)
	}
	if err := s.PutImage(t.Context(), "quay.example.org/x/far:1", img); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, filepath.Join(t.TempDir(), "store"))
	for name, want := range map[string]string{"beside:7": "beside:7", "localhost/beside:7": "localhost/beside:7", "far:1": "quay.example.org/x/far:1"} {
		got := fetch(t, c, name, FetchOptions{Pull: PullNever})
		if got.From != "podman" || got.Name != want {
			t.Errorf("%s: %s from %s", name, got.Name, got.From)
		}
		blob, err := got.Blob(digest.FromString(contents(t, img)[0]))
		if err != nil {
			t.Fatal(err)
		}
		if err := blob.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPodmansStorageAsStore works in podman's storage as the store, as a stash does.
func TestPodmansStorageAsStore(t *testing.T) {
	testenv.NeedRoot(t)
	ctx := t.Context()
	c := newClient(t, PodmanStore)
	reg := newRegistry(t)
	fill(t, reg+"/far:1", testImage(t, "far", true))
	if got := fetch(t, c, reg+"/far:1", FetchOptions{}); comment(t, got) != "far" || got.Name != reg+"/far:1" {
		t.Errorf("%+v", got)
	}
	s := c.Store()
	if s.KeepsBlobs() {
		t.Error("podman keeps blobs?")
	}
	base := testImage(t, "base", false)
	plain := contents(t, testImage(t, "top", false))[0]
	err := s.Update(ctx, "work:1", func(ctx context.Context, old v1.Image) (v1.Image, error) {
		if old != nil {
			t.Error("there is an old one")
		}
		w, err := s.NewBlob(ctx)
		if err != nil {
			return nil, err
		}
		defer w.Abort()
		if _, err := io.WriteString(w, plain); err != nil {
			return nil, err
		}
		sum := digest.FromString(plain)
		layer, err := w.Commit(ctx, Packed{Digest: sum, DiffID: sum, Size: int64(len(plain)), TarSize: int64(len(plain)), MediaType: string(types.OCIUncompressedLayer)})
		if err != nil {
			return nil, err
		}
		return mutate.Append(base, mutate.Addendum{Layer: layer, MediaType: types.OCIUncompressedLayer})
	})
	if err != nil {
		t.Fatal(err)
	}
	got := fetch(t, c, "work:1", FetchOptions{})
	if diff := cmp.Diff([]string{contents(t, base)[0], plain}, contents(t, got.Image)); diff != "" {
		t.Error(diff)
	}
	if _, err := c.Push(ctx, "work:1", reg+"/work:1"); err != nil {
		t.Fatal(err)
	}
	layout := newClient(t, t.TempDir())
	if got := fetch(t, layout, reg+"/work:1", FetchOptions{}); len(contents(t, got.Image)) != 2 {
		t.Error("what was pushed is another")
	}
	if testenv.InUserNamespace() {
		return // podman of an ordinary user reads storage.conf in its own way: TestRootlessPodmanSeesIt
	}
	out := testenv.Run(t, testenv.NeedProgram(t, "podman"), "images", "--format", "{{.Repository}}:{{.Tag}}")
	if !strings.Contains(out, "localhost/work:1") {
		t.Errorf("podman lists %q", out)
	}
}
