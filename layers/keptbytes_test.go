package layers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// countedBlob counts the bytes that are read of it.
type countedBlob struct {
	memoryBlob
	read *atomic.Int64
}

func (b countedBlob) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.memoryBlob.ReadAt(p, off)
	b.read.Add(int64(n))
	return n, err
}

// readersOf reads a tree in the ways that there are; each gives the content of all files in the order of their names.
func readersOf(t *testing.T, tree *Tree) map[string]func() (string, error) {
	tar := func(any bool) func() (string, error) {
		return func() (string, error) {
			var out bytes.Buffer
			err := WriteTar(t.Context(), &out, tree, TarOptions{AnyOrder: any})
			return strings.Join(goTarText(t, &out), "\n"), err
		}
	}
	single := func(nodes []*Node) func() (string, error) {
		return func() (string, error) {
			texts := map[*Node]string{}
			for _, n := range nodes {
				if !n.IsRegular() {
					continue
				}
				r, err := n.Open()
				if err != nil {
					return "", err
				}
				data, err := io.ReadAll(r)
				if err != nil {
					return "", err
				}
				texts[n] = string(data)
			}
			var all strings.Builder
			for _, n := range nodesOf(tree) {
				all.WriteString(texts[n])
			}
			return all.String(), nil
		}
	}
	nodes := nodesOf(tree)
	slices.Reverse(nodes)
	return map[string]func() (string, error){"sorted tar": tar(false), "tar in any order": tar(true), "file by file": single(nodesOf(tree)), "backwards": single(nodes)}
}

// compressedForms are blobs that are read in different ways: frames of both kinds, and one stream.
func compressedForms(t *testing.T, tree *Tree) map[string][]byte {
	t.Helper()
	forms := map[string][]byte{}
	for _, c := range []Compression{{Zstd, 1}, {Gzip, 1}, {}} {
		_, forms[c.String()] = packed(t, layerOf(t, tree), PackOptions{Compression: c})
	}
	forms["one gzip stream"] = gzipped(t, forms["none"])
	delete(forms, "none")
	return forms
}

// TestKeptContentsAreReadOnce reads a tree in all ways at once.
func TestKeptContentsAreReadOnce(t *testing.T) {
	large := randomTree(t, 71, 200).Edit(Timespec{})
	data := randomBytes(newRand(72), 9<<20) // of several frames
	if err := large.Put("zz", &Node{Mode: TypeRegular | 0o644, Size: int64(len(data)), Content: data}); err != nil {
		t.Fatal(err)
	}
	for form, blob := range compressedForms(t, large.Tree()) {
		want := map[string]string{}
		tree := mustApply(t, nil, mustRead(t, blob))
		for name, read := range readersOf(t, tree) {
			text, err := read()
			if err != nil {
				t.Fatal(err)
			}
			want[name] = text
		}
		l := mustRead(t, blob)
		var read atomic.Int64
		l.Source.Blob = countedBlob{memoryBlob(blob), &read}
		tree = mustApply(t, nil, l)
		kept, err := KeepContents(t.Context(), tree)
		if err != nil {
			t.Fatal(err)
		}
		var group errgroup.Group
		for name, read := range readersOf(t, tree) {
			group.Go(func() error {
				text, err := read()
				if err == nil && text != want[name] {
					t.Errorf("%s: %s: other bytes", form, name)
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Errorf("%s: %v", form, err)
		}
		if n := read.Load(); n > int64(len(blob)) {
			t.Errorf("%s: %d bytes were read of a blob of %d", form, n, len(blob))
		}
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
		sameTree(t, form+", after the end", large.Tree(), tree)
	}
}

// TestKeptContentsFail like contents that nobody keeps.
func TestKeptContentsFail(t *testing.T) {
	for form, blob := range compressedForms(t, randomTree(t, 7, 200)) {
		for what, broken := range map[string]struct {
			blob Blob
			want error
		}{
			"a broken disk": {brokenBlob{memoryBlob(blob), int64(len(blob)) / 2}, errDisk},
			"a short blob":  {memoryBlob(blob[:len(blob)/2]), nil},
		} {
			l := mustRead(t, blob)
			tree := mustApply(t, nil, l)
			l.Source.Blob = broken.blob
			kept, err := KeepContents(t.Context(), tree)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				err := WriteTar(t.Context(), io.Discard, tree, TarOptions{})
				if err == nil || broken.want != nil && !errors.Is(err, broken.want) {
					t.Errorf("%s: %s gives %v", form, what, err)
				}
			}
			if err := kept.Close(); err != nil {
				t.Error(err)
			}
		}
		// A tar that is shorter than the tree says gives no zeros.
		l := mustRead(t, blob)
		longer := mustApply(t, nil, l).Edit(Timespec{})
		if err := longer.Put("longer", &Node{Mode: TypeRegular, Size: 1 << 20, Content: l.Source.NewContent(1<<30, 1<<20)}); err != nil {
			t.Fatal(err)
		}
		kept, err := KeepContents(t.Context(), longer.Tree())
		if err != nil {
			t.Fatal(err)
		}
		if err := WriteTar(t.Context(), io.Discard, longer.Tree(), TarOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: a tar that is too short gives %v", form, err)
		}
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestKeptContentsStop when nobody wants them any longer.
func TestKeptContentsStop(t *testing.T) {
	stopped := errors.New("stopped")
	for form, blob := range compressedForms(t, randomTree(t, 7, 200)) {
		ctx, stop := context.WithCancelCause(t.Context())
		tree := mustApply(t, nil, mustRead(t, blob))
		kept, err := KeepContents(ctx, tree)
		if err != nil {
			t.Fatal(err)
		}
		stop(stopped)
		if err := WriteTar(t.Context(), io.Discard, tree, TarOptions{}); !errors.Is(err, stopped) {
			t.Errorf("%s: error %v", form, err)
		}
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestKeepingNeedsRoom keeps nothing where it would fill more than half of the disk.
func TestKeepingNeedsRoom(t *testing.T) {
	testenv.NeedRealRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("not possible here: mounting a tmpfs: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	t.Setenv("TMPDIR", dir)
	data := randomBytes(newRand(72), 1200<<10)
	edit := NewTree().Edit(Timespec{})
	for _, name := range []string{"a", "b"} {
		l := layerOf(t, mustTree(t, name, data))
		_, blob := packed(t, l, PackOptions{Compression: DefaultCompression()})
		if err := edit.Put(name, mustApply(t, nil, mustRead(t, blob)).Root()); err != nil {
			t.Fatal(err)
		}
		_, err := KeepContents(t.Context(), edit.Tree())
		var room *RoomError
		if !errors.As(err, &room) || !strings.Contains(room.Error(), dir) || room.Free != 2<<20 {
			t.Errorf("error %v", err)
		}
		if anyBlobFile(edit.Tree()).Content.(*BlobContent).Source.spooled() != nil {
			t.Error("something is kept")
		}
		data = data[:100<<10]
	}
}

func mustTree(t *testing.T, name string, data Bytes) *Tree {
	t.Helper()
	edit := NewTree().Edit(Timespec{})
	if err := edit.Put(name, &Node{Mode: TypeRegular | 0o644, Size: int64(len(data)), Content: data}); err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
}
