package diskformat

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// TestGCE lets GNU tar and Go's reader unpack archives of disks with few and many holes, and with sizes beyond what octal digits hold.
func TestGCE(t *testing.T) {
	testenv.NeedPrograms(t, "tar", "gzip", "cmp")
	format, err := Lookup("gce")
	if err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int64{"small": 1 << 20, "many holes": 50 << 20, "large": 9 << 30} {
		t.Run(name, func(t *testing.T) {
			raw := disk(t, min(size, 50<<20), 3)
			if err := raw.Truncate(size); err != nil {
				t.Fatal(err)
			}
			var sums []string
			dir := t.TempDir()
			path := filepath.Join(dir, "image.tar.gz")
			for run := range 2 {
				path = filepath.Join(dir, fmt.Sprintf("image%d.tar.gz", run))
				if err := format.Write(t.Context(), raw, size, path, Settings{License: "https://example.org/licence", IDs: ids(), Jobs: 1 + 3*run}); err != nil {
					t.Fatal(err)
				}
				sums = append(sums, sum(t, path))
			}
			if sums[0] != sums[1] {
				t.Error("two runs gave different bytes")
			}
			testenv.Run(t, "gzip", "-t", path)
			if list := testenv.Run(t, "tar", "-tvzf", path); !strings.Contains(list, fmt.Sprint(size)+" 2023-11-14") || !strings.Contains(list, "manifest.json") {
				t.Errorf("tar lists\n%s", list)
			}
			if size > 1<<30 {
				return // to read all of it takes a minute
			}
			sumInside(t, path, sum(t, raw.Name()))
			testenv.Run(t, "tar", "-xSzf", path, "-C", dir)
			testenv.Run(t, "cmp", raw.Name(), filepath.Join(dir, gceName))
			if manifest, err := os.ReadFile(filepath.Join(dir, "manifest.json")); err != nil || string(manifest) != `{"licenses":["https://example.org/licence"]}`+"\n" {
				t.Errorf("manifest.json is %s, %v", manifest, err)
			}
		})
	}
	if err := format.Check(Settings{Options: []Option{{"a", "b"}}}); err == nil {
		t.Error("options are taken")
	}
}

// sumInside reads the disk by Go's package.
func sumInside(t *testing.T, path, want string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(gz)
	if h, err := r.Next(); err != nil || h.Name != gceName {
		t.Fatalf("%+v, %v", h, err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != want {
		t.Error("the disk in the archive is another")
	}
	if h, err := r.Next(); err != nil || h.Name != "manifest.json" {
		t.Errorf("%+v, %v", h, err)
	}
}
