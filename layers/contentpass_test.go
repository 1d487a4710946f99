package layers

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// foreignTree brings a tree into a layer that is one gzip member or zstd frame, as most tools write it, and back.
func foreignTree(t *testing.T, tree *Tree, a Algorithm) *Tree {
	t.Helper()
	_, raw := packed(t, layerOf(t, tree), PackOptions{})
	var blob bytes.Buffer
	var w io.WriteCloser
	var err error
	if a == Gzip {
		w = gzip.NewWriter(&blob)
	} else {
		w, err = zstd.NewWriter(&blob)
	}
	if err == nil {
		_, err = w.Write(raw)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := ReadLayer(t.Context(), memoryBlob(blob.Bytes()), ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	applied, err := Apply(NewTree(), l)
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

// shuffled gives the files of a tree other names, so that their order is another, and some of them a second owner, so that several nodes have
// one content.
func shuffled(t *testing.T, tree *Tree) *Tree {
	t.Helper()
	rnd := rand.New(rand.NewPCG(5, 5))
	e := NewTree().Edit(Timespec{})
	i := 0
	err := tree.Walk(func(_ string, n *Node) error {
		if !n.IsRegular() {
			return nil
		}
		i++
		if err := e.Put(fmt.Sprintf("%d-%d", rnd.IntN(1000), i), n); err != nil {
			return err
		}
		if i%3 > 0 {
			return nil
		}
		other := *n
		other.UID = 99
		return e.Put(fmt.Sprintf("%d-%d-again", rnd.IntN(1000), i), &other)
	})
	if err != nil {
		t.Fatal(err)
	}
	return e.Tree()
}

func TestSortedTarOfForeignLayersNeedsNoSpool(t *testing.T) {
	for _, a := range []Algorithm{Gzip, Zstd} {
		tree := foreignTree(t, awkward(t), a)
		more := foreignTree(t, randomTree(t, 50, 300), a)
		e := shuffled(t, more).Edit(Timespec{})
		if err := e.Put("m", tree.Root()); err != nil {
			t.Fatal(err)
		}
		both := e.Tree()
		var out bytes.Buffer
		if err := WriteTar(t.Context(), &out, both, TarOptions{}); err != nil {
			t.Fatal(err)
		}
		for name, n := range map[string]*Node{"first": anyBlobFile(tree), "second": anyBlobFile(more)} {
			if n.Content.(*BlobContent).Source.spooled() != nil {
				t.Errorf("%s: the %s blob was written to a file", a, name)
			}
		}
		if diff := cmp.Diff(withoutEmptyXattrs(treeText(t, both)), withoutEmptyXattrs(goTarText(t, &out))); diff != "" {
			t.Errorf("%s (-tree +tar):\n%s", a, diff)
		}
	}
}

func anyBlobFile(tree *Tree) (found *Node) {
	_ = tree.Walk(func(_ string, n *Node) error {
		if _, ok := n.Content.(*BlobContent); ok && found == nil {
			found = n
		}
		return nil
	})
	return found
}

func TestPassesAreBoundedInMemory(t *testing.T) {
	source := &BlobSource{Algorithm: Gzip}
	file := func(offset, length int64) *Node {
		return &Node{Mode: TypeRegular, Size: length, Content: source.NewContent(offset, length)}
	}
	for _, test := range []struct {
		what  string
		nodes []*Node
		peak  int64 // -1: no pass
	}{
		{"ascending", []*Node{file(0, 1<<30), file(1<<30, 1<<30)}, 0},
		{"one too early", []*Node{file(1000, 5), file(0, 10), file(2000, 7)}, 10},
		{"the same twice", []*Node{file(0, 10), file(0, 10), file(10, 10)}, 10},
		{"too much too early", []*Node{file(1<<40, 1), file(0, 1<<30)}, -1},
		{"overlapping", []*Node{file(0, 100), file(50, 100)}, -1},
	} {
		passes := planPasses(test.nodes)
		peak := int64(-1)
		if p := passes[source]; p != nil {
			peak = p.peak
		}
		if peak != test.peak {
			t.Errorf("%s: the peak is %d, want %d", test.what, peak, test.peak)
		}
	}
}
