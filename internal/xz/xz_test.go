package xz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	foreign "github.com/ulikunitz/xz"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// compress compresses data that comes in pieces of the given size.
func compress(t testing.TB, data []byte, piece int) []byte {
	t.Helper()
	var out bytes.Buffer
	err := Compress(t.Context(), &out, func(w io.Writer) error {
		for rest := data; len(rest) > 0; {
			n, err := w.Write(rest[:min(piece, len(rest))])
			if err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// words returns text of the given length, with much or little that comes again.
func words(r *rand.Rand, size, vocabulary int) []byte {
	var list []string
	for range vocabulary {
		word := make([]byte, 1+r.IntN(12))
		for i := range word {
			word[i] = byte('a' + r.IntN(26))
		}
		list = append(list, string(word))
	}
	var b bytes.Buffer
	for b.Len() < size {
		b.WriteString(list[r.IntN(len(list))])
		b.WriteByte(' ')
	}
	return b.Bytes()[:size]
}

func noise(r *rand.Rand, size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// samples are contents of all kinds by name.
func samples() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	text, random := words(r, 3<<20, 5000), noise(r, 300_000)
	almost := noise(r, 300_000) // which looks as if something could be gained
	for i := range almost {
		almost[i] %= 239
	}
	all := map[string][]byte{
		"nothing": nil, "a byte": {7}, "zeros": make([]byte, BlockSize+maxChunk+5), "text": text, "noise": random,
		"noise twice":    bytes.Repeat(random, 2),
		"noise in text":  slicesOf(text[:1<<20], random, text[:1<<20]),
		"text in noise":  slicesOf(random, text[:100_000], random[:70_000], text[:9]),
		"a block":        bytes.Repeat(text, 3)[:BlockSize],
		"a block and 1":  bytes.Repeat(text, 3)[:BlockSize+1],
		"few symbols":    bytes.Map(func(c rune) rune { return 'a' + c&1 }, text[:200_000]),
		"almost noise":   slicesOf(almost, text[:100_000], almost[:200_000], text),
		"every distance": nil,
	}
	var far []byte
	for i := range 22 { // the same bytes again at distances of all slots
		far = append(far, fmt.Sprintf("these bytes come again %d ", i)...)
		far = append(far, noise(r, 1<<i)...)
	}
	all["every distance"] = far
	for n := range 20 {
		all[fmt.Sprint(n, " equal bytes")] = bytes.Repeat([]byte{'x'}, n)
	}
	return all
}

func slicesOf(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestOthersReadIt(t *testing.T) {
	program := testenv.NeedProgram(t, "xz")
	for name, data := range samples() {
		packed := compress(t, data, 100_000)
		r, err := foreign.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: the library reads %d bytes of %d (%v)", name, len(got), len(data), err)
		}
		cmd := exec.Command(program, "--decompress", "--stdout", "--threads=2")
		cmd.Stdin = bytes.NewReader(packed)
		if got, err := cmd.Output(); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: xz reads %d bytes of %d (%v)", name, len(got), len(data), err)
		}
	}
}

func TestSizes(t *testing.T) {
	all := samples()
	for name, most := range map[string]float64{"noise": 1.001, "zeros": 0.001, "text": 0.34, "noise in text": 0.45, "noise twice": 0.51, "few symbols": 0.17} {
		packed := compress(t, all[name], 1<<20)
		if ratio := float64(len(packed)) / float64(len(all[name])); ratio > most {
			t.Errorf("%s: %d bytes became %d: %.3f of them, not %.3f", name, len(all[name]), len(packed), ratio, most)
		}
	}
}

func TestTheSameBytes(t *testing.T) {
	data := slicesOf(words(rand.New(rand.NewPCG(3, 4)), BlockSize, 3000), []byte("end"))
	want := compress(t, data, len(data))
	before := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(before)
	if !bytes.Equal(compress(t, data, 70_001), want) {
		t.Error("one processor, and pieces of another size, make other bytes")
	}
}

// broken fails after some bytes.
type broken struct{ left int }

func (b *broken) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("the disk is full")
	}
	return len(p), nil
}

func TestFailures(t *testing.T) {
	data := noise(rand.New(rand.NewPCG(5, 6)), 1<<20)
	endless := func(w io.Writer) error {
		for {
			if _, err := w.Write(data); err != nil {
				return err
			}
		}
	}
	if err := Compress(t.Context(), &broken{BlockSize}, endless); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("a full disk: %v", err)
	}
	if err := Compress(t.Context(), io.Discard, func(io.Writer) error { return errors.New("no such file") }); err == nil || err.Error() != "no such file" {
		t.Errorf("an unreadable file: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	n := 0
	err := Compress(ctx, io.Discard, func(w io.Writer) error {
		for {
			if n++; n == 20 {
				cancel(errors.New("the user asked"))
			}
			if _, err := w.Write(data); err != nil {
				return err
			}
		}
	})
	if err == nil || !strings.Contains(err.Error(), "the user asked") {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzCompress(f *testing.F) {
	for _, data := range samples() {
		if len(data) < 10_000 {
			f.Add(data)
		}
	}
	f.Add(words(rand.New(rand.NewPCG(7, 8)), 50_000, 100))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := foreign.NewReader(bytes.NewReader(compress(t, data, 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes came back as %d (%v)", len(data), len(got), err)
		}
	})
}

func BenchmarkCompress(b *testing.B) {
	data := words(rand.New(rand.NewPCG(9, 10)), 4*BlockSize, 20_000)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		compress(b, data, 1<<20)
	}
}
