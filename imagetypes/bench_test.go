package imagetypes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// zstdTree returns the tree of the archive as it comes out of a store: in one blob compressed by zstd.
func zstdTree(t testing.TB, archive string) *layers.Tree {
	t.Helper()
	plain := layerstest.Open(t, archive)
	whole, err := layers.WholeTree(plain)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "layer.zst")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := layers.Pack(context.Background(), f, whole, layers.PackOptions{Compression: layers.DefaultCompression()}); err != nil {
		t.Fatal(err)
	}
	return layerstest.Open(t, name)
}

func describe(t testing.TB, attributes, content string) *description.Image {
	t.Helper()
	text := fmt.Sprintf(`<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.5" name="Test-VM">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>test</specification></description>
  <preferences>
    <version>1.2.3</version>
    <packagemanager>apt</packagemanager>
    <type %s>%s</type>
  </preferences>
  <repository type="apt-deb"><source path="http://deb.debian.org/debian"/></repository>
  <packages type="image"><package name="bash"/></packages>
</image>
`, attributes, content)
	doc, err := description.LoadFS(fstest.MapFS{"config.xml": {Data: []byte(text)}}, "", description.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := doc.Resolve(description.Selection{Arch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// BenchmarkCreateQcow2 builds a disk that boots from a container that has a kernel: the tree lies in a zstd layer.
func BenchmarkCreateQcow2(b *testing.B) {
	archive := os.Getenv(layerstest.VM)
	if archive == "" {
		b.Skipf("%s names no archive with a root tree", layerstest.VM)
	}
	tree := zstdTree(b, archive)
	d := describe(b, `image="oem" filesystem="ext4" firmware="uefi" format="qcow2" kernelcmdline="console=ttyS0"`, "")
	source := repro.New(time.Unix(1700000000, 0), "benchmark")
	before := cpuSeconds(b)
	for b.Loop() {
		dir := filepath.Join(b.TempDir(), "target")
		results, err := Create(b.Context(), CreateOptions{Tree: tree, Description: d, TargetDir: dir, Repro: source})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(results.Files[0].Size)/1e6, "MB-out")
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpuSeconds(b)-before)/float64(b.N), "cpu-s/op")
}

// cpuSeconds returns what this process and the programs it ran have used.
func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	sum := 0.0
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var usage unix.Rusage
		if err := unix.Getrusage(who, &usage); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
	}
	return sum
}
