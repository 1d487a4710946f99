package decompress

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// compressed lets a program compress data.
func compressed(t testing.TB, data []byte, program string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(testenv.NeedProgram(t, program), append(args, "--stdout")...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// read decompresses all of a file.
func read(ctx context.Context, file []byte) ([]byte, error) {
	r, err := Of(file).NewReader(ctx, bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

func sample() []byte {
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = "abcd"[random.IntN(4)]
	}
	return data
}

func TestEveryFormat(t *testing.T) {
	data := sample()
	for _, program := range []string{"gzip", "xz", "zstd", "bzip2"} {
		file := compressed(t, data, program)
		if name := Of(file).Name; name != program {
			t.Errorf("a file by %s is %q", program, name)
		}
		if got, err := read(t.Context(), file); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", program, len(got), err)
		}
		for _, cut := range []int{4, 6, len(file) / 2, len(file) - 1} {
			if _, err := read(t.Context(), file[:max(cut, len(Of(file).Magic))]); err == nil || !strings.Contains(err.Error(), "decompressing it: ") {
				t.Errorf("%s, cut off after %d bytes: %v", program, cut, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		r, err := Of(file).NewReader(ctx, bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := r.Close(); err != nil { // without having read it to its end
			t.Error(err)
		}
	}
	if f := Of([]byte("plain")); f.Name != "" {
		t.Errorf("plain text is %s", f.Name)
	}
}

// zstdFrame is a frame with one byte that asks for a window of 1 << log bytes (RFC 8878, section 3.1.1).
func zstdFrame(log int) []byte {
	frame := binary.LittleEndian.AppendUint32(nil, 0xfd2fb528)
	frame = append(frame, 0, byte(log-10)<<3)
	const last, raw, size = 1, 0 << 1, 1 << 3
	return append(frame, last|raw|size, 0, 0, 'x')
}

func TestMemoryIsBounded(t *testing.T) {
	if got, err := read(t.Context(), zstdFrame(28)); err != nil || string(got) != "x" {
		t.Errorf("a window of 256 MiB: %q, %v", got, err)
	}
	_, err := read(t.Context(), zstdFrame(31))
	var memory *MemoryError
	if !errors.As(err, &memory) || !strings.Contains(err.Error(), "zstd --decompress --long=31 FILE") {
		t.Errorf("a window of 2 GiB: %v", err)
	}
	// The header of xz's first block (The .xz File Format, sections 3.1 and 5.3.1): its length, flags, the filter's number and what it is told, padding, checksum.
	file := compressed(t, []byte("x"), "xz", "--threads=1")
	const header, dictionary, largest = 12, 16, 37 // of 1.5 GiB
	sum := header + 4*int(file[header])
	file[dictionary] = largest
	binary.LittleEndian.PutUint32(file[sum:], crc32.ChecksumIEEE(file[header:sum]))
	if _, err = read(t.Context(), file); !errors.As(err, &memory) || memory.Format != "xz" {
		t.Errorf("a dictionary of 1.5 GiB: %v", err)
	}
}

// TestRemedy does what the error says.
func TestRemedy(t *testing.T) {
	testenv.NeedProgram(t, "zstd")
	name := filepath.Join(t.TempDir(), "a.zst")
	if err := os.WriteFile(name, zstdFrame(31), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "zstd", "--decompress", "--long=31", "-q", name)
}

func FuzzRead(f *testing.F) {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoder.EncodeAll([]byte("text"), nil))
	f.Add(zstdFrame(31))
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, file []byte) {
		format := Of(file)
		if format.Name == "" || format.Name == "xz" { // a program is too slow for this
			return
		}
		r, err := format.NewReader(t.Context(), bytes.NewReader(file))
		if err != nil {
			return
		}
		_, _ = io.CopyN(io.Discard, r, 1<<20)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}
