package layers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// layerOf lists all of a tree as the entries of a layer.
func layerOf(t testing.TB, tree *Tree) *Layer {
	t.Helper()
	l := &Layer{}
	err := tree.Walk(func(name string, n *Node) error {
		if n.IsDir() {
			c := *n
			c.children = nil
			n = &c
		}
		l.Entries = append(l.Entries, Entry{Kind: Put, Name: name, Node: n})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func packed(t testing.TB, l *Layer, opts PackOptions) (*Packed, []byte) {
	t.Helper()
	var out bytes.Buffer
	p, err := Pack(t.Context(), &out, l, opts)
	if err != nil {
		t.Fatal(err)
	}
	return p, out.Bytes()
}

var everyCompression = []Compression{{Algorithm: Zstd}, {Zstd, 1}, {Algorithm: Gzip}, {Gzip, 1}, {Algorithm: None}}

// The digests change when the tar writer or the compressor does. If a new version of the compressor changed only the blobs' digests, put
// the new ones here; a change of the DiffID makes every user's next layer a full one and needs a better reason.
func TestPackIsDeterministic(t *testing.T) {
	l := layerOf(t, randomTree(t, 7, 600))
	golden := map[string][2]string{
		"gzip:6": {"sha256:83e561f9a67ba8a2f9f4466f25107769f8b0ce58368921f2028396f3596bd8bb", "sha256:c52314e7933c618b1c39e9f40bf86fee425d4da498362fbd2e2e79678a6f2c66"},
		"zstd:3": {"sha256:783aab164b72472c49273f351f5fb261483cd3fed3a1a5f967726c8474c71815", "sha256:c52314e7933c618b1c39e9f40bf86fee425d4da498362fbd2e2e79678a6f2c66"},
	}
	for _, c := range everyCompression {
		var want []byte
		for _, jobs := range []int{1, 2, 8} {
			p, blob := packed(t, l, PackOptions{Compression: c, Jobs: jobs})
			if want == nil {
				want = blob
			}
			if !bytes.Equal(want, blob) {
				t.Errorf("%s: %d jobs give other bytes than one", c, jobs)
			}
			if g, ok := golden[c.String()]; ok && (p.Digest.String() != g[0] || p.DiffID.String() != g[1]) {
				t.Errorf("%s, %d jobs: digest %s, diff id %s; want %s", c, jobs, p.Digest, p.DiffID, g)
			}
		}
	}
}

func TestPackSaysWhatItWrote(t *testing.T) {
	tree := randomTree(t, 8, 600)
	for _, c := range everyCompression {
		var progress int64
		p, blob := packed(t, layerOf(t, tree), PackOptions{Compression: c, Progress: func(n int64) { progress += n }})
		raw := decompressed(t, c.Algorithm, blob)
		want := Packed{Digest: digest.FromBytes(blob), DiffID: digest.FromBytes(raw), Size: int64(len(blob)), TarSize: int64(len(raw)),
			MediaType: c.MediaType()}
		got := *p
		got.Layer = nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-is +said):\n%s", c, diff)
		}
		if progress != p.TarSize {
			t.Errorf("%s: progress counts %d of %d bytes", c, progress, p.TarSize)
		}
		if diff := cmp.Diff(treeText(t, tree), goTarText(t, bytes.NewReader(raw))); diff != "" {
			t.Errorf("%s: Go reads something else (-tree +tar):\n%s", c, diff)
		}
	}
}

// decompressed is what Go's own reader or that of the zstd library makes of a blob, reading it from its beginning to its end.
func decompressed(t *testing.T, a Algorithm, blob []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(blob)
	var err error
	switch a {
	case Gzip:
		r, err = gzip.NewReader(r)
	case Zstd:
		r, err = zstd.NewReader(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestPackedLayerKnowsItsContents(t *testing.T) {
	for name, tree := range map[string]*Tree{"awkward": awkward(t), "random": randomTree(t, 9, 250)} {
		for _, c := range everyCompression {
			p, blob := packed(t, layerOf(t, tree), PackOptions{Compression: c})
			p.Layer.Source.Blob = memoryBlob(blob)
			e := NewTree().Edit(Timespec{})
			for _, entry := range p.Layer.Entries {
				if err := e.Put(entry.Name, entry.Node); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(treeText(t, tree), treeText(t, e.Tree())); diff != "" {
				t.Errorf("%s, %s: contents in the blob differ (-tree +layer):\n%s", name, c, diff)
			}
			for name, n := range map[string]*Node{"holes/middle": nil, "holes/all": nil} {
				if n, _ = tree.Lookup(name); n == nil {
					continue
				}
				if m, err := e.Lookup(name); err != nil || !slices.Equal(n.Data, m.Data) {
					t.Errorf("%s: the holes of %s got lost: %v, %v", c, name, m.Data, err)
				}
			}
		}
	}
}

type memoryBlob []byte

func (m memoryBlob) Size() int64 { return int64(len(m)) }

func (m memoryBlob) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}

func TestReadFramesFindsThePieces(t *testing.T) {
	l := layerOf(t, randomTree(t, 10, 1500))
	for _, a := range []Algorithm{Zstd, Gzip} {
		p, blob := packed(t, l, PackOptions{Compression: Compression{Algorithm: a}})
		frames, err := readFrames(memoryBlob(blob), a)
		if err != nil || len(frames) < 2 {
			t.Fatalf("%s: %d frames, %v", a, len(frames), err)
		}
		if diff := cmp.Diff(p.Layer.Source.Frames, frames); diff != "" {
			t.Errorf("%s: other frames found than written:\n%s", a, diff)
		}
		dec, err := newPieceDecoder(a, 1)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		for _, f := range frames {
			raw, err := dec.decode(blob[f.Offset:f.Offset+f.Size], f.TarSize, nil)
			if err != nil {
				t.Fatal(err)
			}
			sum.Write(raw)
			if _, err := dec.decode(blob[f.Offset:f.Offset+f.Size], f.TarSize-1, nil); err == nil {
				t.Errorf("%s: a piece with more than it says was taken", a)
			}
			if _, err := dec.decode(blob[f.Offset:f.Offset+f.Size], f.TarSize+1, nil); err == nil {
				t.Errorf("%s: a piece with less than it says was taken", a)
			}
		}
		dec.close()
		if got := digest.NewDigest(digest.SHA256, sum); got != p.DiffID {
			t.Errorf("%s: the pieces give %s, not %s", a, got, p.DiffID)
		}
		for cut := range 40 {
			if frames, err := readFrames(memoryBlob(blob[:len(blob)-1-cut]), a); frames != nil || err != nil {
				t.Errorf("%s: a blob that lacks its last %d bytes has %d frames, %v", a, cut+1, len(frames), err)
			}
		}
	}
}

func FuzzReadFrames(f *testing.F) {
	for _, a := range []Algorithm{Zstd, Gzip} {
		var out bytes.Buffer
		l := &Layer{Entries: []Entry{{Name: "a", Node: NewFile(make([]byte, 3<<20), 0o644, Timespec{})}}}
		if _, err := Pack(context.Background(), &out, l, PackOptions{Compression: Compression{Algorithm: a}}); err != nil {
			f.Fatal(err)
		}
		f.Add(out.Bytes(), a == Zstd)
	}
	f.Fuzz(func(t *testing.T, blob []byte, isZstd bool) {
		a := Gzip
		if isZstd {
			a = Zstd
		}
		frames, err := readFrames(memoryBlob(blob), a)
		if err != nil {
			t.Fatal(err)
		}
		var at Frame
		for _, fr := range frames {
			if fr.Offset != at.Offset || fr.TarOffset != at.TarOffset || fr.Size <= 0 || fr.TarSize < 0 || fr.TarSize > maxFrame ||
				fr.Offset+fr.Size > int64(len(blob)) {
				t.Fatalf("frame %+v after %+v of %d bytes", fr, at, len(blob))
			}
			at.Offset, at.TarOffset = fr.Offset+fr.Size, fr.TarOffset+fr.TarSize
		}
	})
}

func TestBlobsAreReadByForeignTools(t *testing.T) {
	l := layerOf(t, randomTree(t, 11, 800))
	for _, test := range []struct {
		c    Compression
		tool []string
	}{
		{Compression{Algorithm: Zstd}, []string{"zstd", "-dc"}},
		{Compression{Algorithm: Gzip}, []string{"gzip", "-dc"}},
		{Compression{Algorithm: Gzip}, []string{"python3", "-c",
			"import sys,gzip,shutil; shutil.copyfileobj(gzip.open(sys.argv[1]), sys.stdout.buffer)"}},
	} {
		testenv.NeedProgram(t, test.tool[0])
		p, blob := packed(t, l, PackOptions{Compression: test.c})
		file := filepath.Join(t.TempDir(), "blob")
		if err := os.WriteFile(file, blob, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(test.tool[0], test.tool[1:]...)
		if test.tool[0] == "python3" {
			cmd.Args = append(cmd.Args, file)
		} else {
			cmd.Stdin = bytes.NewReader(blob)
		}
		out, err := cmd.Output()
		if got := digest.FromBytes(out); err != nil || got != p.DiffID {
			t.Errorf("%v gives %s, %v; want %s", test.tool, got, err, p.DiffID)
		}
		if test.tool[0] != "python3" {
			testenv.Run(t, test.tool[0], "-t", "--stdout", file)
		}
	}
}

func TestPackWritesEveryKindOfEntry(t *testing.T) {
	l := &Layer{Entries: []Entry{
		{Kind: Put, Name: "etc", Node: &Node{Mode: TypeDir | 0o755}},
		{Kind: Opaque, Name: "etc"},
		{Kind: Whiteout, Name: "etc/gone"},
		{Kind: Whiteout, Name: "gone"},
		{Kind: Link, Name: "etc/link", Target: "bin/target"},
	}}
	p, blob := packed(t, l, PackOptions{})
	want := []string{
		`"etc" directory 755 0:0 0,0 0.000000000 ""`,
		`"etc/.wh..wh..opq" file 0 0:0 0,0 0.000000000 "" 0 e3b0c44298fc`,
		`"etc/.wh.gone" file 0 0:0 0,0 0.000000000 "" 0 e3b0c44298fc`,
		`".wh.gone" file 0 0:0 0,0 0.000000000 "" 0 e3b0c44298fc`,
		`"etc/link" link 644 0:0 0,0 0.000000000 "bin/target"`,
	}
	if diff := cmp.Diff(want, goTarText(t, bytes.NewReader(blob))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(p.Layer.Entries) != len(l.Entries) {
		t.Errorf("the layer came back with %d entries", len(p.Layer.Entries))
	}
}

func TestPackRefusesNamesOfWhiteouts(t *testing.T) {
	l := &Layer{Entries: []Entry{{Kind: Put, Name: "var/.wh.x", Node: NewFile(nil, 0o644, Timespec{})}}}
	if _, err := Pack(t.Context(), io.Discard, l, PackOptions{}); err == nil {
		t.Error("a file whose name means a deletion was packed")
	}
}

// failing fails after some bytes.
type failing struct{ left int }

var errDisk = errors.New("the disk broke")

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

type brokenContent struct{}

func (brokenContent) Open() (io.ReadCloser, error) { return nil, errDisk }

func TestPackStopsOnErrors(t *testing.T) {
	tree := randomTree(t, 12, 500)
	for _, c := range everyCompression {
		if _, err := Pack(t.Context(), &failing{100}, layerOf(t, tree), PackOptions{Compression: c}); !errors.Is(err, errDisk) {
			t.Errorf("%s: a writer's error became %v", c, err)
		}
		l := layerOf(t, tree)
		l.Entries = append(l.Entries, Entry{Name: "zz", Node: &Node{Mode: TypeRegular, Size: 1, Content: brokenContent{}}})
		if _, err := Pack(t.Context(), io.Discard, l, PackOptions{Compression: c}); !errors.Is(err, errDisk) {
			t.Errorf("%s: a content's error became %v", c, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var n int64
		_, err := Pack(ctx, io.Discard, layerOf(t, tree), PackOptions{Compression: c, Progress: func(int64) {
			if n++; n == 1 {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: a cancelled pack gave %v", c, err)
		}
	}
	short := &Layer{Entries: []Entry{{Name: "short", Node: &Node{Mode: TypeRegular, Size: 10, Content: Bytes("five.")}}}}
	if _, err := Pack(t.Context(), io.Discard, short, PackOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that shrank gave %v", err)
	}
}

func TestParseCompression(t *testing.T) {
	for text, want := range map[string]string{"": "zstd:3", "zstd": "zstd:3", "zstd:19": "zstd:19", "gzip": "gzip:6", "gzip:1": "gzip:1", "none": "none"} {
		c, err := ParseCompression(text)
		if err != nil || c.String() != want {
			t.Errorf("%q is %s, %v; want %s", text, c, err, want)
		}
	}
	for _, text := range []string{"xz", "zstd:", "zstd:0", "zstd:23", "gzip:10", "none:1", "zstd:-1", "gzip:x"} {
		if c, err := ParseCompression(text); err == nil {
			t.Errorf("%q is %s", text, c)
		}
	}
}

// A layer that is read without its index is the same layer.
func TestPackedLayerIsReadBack(t *testing.T) {
	for name, tree := range map[string]*Tree{"awkward": awkward(t), "random": randomTree(t, 13, 250)} {
		for _, c := range everyCompression {
			p, blob := packed(t, layerOf(t, tree), PackOptions{Compression: c})
			l, err := ReadLayer(t.Context(), memoryBlob(blob), ReadOptions{Digest: p.Digest, DiffID: p.DiffID})
			if err != nil {
				t.Errorf("%s, %s: %v", name, c, err)
				continue
			}
			got, err := Apply(NewTree(), l)
			if err != nil {
				t.Fatal(err)
			}
			sameTree(t, name+" "+c.String(), tree, got)
		}
	}
}
