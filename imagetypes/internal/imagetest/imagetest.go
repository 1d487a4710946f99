// Package imagetest has what the tests of several builders need: real root trees and requests.
package imagetest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// The environment variables that name tar archives with Debian root trees. The project's Makefile makes them.
const (
	// Debian has what a container has.
	Debian = "IMGBUILD_TEST_DEBIAN"
	// VM can boot: it has systemd, a kernel with initrd, GRUB's modules, and root's password "linux".
	VM = "IMGBUILD_TEST_VM_TAR"
	// Live has what VM has, and for its initial RAM disk dracut with the modules of live systems.
	Live = "IMGBUILD_TEST_LIVE_TAR"
	// Xen has what VM has, but for GRUB's signed programs, and the Xen hypervisor with its tools.
	Xen = "IMGBUILD_TEST_XEN_TAR"
)

// BaseName is that of all requests.
const BaseName = "Test-VM.x86_64-1.2.3"

// fileBlob is a file as a layer's blob.
type fileBlob struct {
	*os.File
	size int64
}

func (b fileBlob) Size() int64 { return b.size }

// Tree returns the tree of the archive that a variable names. The test is skipped without it.
func Tree(t testing.TB, variable string) *layers.Tree {
	t.Helper()
	name := os.Getenv(variable)
	if name == "" {
		testenv.Missing(t, "%s names no archive with a root tree", variable)
	}
	f, err := os.Open(name)
	if err != nil {
		testenv.Missing(t, "%v", err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers.ReadLayer(t.Context(), fileBlob{f, info.Size()}, layers.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := layers.Apply(nil, layer)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// Describe resolves a description of one image type, with the given attributes and content of its type element.
func Describe(t testing.TB, arch, kind, attributes, content string) *description.Image {
	t.Helper()
	return DescribeIn(t, "7.5", arch, kind, attributes, content)
}

// DescribeIn is Describe in another version of the schema.
func DescribeIn(t testing.TB, version, arch, kind, attributes, content string) *description.Image {
	t.Helper()
	text := fmt.Sprintf(`<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="%s" name="Test-VM" displayname="Test VM">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>test</specification></description>
  <preferences>
    <version>1.2.3</version>
    <packagemanager>apt</packagemanager>
    <type image="%s" %s>%s</type>
  </preferences>
  <repository type="apt-deb"><source path="http://deb.debian.org/debian"/></repository>
  <packages type="image"><package name="bash"/></packages>
</image>
`, version, kind, attributes, content)
	doc, err := description.LoadFS(fstest.MapFS{"config.xml": {Data: []byte(text)}}, "", description.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// A builder refuses what it can't build by itself, whatever the description's own checks find.
	resolved, err := doc.Resolve(description.Selection{Arch: arch, SkipChecks: []string{description.AllChecks}})
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// Request asks for a tree as an image type, with a fixed time and ids.
func Request(t testing.TB, tree *layers.Tree, kind, attributes, content string) *image.Request {
	t.Helper()
	return &image.Request{
		Tree: tree, Description: Describe(t, "x86_64", kind, attributes, content), BaseName: BaseName, Dir: t.TempDir(), Workdir: t.TempDir(),
		Repro: repro.New(time.Unix(1700000000, 0), "test"),
	}
}

// Build checks and builds a request, and returns the path of the first result.
func Build(t testing.TB, builder image.Builder, r *image.Request) string {
	t.Helper()
	if err := builder.Check(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	results, err := builder.Build(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(r.Dir, results[0].File)
}
