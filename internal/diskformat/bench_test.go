package diskformat

import (
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkQcow2 converts the raw disk that IMGBUILD_BENCH_RAW names.
func BenchmarkQcow2(b *testing.B) {
	name := os.Getenv("IMGBUILD_BENCH_RAW")
	if name == "" {
		b.Skip("IMGBUILD_BENCH_RAW names no raw disk")
	}
	raw, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer raw.Close()
	info, err := raw.Stat()
	if err != nil {
		b.Fatal(err)
	}
	format, err := Lookup("qcow2")
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	for b.Loop() {
		path := filepath.Join(dir, "image.qcow2")
		if err := format.Write(b.Context(), raw, info.Size(), path, Settings{IDs: ids()}); err != nil {
			b.Fatal(err)
		}
		out, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(out.Size())/1e6, "MB-out")
		if err := os.Remove(path); err != nil {
			b.Fatal(err)
		}
	}
}
