package gunzip

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	klauspost "github.com/klauspost/compress/gzip"
)

// texts are data of many kinds: what compresses to stored, fixed and dynamic blocks, to near and far matches, and to one-symbol codes.
func texts() map[string][]byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 300_000)
	for i := range random {
		random[i] = byte(rnd.Uint32())
	}
	words := strings.Builder{}
	for words.Len() < 1_000_000 {
		fmt.Fprintf(&words, "%x %d\n", rnd.Uint32N(1000), rnd.Uint32N(50))
	}
	far := bytes.Clone(random[:windowSize])
	for i := 0; i < 200_000; i += 300 {
		far = append(far, far[len(far)-windowSize:][:rnd.IntN(300)]...)
		far = append(far, byte(rnd.Uint32()))
	}
	skewed := make([]byte, 500_000)
	for i := range skewed {
		skewed[i] = byte(rnd.ExpFloat64() * 6) // codes of all lengths
	}
	m := map[string][]byte{"empty": {}, "one": {7}, "random": random, "words": []byte(words.String()), "far": far, "skewed": skewed}
	for dist := 1; dist < 20; dist++ {
		m[fmt.Sprintf("period %d", dist)] = bytes.Repeat(random[:dist], 70_000/dist)
	}
	return m
}

// members compresses data in all the ways there are.
func members(t testing.TB, data []byte) map[string][]byte {
	made := map[string][]byte{}
	for level := gzip.HuffmanOnly; level <= gzip.BestCompression; level++ {
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, level)
		if err != nil {
			t.Fatal(err)
		}
		write(t, w, data)
		made[fmt.Sprintf("std %d", level)] = b.Bytes()
	}
	for _, level := range []int{klauspost.StatelessCompression, 1, 9} {
		var b bytes.Buffer
		w, err := klauspost.NewWriterLevel(&b, level)
		if err != nil {
			t.Fatal(err)
		}
		w.Header = klauspost.Header{Name: "a name", Comment: "a comment", Extra: []byte("extra")}
		write(t, w, data)
		made[fmt.Sprintf("klauspost %d", level)] = b.Bytes()
	}
	return made
}

func write(t testing.TB, w interface {
	io.WriteCloser
	Flush() error
}, data []byte) {
	t.Helper()
	_, err := w.Write(data[:len(data)/2])
	if err == nil {
		err = w.Flush() // an empty stored block
	}
	if err == nil {
		_, err = w.Write(data[len(data)/2:])
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
}

// readIn reads all of r into buffers of the given size.
func readIn(r io.Reader, size int) ([]byte, error) {
	var all []byte
	for {
		p := make([]byte, size)
		n, err := r.Read(p)
		all = append(all, p[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

func TestReader(t *testing.T) {
	for name, data := range texts() {
		for how, packed := range members(t, data) {
			for _, size := range []int{1 << 20, 100_000, 5000, 270} {
				r, err := NewReader(bytes.NewReader(packed))
				if err != nil {
					t.Fatal(err)
				}
				got, err := readIn(r, size)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s, %s, in buffers of %d: %d of %d bytes: %v", name, how, size, len(got), len(data), err)
				}
			}
		}
	}
}

// Whatever the pieces in which the input comes and the output is taken, the bytes are the same.
func TestPieces(t *testing.T) {
	data := texts()["words"][:40_000]
	for how, packed := range members(t, data) {
		for _, size := range []int{1, 7, 300, 100_000} {
			r, err := NewReader(iotest.OneByteReader(bytes.NewReader(packed)))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := readIn(r, size); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, in buffers of %d: %d bytes: %v", how, size, len(got), err)
			}
		}
	}
}

func TestSeveralMembers(t *testing.T) {
	var packed, want []byte
	for _, data := range texts() {
		packed = append(packed, members(t, data)["klauspost 9"]...)
		want = append(want, data...)
	}
	r, err := NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readIn(r, 1<<16); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes: %v", len(got), len(want), err)
	}
}

// A stream that ends anywhere but behind a member is broken off.
func TestBrokenOff(t *testing.T) {
	packed := members(t, texts()["words"][:3000])["klauspost 9"]
	for n := range packed {
		r, err := NewReader(bytes.NewReader(packed[:n]))
		if err == nil {
			_, err = readIn(r, 1000)
		}
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if err != want {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}

func TestErrors(t *testing.T) {
	packed := members(t, texts()["words"][:3000])["std 6"]
	changed := func(at int, value byte) []byte {
		p := bytes.Clone(packed)
		p[(at+len(p))%len(p)] = value
		return p
	}
	stored := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0}
	for _, c := range []struct {
		packed []byte
		want   error
	}{
		{[]byte("no gzip at all"), errMagic},
		{append(bytes.Clone(packed), make([]byte, 20)...), errMagic},
		{changed(2, 7), errHeader},
		{changed(-1, 9), errChecksum},
		{changed(-5, packed[len(packed)-5]^1), errChecksum},
		{append(bytes.Clone(stored), 7), errBlock},
		{append(bytes.Clone(stored), 1, 1, 0, 0, 0), errStored},
		{append(bytes.Clone(stored), 0b00000011, 0b00000010, 0, 0, 0), errTooFar}, // fixed codes: length 3 back 1 of nothing
		{append(bytes.Clone(stored), 0b11111101, 0xff, 0xff, 0xff), errTables},
	} {
		r, err := NewReader(bytes.NewReader(c.packed))
		if err == nil {
			_, err = readIn(r, 1000)
		}
		if err != c.want {
			t.Errorf("%x: %v, not %v", c.packed[:min(20, len(c.packed))], err, c.want)
		}
	}
	broken := errors.New("broken")
	r, err := NewReader(io.MultiReader(bytes.NewReader(packed[:100]), iotest.ErrReader(broken)))
	if err == nil {
		_, err = readIn(r, 1000)
	}
	if err != broken {
		t.Errorf("an error of the source became %v", err)
	}
}

// Damaged data gives what Go's own reader makes of it, or both give an error.
func TestDamaged(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for name, data := range texts() {
		for _, packed := range members(t, data[:min(len(data), 20_000)]) {
			for range 20 {
				damaged := bytes.Clone(packed)
				for range 1 + rnd.IntN(3) {
					damaged[rnd.IntN(len(damaged))] ^= 1 << rnd.IntN(8)
				}
				compare(t, name, damaged)
			}
		}
	}
}

func compare(t *testing.T, name string, packed []byte) {
	t.Helper()
	const most = 1 << 20
	var want []byte
	theirs, wantErr := gzip.NewReader(bytes.NewReader(packed))
	if wantErr == nil {
		want, wantErr = io.ReadAll(io.LimitReader(theirs, most))
	}
	for _, size := range []int{64 << 10, 777} {
		var got []byte
		ours, err := NewReader(bytes.NewReader(packed))
		if err == nil {
			got, err = readIn(io.LimitReader(ours, most), size)
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%s: %v, and Go's reader says %v", name, err, wantErr)
		}
		if err == nil {
			if diff := cmp.Diff(len(want), len(got)); diff != "" || !bytes.Equal(got, want) {
				t.Fatalf("%s: other bytes %s", name, diff)
			}
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, data := range [][]byte{{}, []byte("hello, hello, hello"), bytes.Repeat([]byte("ab"), 400)} {
		for _, packed := range members(f, data) {
			f.Add(packed)
		}
	}
	f.Fuzz(func(t *testing.T, packed []byte) { compare(t, "fuzz", packed) })
}

func BenchmarkReader(b *testing.B) {
	data := texts()["words"]
	packed := members(b, data)["std 6"]
	p := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		r, err := NewReader(bytes.NewReader(packed))
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = r.Read(p)
		}
	}
}
