package store

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// dockerImage returns an image in Docker's form.
func dockerImage(t *testing.T) v1.Image {
	t.Helper()
	config, err := empty.Image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	img, err := mutate.ConfigFile(empty.Image, config)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(make([]byte, 10240), types.DockerUncompressedLayer)})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestStandardToolsReadIt has skopeo and umoci list, inspect and unpack what the store holds, and has umoci collect garbage in it.
func TestStandardToolsReadIt(t *testing.T) {
	umoci := testenv.NeedProgram(t, "umoci")
	skopeo := testenv.NeedProgram(t, "skopeo")
	ctx := t.Context()
	dir := t.TempDir()
	s := openTest(t, dir)
	docker := dockerImage(t)
	sum, err := docker.Digest()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"leap:15.3", "registry.example.org:5000/a/b_c:1.2-3", "registry.example.org/a@" + sum.String()}
	for _, name := range want {
		if err := s.PutImage(ctx, name, docker); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutImage(ctx, "gone", testImage(t, nil, 9, 100)); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, umoci, "gc", "--layout", dir)
	list := strings.Fields(testenv.Run(t, umoci, "ls", "--layout", dir))
	slices.Sort(list)
	slices.Sort(want)
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	for _, name := range want {
		out := testenv.Run(t, skopeo, "inspect", "--format", "{{len .Layers}}", "oci:"+dir+":"+name)
		if strings.TrimSpace(out) != "1" {
			t.Errorf("%s: skopeo sees %s layers", name, out)
		}
		testenv.Run(t, umoci, "stat", "--image", dir+":"+name)
	}
	checkWhole(t, s)
	if blobs, err := os.ReadDir(dir + "/blobs/sha256"); err != nil || len(blobs) != 3 {
		t.Errorf("umoci's garbage collection left %d blobs, not 3", len(blobs))
	}
	entries, err := s.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Source.String() != sum.String() || e.Digest == e.Source {
			t.Errorf("%s: made from %s, has %s", e.FullName(), e.Source, e.Digest)
		}
	}
}

// TestToolsWriteIntoIt reads what skopeo puts into the store, with a manifest in either form.
func TestToolsWriteIntoIt(t *testing.T) {
	skopeo := testenv.NeedProgram(t, "skopeo")
	ctx := t.Context()
	dir := t.TempDir()
	s := openTest(t, dir)
	if err := s.PutImage(ctx, "a:1", dockerImage(t)); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, skopeo, "--insecure-policy", "copy", "-q", "oci:"+dir+":a:1", "oci:"+dir+":b/c:2")
	if diff := cmp.Diff([]string{"a:1", "b/c:2"}, names(t, s)); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Image(ctx, "b/c:2"); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prune(ctx, PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, s)
}
