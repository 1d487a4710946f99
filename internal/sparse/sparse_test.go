package sparse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
)

// blocks returns random data in which some blocks are zeros, and whose end is no multiple of a block.
func blocks(seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, random.IntN(6)*blockSize+random.IntN(blockSize))
	for at := 0; at < len(data); at += blockSize {
		if random.IntN(2) == 0 {
			for i := at; i < min(at+blockSize, len(data)); i++ {
				data[i] = byte(random.Uint32())
			}
		}
	}
	return data
}

func create(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestCopyKeepsEveryByte(t *testing.T) {
	for seed := range uint64(30) {
		data, at := blocks(seed), int64(seed)*1000
		f := create(t)
		n, err := Copy(t.Context(), f, at, iotest.HalfReader(bytes.NewReader(data)))
		if err != nil || n != int64(len(data)) {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if err := f.Truncate(at + n); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(f.Name())
		if err != nil || !bytes.Equal(got[at:], data) || len(bytes.Trim(got[:at], "\x00")) > 0 {
			t.Errorf("seed %d: the file is another one, %v", seed, err)
		}
	}
}

func TestZerosTakeNoRoom(t *testing.T) {
	f := create(t)
	const size = 64 << 20
	if n, err := Copy(t.Context(), f, 0, io.MultiReader(io.LimitReader(zeroReader{}, size-1), strings.NewReader("x"))); err != nil || n != size {
		t.Fatalf("%d bytes, %v", n, err)
	}
	info, err := f.Stat()
	if err != nil || info.Size() != size {
		t.Fatalf("%v, %v", info, err)
	}
	if room := info.Sys().(*syscall.Stat_t).Blocks * 512; room > 4*blockSize {
		t.Errorf("it takes %d bytes", room)
	}
}

func TestCopyFails(t *testing.T) {
	broken := errors.New("broken")
	for _, want := range []error{broken, io.ErrUnexpectedEOF} { // as a stream that was cut off
		r := io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(want))
		if n, err := Copy(t.Context(), create(t), 0, r); !errors.Is(err, want) || n != 3 {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	if _, err := Copy(ctx, create(t), 0, strings.NewReader("abc")); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	f := create(t)
	f.Close()
	if _, err := Copy(t.Context(), f, 0, strings.NewReader("abc")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("error is %v", err)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// ones gives pieces that begin with what is no zero, fast.
type ones struct{}

func (ones) Read(p []byte) (int, error) { p[0] = 1; return len(p), nil }

// nowhere takes all there is.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

func TestUnpackRefusesBombs(t *testing.T) {
	const source = 1000
	const size = 1 << 30 // more than source bytes may honestly become
	if n, err := Unpack(t.Context(), nowhere{}, io.LimitReader(zeroReader{}, size), source); err != nil || n != size {
		t.Errorf("a disk of zeros: %d bytes, %v", n, err)
	}
	if _, err := Unpack(t.Context(), nowhere{}, ones{}, source); err == nil || !strings.Contains(err.Error(), "1000 bytes of it have become more than") {
		t.Errorf("error is %v", err)
	}
}
