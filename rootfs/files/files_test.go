package files

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// show lists a tree: one line an entry.
func show(t *testing.T, tree *layers.Tree) string {
	t.Helper()
	var out strings.Builder
	seen := map[*layers.Node]string{}
	err := tree.Walk(func(name string, n *layers.Node) error {
		fmt.Fprintf(&out, "%s %o %d:%d", name, n.Mode, n.UID, n.GID)
		if first, ok := seen[n]; ok {
			fmt.Fprintf(&out, " = %s", first)
		}
		seen[n] = name
		switch {
		case n.IsSymlink():
			out.WriteString(" -> " + n.Target)
		case n.IsRegular():
			data, err := tree.ReadFile(name, 1<<20)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %q", data)
		}
		out.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// base is a tree with merged /usr.
func base(t *testing.T) *layers.Editor {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{})
	for _, err := range []error{
		edit.MkdirAll("usr/lib", 0o755), edit.Symlink("usr/lib", "lib"), edit.MkdirAll("tmp", 0o1777), edit.WriteFile("etc/motd", []byte("old"), 0o600), edit.MkdirAll("full/of", 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return edit
}

// description makes a directory with an overlay.
func description(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"root/lib/systemd/x": "x", "root/etc/motd": "new", "root/tmp/y": "y", "root/root/.ssh/keys": "k", "root/.wh.odd": "odd"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Chmod(filepath.Join(dir, "root/tmp"), 0o700), os.Chmod(filepath.Join(dir, "root/root/.ssh"), 0o700), os.Chmod(filepath.Join(dir, "root/lib/systemd/x"), 0o755),
		os.Link(filepath.Join(dir, "root/etc/motd"), filepath.Join(dir, "root/etc/motd2")), os.Symlink("motd", filepath.Join(dir, "root/etc/issue")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		if err := os.Chown(filepath.Join(dir, "root/etc/motd"), 1234, 1234); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const overlaid = `. 40755 0:0
.wh.odd 100644 0:0 "odd"
etc 40755 0:0
etc/issue 120777 0:0 -> motd
etc/motd 100644 0:0 "new"
etc/motd2 100644 0:0 = etc/motd "new"
full 40755 0:0
full/of 40755 0:0
lib 120777 0:0 -> usr/lib
root 40755 0:0
root/.ssh 40700 0:0
root/.ssh/keys 100644 0:0 "k"
tmp 41777 0:0
tmp/y 100644 0:0 "y"
usr 40755 0:0
usr/lib 40755 0:0
usr/lib/systemd 40755 0:0
usr/lib/systemd/x 100755 0:0 "x"
`

func TestOverlay(t *testing.T) {
	dir := description(t)
	tree, notes, err := Source{Dir: dir, FS: os.DirFS(dir)}.ReadDir(t.Context(), "root")
	if err != nil || len(notes) != 0 {
		t.Fatal(err, notes)
	}
	edit := base(t)
	if err := Graft(edit, tree, "/", GraftOptions{RootOwned: true}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(overlaid, show(t, edit.Tree())); diff != "" {
		t.Error(diff)
	}
}

// TestOverlayInContainer reads the same description from a tree.
func TestOverlayInContainer(t *testing.T) {
	dir := description(t)
	if err := os.Remove(filepath.Join(dir, "root/etc/issue")); err != nil {
		t.Fatal(err)
	}
	scanned, _, err := layers.ScanDir(t.Context(), dir, layers.ScanOptions{KeepVolatile: true})
	if err != nil {
		t.Fatal(err)
	}
	tree, _, err := Source{FS: scanned.FS(".")}.ReadDir(t.Context(), "root")
	if err != nil {
		t.Fatal(err)
	}
	edit := base(t)
	if err := Graft(edit, tree, ".", GraftOptions{RootOwned: true}); err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("etc/issue 120777 0:0 -> motd\n", "", " = etc/motd", "").Replace(overlaid)
	if diff := cmp.Diff(want, show(t, edit.Tree())); diff != "" {
		t.Error(diff)
	}
}

func tarball(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		text := []byte("text of " + h.Name)
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(text))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestArchives(t *testing.T) {
	testenv.NeedPrograms(t, "gzip", "bzip2", "xz", "zstd")
	dir := t.TempDir()
	plain := tarball(t, tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700, Uid: 5}, tar.Header{Typeflag: tar.TypeDir, Name: "./lib/", Mode: 0o700},
		tar.Header{Typeflag: tar.TypeReg, Name: "./lib/a", Mode: 0o4755, Uid: 7, Gid: 8}, tar.Header{Typeflag: tar.TypeLink, Name: "./b", Linkname: "./lib/a"})
	if err := os.WriteFile(filepath.Join(dir, "a.tar"), plain, 0o600); err != nil {
		t.Fatal(err)
	}
	for program, suffix := range map[string]string{"gzip": "gz", "bzip2": "bz2", "xz": "xz", "zstd": "zst"} {
		testenv.Run(t, program, "-k", filepath.Join(dir, "a.tar"))
		if _, err := os.Stat(filepath.Join(dir, "a.tar."+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	const want = `opt 40755 0:0
opt/x 40755 0:0
opt/x/b 104755 7:8 "text of ./lib/a"
opt/x/lib 40700 0:0
opt/x/lib/a 104755 7:8 = opt/x/b "text of ./lib/a"
`
	for _, suffix := range []string{"", ".gz", ".bz2", ".xz", ".zst"} {
		for what, source := range map[string]Source{"directory": {Dir: dir, FS: os.DirFS(dir)}, "container": {FS: os.DirFS(dir)}} {
			tree, err := source.ReadArchive(t.Context(), "a.tar"+suffix, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			edit := layers.NewTree().Edit(layers.Timespec{})
			if err := Graft(edit, tree, "/opt/x", GraftOptions{}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(". 40755 0:0\n"+want, show(t, edit.Tree())); diff != "" {
				t.Errorf("%s, from a %s: %s", suffix, what, diff)
			}
		}
	}
	edit := base(t)
	tree, err := Source{FS: os.DirFS(dir)}.ReadArchive(t.Context(), filepath.Join(dir, "a.tar"), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Graft(edit, tree, "/", GraftOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := show(t, edit.Tree()); !strings.Contains(got, "usr/lib/a 104755 7:8") || !strings.HasPrefix(got, ". 40755 0:0\n") {
		t.Error(got)
	}
}

func TestHostileArchives(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"up.tar":       tarball(t, tar.Header{Typeflag: tar.TypeReg, Name: "../../etc/passwd", Mode: 0o644}),
		"whiteout.tar": tarball(t, tar.Header{Typeflag: tar.TypeReg, Name: "etc/.wh.passwd", Mode: 0o644}),
		"junk.tar":     []byte(strings.Repeat("junk", 1000)),
		"short.tar.xz": []byte("\xfd7zXZ\x00"),
		"empty.tar":    {},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		tree, err := Source{Dir: dir, FS: os.DirFS(dir)}.ReadArchive(t.Context(), name, t.TempDir())
		if err == nil {
			t.Errorf("%s was read: %s", name, show(t, tree))
			continue
		}
		if !strings.Contains(err.Error(), "reading archive "+name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestClashes(t *testing.T) {
	edit := base(t)
	other := layers.NewTree().Edit(layers.Timespec{})
	if err := other.WriteFile("full", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := Graft(edit, other.Tree(), "/", GraftOptions{})
	if err == nil || !strings.Contains(err.Error(), "/full") {
		t.Errorf("error %v", err)
	}
	other = layers.NewTree().Edit(layers.Timespec{})
	if err := other.MkdirAll("etc/motd", 0o755); err != nil {
		t.Fatal(err)
	}
	err = Graft(edit, other.Tree(), "/", GraftOptions{})
	if err == nil || !strings.Contains(err.Error(), "/etc/motd") {
		t.Errorf("error %v", err)
	}
}

func TestOpen(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "description")
	for name, text := range map[string]string{"inside": "in", "sub/x": "sub", "../beside": "out"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	onDisk := Source{Dir: dir, FS: root.FS()}
	made := Source{Dir: dir, FS: fstest.MapFS{"inside": {Data: []byte("made")}}}
	inContainer := Source{FS: fstest.MapFS{"inside": {Data: []byte("contained")}}}
	for _, test := range []struct {
		name   string
		source Source
		file   string
		want   string // "" for an error
		host   bool
	}{
		{"a file", onDisk, "inside", "in", true},
		{"in a folder", onDisk, "./sub/x", "sub", true},
		{"beside the description", onDisk, "../beside", "out", true},
		{"absolute", onDisk, filepath.Join(dir, "inside"), "in", true},
		{"a pipe", onDisk, "pipe", "", false},
		{"an absolute pipe", onDisk, filepath.Join(dir, "pipe"), "", false},
		{"a folder", onDisk, "sub", "", false},
		{"nothing", onDisk, "nothing", "", false},
		{"one that was made", made, "inside", "made", false},
		{"one that was not", made, "sub/x", "sub", true},
		{"in a container", inContainer, "inside", "contained", false},
		{"outside of a container", inContainer, "../inside", "", false},
	} {
		file, err := test.source.Open(test.file)
		if (err == nil) != (test.want != "") {
			t.Errorf("%s: %v", test.name, err)
		}
		if err != nil {
			continue
		}
		data, err := io.ReadAll(file)
		info, statErr := file.Stat()
		if string(data) != test.want || err != nil || statErr != nil {
			t.Errorf("%s: %q, %v, %v", test.name, data, err, statErr)
		}
		host, ok := test.source.HostPath(test.file, info)
		if ok != test.host || ok && !filepath.IsAbs(host) {
			t.Errorf("%s: on this machine %q, %v", test.name, host, ok)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
}
