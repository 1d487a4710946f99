package archive

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

func request(t *testing.T, kind string) *image.Request {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1600000000, Nsec: 987654321})
	for name, data := range map[string]string{"etc/hosts": "localhost", "image/config.xml": "x", ".profile": "x", "usr/bin/x": strings.Repeat("x", 1<<20)} {
		if err := edit.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := edit.Change("usr/bin/x", func(n *layers.Node) {
		n.Xattrs = []layers.Xattr{{Name: "user.note", Value: "yes"}}
		n.UID, n.GID = 12345, 70000
	}); err != nil {
		t.Fatal(err)
	}
	if err := edit.Link("usr/bin/x", "usr/bin/another"); err != nil {
		t.Fatal(err)
	}
	if err := edit.WriteFile("var/data", []byte("data"), 0o644); err != nil {
		t.Fatal(err)
	}
	data, err := edit.Tree().Lookup("var/data")
	if err != nil {
		t.Fatal(err)
	}
	sparse := &layers.Node{Mode: data.Mode, Size: 1 << 20, Data: []layers.Extent{{Offset: 4096, Length: 4}}, Content: data.Content}
	if err := edit.Put("var/holes", sparse); err != nil {
		t.Fatal(err)
	}
	return &image.Request{Tree: edit.Tree(), Description: &description.Image{Type: description.Type{Image: kind}}, BaseName: "Test.x86_64-1.0.0", Dir: t.TempDir(), Repro: repro.New(time.Unix(0, 0))}
}

func TestTarReadsThem(t *testing.T) {
	testenv.NeedPrograms(t, "xz", "zstd", "gzip", "tar")
	for kind, extension := range map[string]string{"tbz": ".tar.xz", "tar": ".tar", "tar.gz": ".tar.gz", "tar.zst": ".tar.zst"} {
		file := twice(t, kind, extension)
		out := testenv.Run(t, "tar", "--numeric-owner", "--full-time", "--xattrs", "-tvvf", file)
		for _, want := range []string{"12345/70000", "user.note", "etc/hosts", "2020-09-13"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: tar does not see %q: %s", kind, want, out)
			}
		}
		if strings.Contains(out, "image/") || strings.Contains(out, ".profile") {
			t.Errorf("%s: what only served the building is in the archive: %s", kind, out)
		}
	}
}

// twice builds a type two times and compares the results. It returns the file of one.
func twice(t *testing.T, kind, extension string) (file string) {
	t.Helper()
	var archives [][]byte
	for range 2 {
		r := request(t, kind)
		if err := (Builder{}).Check(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		results, err := Builder{}.Build(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		file = filepath.Join(r.Dir, results[0].File)
		if results[0].Key != image.KeyRootArchive || !strings.HasSuffix(file, "Test.x86_64-1.0.0"+extension) {
			t.Errorf("the result is %+v", results[0])
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, data)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Errorf("%s: two builds differ", kind)
	}
	return file
}

func TestGNUReadsCPIO(t *testing.T) {
	program := testenv.NeedProgram(t, "cpio")
	file := twice(t, "cpio", ".cpio")
	archive, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	dir := t.TempDir()
	cmd := exec.Command(program, "-idm", "--quiet", "--no-preserve-owner", "-D", dir)
	cmd.Stdin = archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "usr/bin/x"))
	if err != nil || string(data) != strings.Repeat("x", 1<<20) {
		t.Errorf("/usr/bin/x has %d bytes (%v)", len(data), err)
	}
	one, err := os.Stat(filepath.Join(dir, "usr/bin/x"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.Stat(filepath.Join(dir, "usr/bin/another"))
	if err != nil || !os.SameFile(one, other) {
		t.Errorf("the hard link is lost (%v)", err)
	}
	holes, err := os.ReadFile(filepath.Join(dir, "var/holes"))
	if err != nil || len(holes) != 1<<20 || string(holes[4096:4100]) != "data" || strings.Trim(string(holes), "\x00") != "data" {
		t.Errorf("the sparse file has %d bytes (%v)", len(holes), err)
	}
}

func TestCPIORefusesLargeFiles(t *testing.T) {
	r := request(t, "cpio")
	edit := r.Tree.Edit(layers.Timespec{})
	if err := edit.Put("large", &layers.Node{Mode: layers.TypeRegular | 0o600, Size: 5 << 30, Data: []layers.Extent{}}); err != nil {
		t.Fatal(err)
	}
	r.Tree = edit.Tree()
	if err := (Builder{}).Check(t.Context(), r); err == nil || !strings.Contains(err.Error(), "/large has 5368709120 bytes") {
		t.Errorf("error is %v", err)
	}
}

func TestWhatCPIOLosesIsTold(t *testing.T) {
	r := request(t, "cpio")
	edit := r.Tree.Edit(layers.Timespec{})
	for i := range 25 {
		node := &layers.Node{Mode: layers.TypeRegular | 0o600, Xattrs: []layers.Xattr{{Name: "user.x", Value: "y"}}}
		if err := edit.Put(fmt.Sprintf("marked%02d", i), node); err != nil {
			t.Fatal(err)
		}
	}
	if err := edit.Put("old", &layers.Node{Mode: layers.TypeRegular | 0o600, MTime: layers.Timespec{Sec: -1}}); err != nil {
		t.Fatal(err)
	}
	r.Tree = edit.Tree()
	var log bytes.Buffer
	r.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if _, err := (Builder{}).Build(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); strings.Count(got, "\n") != 21 || !strings.Contains(got, `path=/marked00 what="its extended attribute user.x"`) {
		t.Errorf("the warnings are:\n%s", got)
	}
	if lost := lostInCPIO(r.Tree); !slices.Contains(lost, layers.Note{Path: "/old", Text: "its time, which is before 1970 or after 2106"}) {
		t.Errorf("lost are %v", lost)
	}
}

func TestOptionsOfTheProgramXZ(t *testing.T) {
	testenv.NeedPrograms(t, "xz", "tar")
	r := request(t, "tbz")
	r.XZ = []string{"-9", "--check=sha256"}
	if err := (Builder{}).Check(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	results, err := Builder{}.Build(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.Dir, results[0].File)
	if out := testenv.Run(t, "xz", "--list", "-v", file); !strings.Contains(out, "SHA-256") {
		t.Errorf("the options are lost: %s", out)
	}
	if out := testenv.Run(t, "tar", "-tf", file); !strings.Contains(out, "etc/hosts") {
		t.Errorf("the archive holds %s", out)
	}
	r.XZ, r.Dir = []string{"--no-such-option"}, t.TempDir()
	if _, err := (Builder{}).Build(t.Context(), r); err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Errorf("error is %v", err)
	}
}

func TestPlanAndCheck(t *testing.T) {
	r := request(t, "tbz")
	if err := (Builder{}).Check(t.Context(), r); err != nil {
		t.Error(err)
	}
	if text, err := (Builder{}).Plan(t.Context(), r); err != nil || !strings.Contains(text, "Test.x86_64-1.0.0.tar.xz") {
		t.Errorf("plan is %q, %v", text, err)
	}
}
