package layers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// withHosts gives every entry of a layer a made-up state on this machine.
func withHosts(l *Layer) *Layer {
	for i := range l.Entries {
		n := l.Entries[i].Node
		if n == nil || n.Host != nil {
			continue
		}
		n.Host = &HostID{Dev: 1<<40 + 5, Ino: uint64(i) * 7, CTime: Timespec{Sec: int64(1000 - i), Nsec: uint32(i)}, MTime: n.MTime, Size: n.Size}
		if i%5 == 0 {
			n.Host.MTime.Nsec = 99
		}
	}
	return l
}

// indexed packs a tree as one layer and brings the layer through its index.
func indexed(t testing.TB, tree *Tree, c Compression) (want, got *Layer, index []byte) {
	t.Helper()
	p, blob := packed(t, layerOf(t, tree), PackOptions{Compression: c})
	want = withHosts(p.Layer)
	want.Source.Blob = memoryBlob(blob)
	var out bytes.Buffer
	if err := EncodeIndex(&out, want); err != nil {
		t.Fatal(err)
	}
	got, err := DecodeIndex(bytes.NewReader(out.Bytes()), memoryBlob(blob))
	if err != nil {
		t.Fatal(err)
	}
	return want, got, out.Bytes()
}

func compareLayers(t testing.TB, what string, want, got *Layer) {
	t.Helper()
	opts := cmp.Options{cmpopts.IgnoreUnexported(Node{}, BlobSource{}), cmpopts.IgnoreFields(BlobSource{}, "Blob")}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
	links := func(l *Layer) string {
		first := map[*Node]int{}
		text := ""
		for i, e := range l.Entries {
			if k, ok := first[e.Node]; ok && e.Node != nil {
				text += fmt.Sprintf("%d=%d ", i, k)
			} else {
				first[e.Node] = i
			}
		}
		return text
	}
	if diff := cmp.Diff(links(want), links(got)); diff != "" {
		t.Errorf("%s: other hard links (-want +got):\n%s", what, diff)
	}
}

func TestIndexKeepsTheLayer(t *testing.T) {
	for name, tree := range map[string]*Tree{"awkward": awkward(t), "random": randomTree(t, 30, 300), "empty": NewTree()} {
		for _, c := range everyCompression {
			want, got, _ := indexed(t, tree, c)
			compareLayers(t, name+" "+c.String(), want, got)
		}
	}
	l := &Layer{Digest: "sha256:x", Entries: []Entry{
		{Kind: Whiteout, Name: "etc/a"}, {Kind: Opaque, Name: "etc"}, {Kind: Opaque, Name: "."}, {Kind: Link, Name: "etc/b", Target: "usr/b"}}}
	var out bytes.Buffer
	if err := EncodeIndex(&out, l); err != nil {
		t.Fatal(err)
	}
	got, err := DecodeIndex(&out, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Source = &BlobSource{Digest: "sha256:x"}
	compareLayers(t, "steps", l, got)
}

func TestIndexOpensContents(t *testing.T) {
	tree := awkward(t)
	_, got, _ := indexed(t, tree, DefaultCompression())
	applied, err := Apply(NewTree(), got)
	if err != nil {
		t.Fatal(err)
	}
	sameTree(t, "through the index", tree, applied)
}

func TestIndexRefusesWhatIsWrong(t *testing.T) {
	want, _, index := indexed(t, randomTree(t, 31, 100), DefaultCompression())
	try := func(what string, index []byte, blob Blob) {
		t.Helper()
		if _, err := DecodeIndex(bytes.NewReader(index), blob); !errors.Is(err, ErrIndex) {
			t.Errorf("%s gave %v", what, err)
		}
	}
	for i := range index {
		damaged := bytes.Clone(index)
		damaged[i] ^= 1 << (i % 8)
		try(fmt.Sprintf("a wrong byte %d", i), damaged, want.Source.Blob)
		if i%7 == 0 {
			try(fmt.Sprintf("an end after %d bytes", i), index[:i], want.Source.Blob)
		}
	}
	try("an index of another blob", index, memoryBlob("short"))
	try("nothing", nil, nil)
}

func TestEncodeIndexNeedsContentsInTheBlob(t *testing.T) {
	l := &Layer{Entries: []Entry{{Kind: Put, Name: "a", Node: NewFile([]byte("in memory"), 0o644, Timespec{})}}}
	if err := EncodeIndex(io.Discard, l); err == nil {
		t.Error("an index of contents in memory was written")
	}
}

// FuzzDecodeIndex gives the decoder what passes its checksum.
func FuzzDecodeIndex(f *testing.F) {
	for _, tree := range []*Tree{awkward(f), randomTree(f, 32, 50), NewTree()} {
		_, _, index := indexed(f, tree, DefaultCompression())
		f.Add(index[len(indexMagic) : len(index)-32])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d := indexDecoder{in: body, source: &BlobSource{}}
		l := d.decode()
		if d.err != nil {
			return
		}
		for _, e := range l.Entries {
			if e.Kind == Put && e.Node == nil {
				t.Fatalf("%q has no node", e.Name)
			}
			if e.Kind == Put && e.Node.DataSize() > 0 && e.Node.Content == nil {
				t.Fatalf("%q has no content", e.Name)
			}
		}
	})
}
