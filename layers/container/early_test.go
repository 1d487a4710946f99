package container

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/layers"
)

// watchedBlob is a blob that counts whether it was read and closed, and may fail.
type watchedBlob struct {
	*bytes.Reader
	err          error
	read, closed atomic.Int32
}

func newBlob(data []byte, err error) *watchedBlob {
	return &watchedBlob{Reader: bytes.NewReader(data), err: err}
}

func (b *watchedBlob) ReadAt(p []byte, off int64) (int, error) {
	b.read.Add(1)
	if b.err != nil {
		return 0, b.err
	}
	return b.Reader.ReadAt(p, off)
}

func (b *watchedBlob) Close() error {
	b.closed.Add(1)
	return nil
}

func TestOpenTakesLayersThatWereReadEarly(t *testing.T) {
	first, second := twoTrees(t)
	var opened atomic.Int32
	image, indexes := imageOf(t, &opened, first, second), newIndexes()
	all, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	early := NewEarly(t.Context(), layers.ReadOptions{})
	defer early.Close()
	var blobs []*watchedBlob
	for _, l := range all {
		data := l.(*storedLayer).blob
		broken := newBlob(nil, io.ErrUnexpectedEOF) // a transfer that broke off and began anew
		early.Read(digest.FromBytes(data), broken)
		blob := newBlob(data, nil)
		early.Read(digest.FromBytes(data), blob)
		blobs = append(blobs, blob)
	}
	other := newBlob([]byte("of some other container"), nil)
	early.Read("sha256:other", other)
	tree, err := Open(t.Context(), image, indexes, Options{Early: early})
	if err != nil {
		t.Fatal(err)
	}
	if opened.Load() != 0 {
		t.Errorf("%d blobs were opened though all had been read", opened.Load())
	}
	if differences, err := layers.Diff(t.Context(), second, tree.Tree); err != nil || len(differences) > 0 {
		t.Errorf("%v, %v", differences, err)
	}
	if len(indexes.kept) != 2 {
		t.Errorf("%d indexes are kept", len(indexes.kept))
	}
	early.Close()
	for i, b := range blobs {
		if b.closed.Load() != 0 || b.read.Load() == 0 {
			t.Errorf("blob %d was closed before the tree, or not read", i)
		}
	}
	if err := tree.Close(); err != nil {
		t.Error(err)
	}
	for i, b := range append(blobs, other) {
		if b.closed.Load() != 1 {
			t.Errorf("blob %d was closed %d times", i, b.closed.Load())
		}
	}
	// With the indexes that were kept, nothing is read.
	again, err := Open(t.Context(), image, indexes, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// What was read early and is not the container's layer does not count.
func TestOpenReadsAgainWhatWasReadWrong(t *testing.T) {
	first, second := twoTrees(t)
	var opened atomic.Int32
	image := imageOf(t, &opened, first, second)
	all, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	blob := func(i int) []byte { return all[i].(*storedLayer).blob }
	early := NewEarly(t.Context(), layers.ReadOptions{})
	defer early.Close()
	wrong, broken := newBlob(blob(1), nil), newBlob(nil, errors.New("broken off"))
	early.Read(digest.FromBytes(blob(0)), wrong)
	early.Read(digest.FromBytes(blob(1)), broken)
	tree, err := Open(t.Context(), image, newIndexes(), Options{Early: early})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if differences, err := layers.Diff(t.Context(), second, tree.Tree); err != nil || len(differences) > 0 {
		t.Errorf("%v, %v", differences, err)
	}
}
