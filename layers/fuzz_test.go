package layers

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
)

// FuzzReadLayer gives arbitrary bytes for a layer. Whatever they are, reading ends with a layer that can be applied and whose contents can be read,
// or with a typed error.
func FuzzReadLayer(f *testing.F) {
	f.Add([]byte{})
	// Small seeds, since the engine tries many changes of each.
	for _, tree := range []*Tree{plainTree(f), collidingTree(f, 1, 8, false)} {
		for _, blob := range blobForms(f, tree) {
			f.Add(blob)
		}
	}
	for name, n := range namedNodes(awkward(f)) {
		if n.Size <= 4<<10 && len(name) < 300 {
			_, blob := packed(f, &Layer{Entries: []Entry{{Kind: Put, Name: name, Node: n}}}, PackOptions{})
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
		blob = withChecksums(blob)
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

// withChecksums puts the checksums of headers right, so that the engine need not find them.
func withChecksums(tar []byte) []byte {
	tar = bytes.Clone(tar)
	for at := 0; at+tarBlock <= len(tar); at += tarBlock {
		if b := (*[tarBlock]byte)(tar[at:]); string(b[tarMagicAt:tarMagicAt+5]) == "ustar" {
			sum, _ := checksums(b)
			copy(b[tarChecksumAt:], fmt.Sprintf("%06o\x00 ", sum))
		}
	}
	return tar
}

func mustBeTyped(t *testing.T, err error) {
	var hostile *HostileError
	var format *FormatError
	if !errors.As(err, &hostile) && !errors.As(err, &format) {
		t.Errorf("an error of no type: %v", err)
	}
}
