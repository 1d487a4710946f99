// Package imagetest has what the tests of several builders need: requests.
package imagetest

import (
	"fmt"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
)

// BaseName is that of all requests.
const BaseName = "Test-VM.x86_64-1.2.3"

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
