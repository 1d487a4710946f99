package deflate

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

func usual() Settings { return Settings{Window: 15, Nice: 100, Depth: 16, Passes: 2} }

// samples are contents of all kinds by name.
func samples() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise, code := make([]byte, 200_000), make([]byte, 3*pieceSize+7)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for i := range code {
		code[i] = []byte{0xe8, 0, 0xff, 0x48, 0x89, byte(i), byte(i >> 8), byte(r.Uint32())}[r.IntN(8)]
	}
	var text []byte
	for len(text) < 1<<20 {
		text = fmt.Appendf(text, "%d files of user %d, %x\n", r.IntN(500), r.IntN(10), r.IntN(1<<20))
	}
	all := map[string][]byte{
		"nothing": nil, "noise": noise, "code": code, "text": text, "zeros": make([]byte, 1<<20), "a piece": text[:pieceSize], "a piece and 1": text[:pieceSize+1],
		"noise in text": bytes.Join([][]byte{text[:100_000], noise, text[:100_000]}, nil), "far": bytes.Join([][]byte{noise[:32768], noise[:32768]}, nil),
		"too far": bytes.Join([][]byte{noise[:32769], noise[:32769]}, nil), "every byte": {},
	}
	for i := range 256 {
		all["every byte"] = append(all["every byte"], byte(i))
	}
	// Frequencies like Fibonacci's numbers make the longest words.
	var rare []byte
	for i, a, b := 0, 1, 1; i < 24; i, a, b = i+1, b, a+b {
		rare = append(rare, bytes.Repeat([]byte{byte(i)}, a)...)
	}
	r.Shuffle(len(rare), func(i, j int) { rare[i], rare[j] = rare[j], rare[i] })
	all["long words"] = rare
	for n := 1; n < 12; n++ {
		all[fmt.Sprint(n, " equal bytes")] = bytes.Repeat([]byte{'x'}, n)
		all[fmt.Sprint(n, " bytes")] = noise[:n]
	}
	return all
}

func unpack(t testing.TB, packed []byte) []byte {
	t.Helper()
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestOthersReadIt(t *testing.T) {
	python := testenv.NeedProgram(t, "python3")
	p := NewPacker()
	for name, data := range samples() {
		for _, s := range []Settings{usual(), {Window: 8, Nice: 20, Depth: 2, Passes: 1}, {Window: 15, Nice: 258, Depth: 100, Passes: 4}} {
			packed, ok := bytes.CutPrefix(p.Append([]byte("before"), data, s), []byte("before"))
			if got := unpack(t, packed); !ok || !bytes.Equal(got, data) {
				t.Errorf("%s: %+v: %d bytes became %d", name, s, len(data), len(got))
			}
			if most := len(data) + len(data)/1000 + 20; len(packed) > most {
				t.Errorf("%s: %+v: %d bytes became %d", name, s, len(data), len(packed))
			}
			if s != usual() || len(data) < 10 && len(data) != 3 {
				continue
			}
			// zlib itself, which is strict about codes that are not complete.
			cmd := exec.Command(python, "-c", "import sys, zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))")
			cmd.Stdin = bytes.NewReader(packed)
			if got, err := cmd.Output(); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: zlib reads %d bytes of %d (%v)", name, len(got), len(data), err)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	p := NewPacker()
	for name, data := range samples() {
		var zlibs bytes.Buffer
		w, err := zlib.NewWriterLevel(&zlibs, 9)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := len(p.Append(nil, data, usual())); got > zlibs.Len()+zlibs.Len()/500+300 {
			t.Errorf("%s: %d bytes became %d, and %d by the standard library", name, len(data), got, zlibs.Len())
		}
	}
}

func FuzzAppend(f *testing.F) {
	for _, data := range samples() {
		if len(data) < 10_000 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if got := unpack(t, NewPacker().Append(nil, data, usual())); !bytes.Equal(got, data) {
			t.Fatalf("%d bytes came back as %d", len(data), len(got))
		}
	})
}
