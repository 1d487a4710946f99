package layers

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// seekableTree brings a tree into a blob of independent frames and back.
func seekableTree(t *testing.T, tree *Tree, c Compression) *Tree {
	t.Helper()
	p, blob := packed(t, layerOf(t, tree), PackOptions{Compression: c})
	p.Layer.Source.Blob = memoryBlob(blob)
	applied, err := Apply(NewTree(), p.Layer)
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

func TestSortedTarOfSeekableLayers(t *testing.T) {
	one, two := randomTree(t, 60, 800), awkward(t)
	mixed := func(one, two *Tree) *Tree {
		e := shuffled(t, one).Edit(Timespec{})
		for name, tree := range map[string]*Tree{"m": two, "n": one} {
			if err := e.Put(name, tree.Root()); err != nil {
				t.Fatal(err)
			}
		}
		return e.Tree()
	}
	want := withoutEmptyXattrs(treeText(t, mixed(one, two)))
	for _, c := range []Compression{DefaultCompression(), {Algorithm: Gzip, Level: 1}} {
		var out bytes.Buffer
		if err := WriteTar(t.Context(), &out, mixed(seekableTree(t, one, c), seekableTree(t, two, c)), TarOptions{}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, withoutEmptyXattrs(goTarText(t, &out))); diff != "" {
			t.Errorf("%s (-tree +tar):\n%s", c, diff)
		}
	}
}

func TestSortedTarOfADamagedLayer(t *testing.T) {
	tree := randomTree(t, 61, 800)
	p, blob := packed(t, layerOf(t, tree), PackOptions{Compression: DefaultCompression()})
	frame := p.Layer.Source.Frames[1]
	blob[frame.Offset+frame.Size/2] ^= 1
	p.Layer.Source.Blob = memoryBlob(blob)
	damaged, err := Apply(NewTree(), p.Layer)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteTar(t.Context(), io.Discard, damaged, TarOptions{}); err == nil {
		t.Error("a frame with a wrong bit was written out")
	}
}

// In any order, the tar holds the same entries, directories before what is in them and files before links to them.
func TestAnyOrderHoldsTheSame(t *testing.T) {
	for _, sparse := range []bool{false, true} {
		tree := seekableTree(t, awkward(t), DefaultCompression())
		var sorted, any bytes.Buffer
		for out, anyOrder := range map[*bytes.Buffer]bool{&sorted: false, &any: true} {
			if err := WriteTar(t.Context(), out, tree, TarOptions{Sparse: sparse, AnyOrder: anyOrder}); err != nil {
				t.Fatal(err)
			}
		}
		seen := map[string]bool{}
		for tr := tar.NewReader(bytes.NewReader(any.Bytes())); ; {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.Typeflag == tar.TypeLink && !seen[h.Linkname] {
				t.Errorf("%q comes before %q, to which it is a link", h.Name, h.Linkname)
			}
			seen[h.Name] = true
		}
		want, got := goTarText(t, &sorted), goTarText(t, &any)
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("sparse %v (-sorted +any order):\n%s", sparse, diff)
		}
	}
}

// A file of very many extents must not make headers that Go's archive/tar refuses.
func TestManyExtentsAreJoined(t *testing.T) {
	var extents []Extent
	var data Bytes
	for i := range 60_000 {
		extents = append(extents, Extent{int64(i) * 64, 10})
		data = append(data, fmt.Sprintf("%10d", i)...)
	}
	e := NewTree().Edit(Timespec{})
	if err := e.Put("many", &Node{Mode: TypeRegular | 0o644, Size: 60_000 * 64, Data: extents, Content: data}); err != nil {
		t.Fatal(err)
	}
	p, blob := packed(t, layerOf(t, e.Tree()), PackOptions{Compression: DefaultCompression()})
	tr := tar.NewReader(bytes.NewReader(decompressed(t, Zstd, blob)))
	for range 2 {
		if _, err := tr.Next(); err != nil {
			t.Fatal(err)
		}
	}
	p.Layer.Source.Blob = memoryBlob(blob)
	n := p.Layer.Entries[1].Node
	if len(n.Data) >= len(extents) || len(n.Data) < 1000 {
		t.Errorf("it has %d extents in the layer", len(n.Data))
	}
	want, err := e.Lookup("many")
	if err != nil {
		t.Fatal(err)
	}
	var contents [2][]byte
	for i, file := range []*Node{want, n} {
		r, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		if contents[i], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	if !bytes.Equal(contents[0], contents[1]) {
		t.Error("its content is another in the layer")
	}
}

func TestUnheldSaysWhatIsMissing(t *testing.T) {
	for u, want := range map[Unheld]string{
		{Path: "dev/null", Entry: true, Err: errDisk}:       "/dev/null: the entry could not be written: the disk broke",
		{Path: "a", Owner: true, Err: errDisk}:              "/a: the owner could not be written: the disk broke",
		{Path: "b", Xattr: "trusted.x", Err: errDisk}:       "/b: the attribute trusted.x could not be written: the disk broke",
		{Path: "c d", Xattr: "user.y", Err: errors.New("")}: "/c d: the attribute user.y could not be written: ",
	} {
		if u.String() != want {
			t.Errorf("%q, want %q", u, want)
		}
	}
}
