package layers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The benchmarks take a root tree from the directory $IMGBUILD_BENCH_ROOT, or make one of 40 MB. They report processor seconds of all
// goroutines beside the time on the clock.

func benchTree(b *testing.B) *Tree {
	b.Helper()
	if dir := os.Getenv("IMGBUILD_BENCH_ROOT"); dir != "" {
		tree, _, err := ScanDir(b.Context(), dir, ScanOptions{})
		if err != nil {
			b.Fatal(err)
		}
		return tree
	}
	return randomTree(b, 40, 3000)
}

// measured runs fn b.N times and reports megabytes and processor seconds.
func measured(b *testing.B, bytes int64, fn func()) {
	b.Helper()
	b.SetBytes(bytes)
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		fn()
	}
	if err := unix.Getrusage(unix.RUSAGE_SELF, &after); err != nil {
		b.Fatal(err)
	}
	seconds := func(r unix.Rusage) float64 {
		return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
	}
	b.ReportMetric((seconds(after)-seconds(before))/float64(b.N), "cpu-s/op")
	b.ReportMetric(float64(after.Maxrss)/1024, "maxrss-MB")
}

func BenchmarkPack(b *testing.B) {
	for _, c := range []Compression{{Algorithm: None}, {Zstd, 1}, {Zstd, 3}, {Zstd, 9}, {Gzip, 1}, {Gzip, 6}} {
		b.Run(c.String(), func(b *testing.B) {
			l := layerOf(b, benchTree(b))
			p, err := Pack(b.Context(), io.Discard, l, PackOptions{Compression: c})
			if err != nil {
				b.Fatal(err)
			}
			measured(b, p.TarSize, func() {
				if _, err := Pack(b.Context(), io.Discard, l, PackOptions{Compression: c}); err != nil {
					b.Fatal(err)
				}
			})
			b.ReportMetric(float64(p.Size)/1e6, "blob-MB")
		})
	}
}

// BenchmarkPackOnce packs without having read the files before. Whether they are in memory is up to who starts it.
func BenchmarkPackOnce(b *testing.B) {
	l := layerOf(b, benchTree(b))
	measured(b, 0, func() {
		if _, err := Pack(b.Context(), io.Discard, l, PackOptions{Compression: DefaultCompression()}); err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkWriteTar(b *testing.B) {
	tree := benchTree(b)
	measured(b, tree.Stats().Data, func() {
		if err := WriteTar(b.Context(), io.Discard, tree, TarOptions{Sparse: true}); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkWriteTarFromBlob reads contents from a compressed blob: sorted, and in the blob's order.
func BenchmarkWriteTarFromBlob(b *testing.B) {
	for _, c := range []Compression{{Zstd, 3}, {Gzip, 6}} {
		for _, any := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/any=%v", c, any), func(b *testing.B) {
				tree := packedTree(b, benchTree(b), c, b.TempDir())
				measured(b, tree.Stats().Data, func() {
					if err := WriteTar(b.Context(), io.Discard, tree, TarOptions{Sparse: true, AnyOrder: any}); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
	}
}

// BenchmarkWriteDir writes from blobs into a directory below $IMGBUILD_BENCH_DIR, or else /dev/shm.
func BenchmarkWriteDir(b *testing.B) {
	parent := os.Getenv("IMGBUILD_BENCH_DIR")
	if parent == "" {
		parent = "/dev/shm"
	}
	for _, c := range []Compression{{Algorithm: None}, {Zstd, 3}, {Gzip, 6}} {
		b.Run(c.String(), func(b *testing.B) {
			dir, err := os.MkdirTemp(parent, "imgbuild-bench-")
			if err != nil {
				b.Skip(err)
			}
			defer os.RemoveAll(dir)
			tree := packedTree(b, benchTree(b), c, dir)
			i := 0
			measured(b, tree.Stats().Data, func() {
				to := filepath.Join(dir, string(rune('a'+i%2)))
				if _, err := WriteDir(context.Background(), to, tree, DirOptions{}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := os.RemoveAll(to); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				i++
			})
		})
	}
}

// BenchmarkCopyDir writes from a directory, which is on the same file system as $IMGBUILD_BENCH_DIR if the machine is set up so.
func BenchmarkCopyDir(b *testing.B) {
	tree := benchTree(b)
	parent := os.Getenv("IMGBUILD_BENCH_DIR")
	if parent == "" {
		parent = b.TempDir()
	}
	to := filepath.Join(parent, "imgbuild-bench-copy")
	measured(b, tree.Stats().Data, func() {
		if _, err := WriteDir(b.Context(), to, tree, DirOptions{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := os.RemoveAll(to); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	})
}

// packedTree brings a tree into a blob and back.
func packedTree(b *testing.B, tree *Tree, c Compression, dir string) *Tree {
	b.Helper()
	f, err := os.Create(filepath.Join(dir, "blob"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	p, err := Pack(b.Context(), f, layerOf(b, tree), PackOptions{Compression: c})
	if err != nil {
		b.Fatal(err)
	}
	p.Layer.Source.Blob = fileBlob{f, p.Size}
	applied, err := Apply(NewTree(), p.Layer)
	if err != nil {
		b.Fatal(err)
	}
	return applied
}

type fileBlob struct {
	*os.File
	size int64
}

func (f fileBlob) Size() int64 { return f.size }

func BenchmarkIndex(b *testing.B) {
	p, err := Pack(b.Context(), io.Discard, layerOf(b, benchTree(b)), PackOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var index bytes.Buffer
	if err := EncodeIndex(&index, p.Layer); err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			if err := EncodeIndex(io.Discard, p.Layer); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(index.Len()), "index-bytes")
		b.ReportMetric(float64(len(p.Layer.Entries)), "entries")
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := DecodeIndex(bytes.NewReader(index.Bytes()), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
