package filesystem

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// smallTree is a tree with a few files of every kind.
func smallTree(t testing.TB) *layers.Tree {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1700000000, Nsec: 5})
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(edit.WriteFile("etc/hostname", []byte("machine\n"), 0o644))
	check(edit.WriteFile("usr/bin/large", []byte(strings.Repeat("large file ", 500000)), 0o755))
	check(edit.Symlink("usr/bin", "bin"))
	check(edit.Link("etc/hostname", "etc/same"))
	check(edit.Put("dev-null", &layers.Node{Mode: layers.TypeChar | 0o666, Major: 1, Minor: 3}))
	for i := range 500 {
		check(edit.WriteFile(fmt.Sprintf("var/many/%d", i), []byte(fmt.Sprint(i)), 0o600))
	}
	return edit.Tree()
}

func testEnv() Env {
	return Env{Repro: repro.New(time.Unix(1700000000, 0), "test")}
}

func newFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func hash(t testing.TB, f *os.File) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<40)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func fsck(t testing.TB, f *os.File, offset int64) {
	t.Helper()
	out, err := exec.Command(testenv.NeedProgram(t, "e2fsck"), "-fn", fmt.Sprintf("%s?offset=%d", f.Name(), offset)).CombinedOutput()
	if err != nil {
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
}

func TestExtSizeAndWrite(t *testing.T) {
	testenv.NeedProgram(t, "mke2fs")
	tree := smallTree(t)
	for _, options := range [][]string{
		nil, {"-m", "0"}, {"-O", "^has_journal"}, {"-b", "1024"}, {"-E", "stride=4", "-O", "quota"}, {"-i", "4096"}, {"-I128"},
	} {
		for _, kind := range []string{"ext2", "ext3", "ext4"} {
			t.Run(kind+strings.Join(options, " "), func(t *testing.T) {
				spec := Spec{Type: kind, Label: "root label", MkfsOptions: options, Free: 3 << 20}
				size, err := Size(t.Context(), testEnv(), tree, spec)
				if err != nil {
					t.Fatal(err)
				}
				const offset = 3 << 20
				f, again := newFile(t), newFile(t)
				for _, f := range []*os.File{f, again} {
					if err := Write(t.Context(), testEnv(), f, offset, size, tree, spec); err != nil {
						t.Fatal(err)
					}
				}
				fsck(t, f, offset)
				if a, b := hash(t, f), hash(t, again); a != b {
					t.Errorf("two runs gave different bytes: %s, %s", a, b)
				}
				if err := Write(t.Context(), testEnv(), newFile(t), offset, size-3*Align-2*Align, tree, spec); err == nil {
					t.Errorf("the tree fits into less than the %d bytes found", size)
				}
			})
		}
	}
}

// BenchmarkWrite writes the tree in the tar, blob or directory that IMGBUILD_BENCH_LAYER names.
func BenchmarkWrite(b *testing.B) {
	for _, kind := range []string{"ext4", "squashfs", "xfs", "btrfs"} {
		b.Run(kind, func(b *testing.B) { benchmarkWrite(b, Spec{Type: kind}) })
	}
}

func benchmarkTree(b *testing.B) *layers.Tree {
	name := os.Getenv("IMGBUILD_BENCH_LAYER")
	if name == "" {
		b.Skip("IMGBUILD_BENCH_LAYER names no layer and no directory")
	}
	blob, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { blob.Close() })
	info, err := blob.Stat()
	if err != nil {
		b.Fatal(err)
	}
	if info.IsDir() {
		tree, _, err := layers.ScanDir(b.Context(), name, layers.ScanOptions{})
		if err != nil {
			b.Fatal(err)
		}
		return tree
	}
	layer, err := layers.ReadLayer(b.Context(), io.NewSectionReader(blob, 0, info.Size()), layers.ReadOptions{})
	if err != nil {
		b.Fatal(err)
	}
	tree, err := layers.Apply(layers.NewTree(), layer)
	if err != nil {
		b.Fatal(err)
	}
	return tree
}

func benchmarkWrite(b *testing.B, spec Spec) {
	tree := benchmarkTree(b)
	stats := tree.Stats()
	for b.Loop() {
		f, err := os.Create(filepath.Join(b.TempDir(), "disk"))
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		env := testEnv()
		env.Cache = &Cache{}
		size, err := Size(b.Context(), env, tree, spec)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-size")
		if err := Write(b.Context(), env, f, 1<<20, size, tree, spec); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(stats.Data)
		env.Cache.Close()
		f.Close()
	}
}
