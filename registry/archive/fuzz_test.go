package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/reference"
)

// FuzzOpen opens tar files of any content as both kinds of archives, and reads what it finds.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	for form, name := range forms(dir) {
		ref, err := reference.Parse(name)
		if err != nil {
			f.Fatal(err)
		}
		if err := Write(context.Background(), ref, testImage(f, "a"), WriteOptions{}); err != nil {
			f.Fatal(err)
		}
		if form == "oci-archive" || form == "docker-archive" {
			data, err := os.ReadFile(ref.Path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	var links bytes.Buffer
	w := tar.NewWriter(&links)
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "manifest.json", Linkname: "../manifest.json"})
	_ = w.Close()
	f.Add(links.Bytes())
	file := filepath.Join(dir, "fuzzed.tar")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, transport := range []reference.Transport{reference.OCIArchive, reference.DockerArchive} {
			a, err := Open(t.Context(), reference.Reference{Transport: transport, Path: file}, Options{})
			if err != nil {
				if !errors.Is(err, manifest.ErrInvalid) && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("an error of another kind: %v", err)
				}
				continue
			}
			layers, err := a.Layers()
			if err != nil {
				t.Error(err)
			}
			for _, l := range layers {
				if r, err := l.Compressed(); err == nil {
					_, _ = io.Copy(io.Discard, r)
					r.Close()
				}
			}
			a.Close()
		}
	})
}
