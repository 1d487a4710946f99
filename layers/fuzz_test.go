package layers

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"testing"
)

// FuzzReadLayer gives arbitrary bytes for a layer. Whatever they are, reading ends with a layer that can be applied and whose contents can be read,
// or with a typed error.
func FuzzReadLayer(f *testing.F) {
	f.Add([]byte{})
	seeds := []*Tree{awkward(f), plainTree(f), collidingTree(f, 1, 30, false)}
	for _, tree := range seeds {
		small := tree.Edit(Timespec{})
		for name, n := range namedNodes(tree) {
			if n.Size > 64<<10 {
				if err := small.Remove(name); err != nil {
					f.Fatal(err)
				}
			}
		}
		for _, blob := range blobForms(f, small.Tree()) {
			f.Add(blob)
		}
	}
	for seed := range uint64(5) {
		f.Add(randomLayer(f, newRand(seed), 12, true))
	}
	f.Add(rawTar(f, &tar.Header{Typeflag: tar.TypeReg, Name: "s", PAXRecords: map[string]string{
		"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "5000"}}, "1\n4000\n10\n"))
	f.Add(rawTar(f, &tar.Header{Typeflag: tar.TypeReg, Name: "s", PAXRecords: map[string]string{
		"GNU.sparse.map": "0,4,100,5", "GNU.sparse.size": "5000"}}, "data data"))
	limits := ReadOptions{MaxEntries: 500, MaxSize: 16 << 20, MaxMetadata: 1 << 20}
	f.Fuzz(func(t *testing.T, blob []byte) {
		ctx := context.Background()
		l, err := ReadLayer(ctx, memoryBlob(blob), limits)
		if err != nil {
			mustBeTyped(t, err)
			return
		}
		tree, err := Apply(nil, l)
		if err != nil {
			mustBeTyped(t, err)
			return
		}
		var nodes []*Node
		names := 0
		err = tree.Walk(func(name string, n *Node) error {
			if len(name) > maxPathLength {
				t.Errorf("a name of %d bytes", len(name))
			}
			names++
			if n.DataSize() > limits.MaxSize || n.Size > limits.MaxSize || n.Size < 0 {
				t.Errorf("/%s has the size %d, %d of data", name, n.Size, n.DataSize())
			}
			nodes = append(nodes, n)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		err = EachContent(ctx, nodes, func(n *Node, data io.Reader) error {
			got, err := io.Copy(io.Discard, data)
			if err == nil && got != n.DataSize() {
				t.Errorf("a file of %d bytes of data gave %d", n.DataSize(), got)
			}
			return err
		})
		if err != nil {
			t.Errorf("contents of a layer that could be read: %v", err)
		}
		again, err := Changes(ctx, tree, tree)
		if err != nil || len(again.Entries) > 0 {
			t.Errorf("a tree differs from itself: %v", err)
		}
	})
}

func mustBeTyped(t *testing.T, err error) {
	var hostile *HostileError
	var format *FormatError
	if !errors.As(err, &hostile) && !errors.As(err, &format) {
		t.Errorf("an error of no type: %v", err)
	}
}
