package cpio

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// written is an archive with a few entries.
func written(t testing.TB) ([]byte, []Header) {
	t.Helper()
	headers := []Header{
		{Name: "dir", Ino: 1, Mode: unix.S_IFDIR | 0o750, UID: 7, Links: 2, MTime: 1600000000},
		{Name: "dir/one", Ino: 2, Mode: unix.S_IFREG | 0o640, Links: 2, MTime: 1600000001},
		{Name: "dir/two", Ino: 2, Mode: unix.S_IFREG | 0o640, Links: 2, MTime: 1600000001, Size: 5},
		{Name: "null", Ino: 3, Mode: unix.S_IFCHR | 0o666, Links: 1, Major: 1, Minor: 3},
	}
	var archive bytes.Buffer
	w := NewWriter(&archive)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("five!")[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes(), headers
}

func TestReadWhatWasWritten(t *testing.T) {
	archive, want := written(t)
	// Two archives with zeros between, and something else behind, as in an initial RAM disk.
	data := append(append(append(bytes.Clone(archive), make([]byte, 512)...), archive...), "\x1f\x8bmore"...)
	entries, end, err := Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if string(data[end:]) != "\x1f\x8bmore" {
		t.Errorf("it ended at %d of %d", end, len(data))
	}
	var got []Header
	for _, e := range entries {
		got = append(got, e.Header)
		if e.Size > 0 && string(data[e.Offset:e.Offset+e.Size]) != "five!" {
			t.Errorf("the content of %s is elsewhere", e.Name)
		}
	}
	if diff := cmp.Diff(append(want, want...), got); diff != "" {
		t.Error(diff)
	}
}

func TestReadForeign(t *testing.T) {
	testenv.NeedPrograms(t, "cpio")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "sh", "-c", "cd '"+dir+"' && echo file | cpio -o -H newc -F archive --quiet")
	data, err := os.ReadFile(filepath.Join(dir, "archive"))
	if err != nil {
		t.Fatal(err)
	}
	entries, end, err := Read(bytes.NewReader(data), int64(len(data)))
	if err != nil || len(entries) != 1 || entries[0].Name != "file" || entries[0].Mode != unix.S_IFREG|0o600 || end != int64(len(data)) {
		t.Errorf("%+v, %d, %v", entries, end, err)
	}
}

func TestReadDamaged(t *testing.T) {
	archive, _ := written(t)
	for _, data := range []string{"", "070701", string(archive[:150]), string(archive[:len(archive)-200]), strings.Replace(string(archive), "070701", "07070x", 1)} {
		if _, _, err := Read(strings.NewReader(data), int64(len(data))); !errors.Is(err, ErrFormat) {
			t.Errorf("%.20q: %v", data, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	archive, _ := written(f)
	f.Add(archive)
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, end, err := Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.Offset+e.Size > int64(len(data)) {
				t.Errorf("%s is outside of the archive", e.Name)
			}
		}
		if end > int64(len(data)) {
			t.Error("the end is outside of the archive")
		}
	})
}
