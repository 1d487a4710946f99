package layers

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// TestRaggedHolesReachForeignTools writes files whose pieces begin and end inside of blocks, and lets GNU tar read them.
func TestRaggedHolesReachForeignTools(t *testing.T) {
	tar := testenv.NeedProgram(t, "tar")
	e := NewTree().Edit(Timespec{Sec: 1})
	for name, extents := range map[string][]Extent{
		"inside":   {{100, 50}, {700, 1}, {2000, 900}},
		"touching": {{510, 2}, {514, 3}, {1023, 2}},
		"end":      {{0, 1}, {4000, 97}},
		"empty":    {{0, 0}, {600, 10}, {700, 0}},
	} {
		var data []byte
		for _, x := range extents {
			data = append(data, bytes.Repeat([]byte{byte('a' + len(data)%7)}, int(x.Length))...)
		}
		if err := e.Put(name, &Node{Mode: TypeRegular | 0o644, Size: 4097, Data: extents, Content: Bytes(data), MTime: e.ModTime}); err != nil {
			t.Fatal(err)
		}
		if err := e.Link(name, name+" linked"); err != nil {
			t.Fatal(err)
		}
	}
	tree := e.Tree()
	dir := t.TempDir()
	var out bytes.Buffer
	if err := WriteTar(t.Context(), &out, tree, TarOptions{Sparse: true}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "tree.tar")
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, tar, "-C", dir, "-xf", file)
	for _, name := range tree.Root().Names() {
		want, err := tree.ReadFile(name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs: %v", name, err)
		}
	}
}
