package layers

import (
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// benchDir is the directory of [benchTree].
func benchDir(b *testing.B) string {
	b.Helper()
	if dir := os.Getenv("IMGBUILD_BENCH_ROOT"); dir != "" {
		return dir
	}
	dir, _ := written(b, benchTree(b), DirOptions{})
	return dir
}

func BenchmarkScanDir(b *testing.B) {
	dir := benchDir(b)
	tree, _, err := ScanDir(b.Context(), dir, ScanOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	keep, _, err := ScanDir(b.Context(), dir, ScanOptions{})
	if err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	perEntry := float64(after.HeapAlloc-before.HeapAlloc) / float64(tree.Stats().Entries)
	runtime.KeepAlive(keep)
	measured(b, 0, func() {
		if _, _, err := ScanDir(b.Context(), dir, ScanOptions{}); err != nil {
			b.Fatal(err)
		}
	})
	b.ReportMetric(perEntry, "B/entry")
	b.ReportMetric(float64(tree.Stats().Entries), "entries")
}

func benchBlob(b *testing.B, form string) fileBlob {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "blob"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	l := layerOf(b, benchTree(b))
	if form == "one gzip stream" {
		w := gzip.NewWriter(f)
		if _, err := Pack(b.Context(), w, l, PackOptions{}); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	} else {
		c, err := ParseCompression(form)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Pack(b.Context(), f, l, PackOptions{Compression: c}); err != nil {
			b.Fatal(err)
		}
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		b.Fatal(err)
	}
	return fileBlob{f, size}
}

var benchForms = []string{"none", "zstd:3", "gzip:6", "one gzip stream"}

func BenchmarkReadLayer(b *testing.B) {
	for _, form := range benchForms {
		b.Run(form, func(b *testing.B) {
			blob := benchBlob(b, form)
			l, err := ReadLayer(b.Context(), blob, ReadOptions{})
			if err != nil {
				b.Fatal(err)
			}
			measured(b, l.TarSize, func() {
				if _, err := ReadLayer(b.Context(), blob, ReadOptions{Digest: l.Digest, DiffID: l.DiffID}); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func BenchmarkEachContent(b *testing.B) {
	for _, form := range benchForms {
		b.Run(form, func(b *testing.B) {
			l, err := ReadLayer(b.Context(), benchBlob(b, form), ReadOptions{})
			if err != nil {
				b.Fatal(err)
			}
			tree, err := Apply(nil, l)
			if err != nil {
				b.Fatal(err)
			}
			nodes := nodesOf(tree)
			measured(b, tree.Stats().Data, func() {
				if err := EachContent(context.Background(), nodes, discardContent); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func discardContent(_ *Node, data io.Reader) error {
	_, err := io.Copy(io.Discard, data)
	return err
}

func BenchmarkApply(b *testing.B) {
	l := layerOf(b, benchTree(b))
	measured(b, 0, func() {
		if _, err := Apply(nil, l); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkChanges compares a directory with the tree in a store: once where the states of the files on this machine are known, and once where all
// contents have to be compared.
func BenchmarkChanges(b *testing.B) {
	for _, known := range []bool{true, false} {
		name := "known"
		if !known {
			name = "contents"
		}
		b.Run(name, func(b *testing.B) {
			dir := benchDir(b)
			l, err := ReadLayer(b.Context(), benchBlob(b, "zstd:3"), ReadOptions{})
			if err != nil {
				b.Fatal(err)
			}
			old, err := Apply(nil, l)
			if err != nil {
				b.Fatal(err)
			}
			tree, _, err := ScanDir(b.Context(), dir, ScanOptions{})
			if err != nil {
				b.Fatal(err)
			}
			if known {
				for name, n := range namedNodes(old) {
					if other, err := tree.Lookup(name); err == nil {
						n.Host = other.Host
					}
				}
			}
			measured(b, tree.Stats().Data, func() {
				l, err := Changes(b.Context(), old, tree)
				if err != nil || len(l.Entries) > 0 {
					b.Fatal(len(l.Entries), err)
				}
			})
		})
	}
}

func BenchmarkMerge(b *testing.B) {
	tree, other := benchTree(b), benchTree(b)
	measured(b, 0, func() {
		if _, _, err := Merge([]*Tree{tree, other}, MergeOptions{}); err != nil {
			b.Fatal(err)
		}
	})
}
