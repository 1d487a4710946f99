package layers

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// gzipped compresses into one gzip member, as most tools make layers.
func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// blobForms packs a tree in every form that a layer may have.
func blobForms(t testing.TB, tree *Tree) map[string][]byte {
	t.Helper()
	forms := map[string][]byte{}
	for _, c := range everyCompression {
		_, forms[c.String()] = packed(t, layerOf(t, tree), PackOptions{Compression: c})
	}
	forms["one gzip stream"] = gzipped(t, forms["none"])
	return forms
}

func nodesOf(tree *Tree) []*Node {
	var nodes []*Node
	_ = tree.Walk(func(_ string, n *Node) error {
		nodes = append(nodes, n)
		return nil
	})
	return nodes
}

func TestEachContentGivesEveryFileOnce(t *testing.T) {
	want := randomTree(t, 4, 400)
	for form, blob := range blobForms(t, want) {
		tree := mustApply(t, nil, mustRead(t, blob))
		nodes := nodesOf(tree)
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		got := map[*Node]int{}
		last := int64(-1)
		err := EachContent(t.Context(), nodes, func(n *Node, data io.Reader) error {
			got[n]++
			if c, ok := n.Content.(*BlobContent); ok {
				if c.Offset < last {
					return fmt.Errorf("offset %d comes after %d", c.Offset, last)
				}
				last = c.Offset
			}
			switch len(got) % 3 {
			case 0: // not all of it
				_, err := io.CopyN(io.Discard, data, n.DataSize()/2)
				return err
			case 1:
				_, err := io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{data})
				return err
			}
			all, err := io.ReadAll(data)
			if int64(len(all)) != n.DataSize() {
				return fmt.Errorf("%d bytes instead of %d", len(all), n.DataSize())
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", form, err)
		}
		for _, n := range nodes {
			if n.IsRegular() && got[n] != 1 || !n.IsRegular() && got[n] != 0 {
				t.Fatalf("%s: a %s came %d times", form, TypeName(n.Mode), got[n])
			}
		}
		sameTree(t, form, want, tree) // through Open
	}
}

func TestEachContentOfSharedBytes(t *testing.T) {
	for form, blob := range blobForms(t, randomTree(t, 5, 50)) {
		tree := mustApply(t, nil, mustRead(t, blob))
		var nodes []*Node
		for _, n := range nodesOf(tree) {
			a, b := *n, *n
			nodes = append(nodes, n, &a, &b)
		}
		sums := map[*Node]int{}
		err := EachContent(t.Context(), nodes, func(n *Node, data io.Reader) error {
			all, err := io.ReadAll(data)
			sums[n] = len(all)
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", form, err)
		}
		for _, n := range nodes {
			if n.IsRegular() && int64(sums[n]) != n.DataSize() {
				t.Errorf("%s: %d bytes instead of %d", form, sums[n], n.DataSize())
			}
		}
	}
}

func TestEachContentStops(t *testing.T) {
	before := runtime.NumGoroutine()
	stop := errors.New("enough")
	for form, blob := range blobForms(t, randomTree(t, 6, 600)) {
		nodes := nodesOf(mustApply(t, nil, mustRead(t, blob)))
		calls := 0
		err := EachContent(t.Context(), nodes, func(*Node, io.Reader) error {
			if calls++; calls == 5 {
				return stop
			}
			return nil
		})
		if err != stop || calls != 5 {
			t.Errorf("%s: %v after %d calls", form, err, calls)
		}
		ctx, cancel := context.WithCancel(t.Context())
		calls = 0
		err = EachContent(ctx, nodes, func(*Node, io.Reader) error {
			if calls++; calls == 5 {
				cancel()
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: after the end of its context: %v", form, err)
		}
	}
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines are left of %d", runtime.NumGoroutine(), before)
}

func TestReadLayerStops(t *testing.T) {
	before := runtime.NumGoroutine()
	for form, blob := range blobForms(t, randomTree(t, 9, 300)) {
		for wait := range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Duration(wait*wait)*20*time.Microsecond, cancel)
			_, err := ReadLayer(ctx, memoryBlob(blob), ReadOptions{})
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", form, err)
			}
			cancel()
		}
	}
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines are left of %d", runtime.NumGoroutine(), before)
}

// busyBlob knows how many reads of it are under way.
type busyBlob struct {
	memoryBlob
	reads *atomic.Int32
}

func (b busyBlob) ReadAt(p []byte, off int64) (int, error) {
	b.reads.Add(1)
	defer b.reads.Add(-1)
	time.Sleep(time.Duration(len(p)) * time.Microsecond / 10) // long reads take long
	return b.memoryBlob.ReadAt(p, off)
}

// TestReadLayerLetsGo closes a blob as soon as reading it has failed: nobody reads it any more.
func TestReadLayerLetsGo(t *testing.T) {
	for form, blob := range blobForms(t, randomTree(t, 9, 300)) {
		busy := busyBlob{memoryBlob(blob), &atomic.Int32{}}
		for most := range 2 {
			_, err := ReadLayer(t.Context(), busy, ReadOptions{Digest: digest.FromString("another"), MaxEntries: most + 1})
			if err == nil || busy.reads.Load() != 0 {
				t.Errorf("%s: %d reads go on, %v", form, busy.reads.Load(), err)
			}
		}
	}
}

// brokenBlob fails where it is read at or after an offset.
type brokenBlob struct {
	memoryBlob
	from int64
}

func (b brokenBlob) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.from {
		return 0, errDisk
	}
	return b.memoryBlob.ReadAt(p, off)
}

func TestContentsOfABrokenDisk(t *testing.T) {
	for form, blob := range blobForms(t, randomTree(t, 7, 200)) {
		l := mustRead(t, blob)
		tree := mustApply(t, nil, l)
		l.Source.Blob = brokenBlob{memoryBlob(blob), int64(len(blob)) / 2}
		err := EachContent(t.Context(), nodesOf(tree), func(_ *Node, data io.Reader) error {
			_, err := io.Copy(io.Discard, data)
			return err
		})
		if !errors.Is(err, errDisk) {
			t.Errorf("%s: the error is %v", form, err)
		}
		if _, err := ReadLayer(t.Context(), l.Source.Blob, ReadOptions{}); !errors.Is(err, errDisk) {
			t.Errorf("%s: reading the layer gives %v", form, err)
		}
	}
}

func TestSpoolKeepsTheBytes(t *testing.T) {
	tree := randomTree(t, 8, 100)
	blob := blobForms(t, tree)["one gzip stream"]
	l, err := ReadLayer(t.Context(), memoryBlob(blob), ReadOptions{Spool: true, SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	l.Source.Blob = brokenBlob{memoryBlob(blob), 0} // it must not be needed any more
	sameTree(t, "spooled", tree, mustApply(t, nil, l))
}
