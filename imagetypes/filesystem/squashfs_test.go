package filesystem

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// squashfsTree reads a file system with squashfs-tools-ng.
func squashfsTree(t testing.TB, f *os.File, offset int64) *layers.Tree {
	t.Helper()
	alone := newFile(t)
	if _, err := io.Copy(alone, io.NewSectionReader(f, offset, 1<<40)); err != nil {
		t.Fatal(err)
	}
	tar, err := exec.Command(testenv.NeedProgram(t, "sqfs2tar"), "-r", ".", alone.Name()).Output()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers.ReadLayer(t.Context(), bytes.NewReader(tar), layers.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := layers.Apply(layers.NewTree(), layer)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// wholeSeconds returns the tree with all times cut to seconds.
func wholeSeconds(t testing.TB, tree *layers.Tree) *layers.Tree {
	t.Helper()
	return layerstest.Changed(t, tree, func(n *layers.Node) { n.MTime.Nsec = 0 })
}

func withoutXattrs(t testing.TB, tree *layers.Tree) *layers.Tree {
	t.Helper()
	return layerstest.Changed(t, tree, func(n *layers.Node) { n.Xattrs = nil })
}

func TestOwnerOfTheTopDirectory(t *testing.T) {
	testenv.NeedPrograms(t, "mksquashfs", "sqfs2tar")
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1})
	if err := edit.WriteFile("file", []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := edit.Change(".", func(n *layers.Node) { n.UID, n.GID, n.MTime.Sec = 0, 7, 1234567890 }); err != nil {
		t.Fatal(err)
	}
	f, _, err := makeSquashfs(t.Context(), testEnv().filled(), edit.Tree(), Spec{Type: "squashfs", Compression: "lzo"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	notes, err := fixSquashfsRoot(f, edit.Tree().Root())
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "not to 7") {
		t.Errorf("notes are %v, %v", notes, err)
	}
	if got := squashfsTree(t, f, 0).Root().MTime.Sec; got != 1234567890 {
		t.Errorf("the time is %d", got)
	}
}

func TestSquashfs(t *testing.T) {
	needKernel(t)
	edit := varietyTree(t).Edit(layers.Timespec{})
	root, err := edit.Lookup(".")
	if err != nil {
		t.Fatal(err)
	}
	// mksquashfs can give the top directory no owner that nothing else has.
	if err := edit.Put("of the same owner", &layers.Node{Mode: layers.TypeRegular | 0o600, UID: root.UID, GID: root.GID}); err != nil {
		t.Fatal(err)
	}
	tree := edit.Tree()
	fit, notes, err := forSquashfs(tree)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, n := range notes {
		all = append(all, n.Path+": "+n.Text)
	}
	for _, want := range []string{
		"/one/attributes: system.posix_acl_access left out: squashfs holds no such attribute",
		"/one/before 1970: time of last change 1969-12-31 set to 1970-01-01: squashfs holds no other",
		"/: times are kept in whole seconds",
	} {
		if !strings.Contains(strings.Join(all, "\n")+"\n", want+"\n") {
			t.Errorf("no note %q in %q", want, all)
		}
	}
	want := wholeSeconds(t, fit)
	for name, spec := range map[string]Spec{
		"default": {Type: "squashfs"},
		"options": {Type: "squashfs", MkfsOptions: []string{"-b", "64K", "-comp", "xz", "-Xbcj", "x86"}},
		"foreign": {Type: "squashfs", Compression: "lzo"},
		"plain":   {Type: "squashfs", Compression: "uncompressed"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "foreign" {
				testenv.NeedProgram(t, "mksquashfs")
			}
			env := testEnv()
			env.Cache = &Cache{}
			defer env.Cache.Close()
			size, err := Size(t.Context(), env, tree, spec)
			if err != nil {
				t.Fatal(err)
			}
			const offset = 2 << 20
			f, again := newFile(t), newFile(t)
			if err := Write(t.Context(), env, f, offset, size, tree, spec); err != nil {
				t.Fatal(err)
			}
			if err := Write(t.Context(), testEnv(), again, offset, size, tree, spec); err != nil {
				t.Fatal(err)
			}
			if err := Write(t.Context(), env, newFile(t), 0, size-Align-1, tree, spec); err == nil || !strings.Contains(err.Error(), "more than it may have") {
				t.Errorf("too small a place: %v", err)
			}
			if hash(t, f) != hash(t, again) {
				t.Error("two runs gave different bytes")
			}
			layerstest.Same(t, want, squashfsTree(t, f, offset))
			if name != "default" {
				return // one reader is enough
			}
			// Debian's user-mode Linux shows no extended attributes of squashfs.
			layerstest.Same(t, withoutXattrs(t, want), withoutXattrs(t, readBack(t, f, offset, size, "squashfs")))
		})
	}
}
