package compress

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// contents are blocks of all kinds, by name.
func contents(size int) map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise, text, code := make([]byte, size), []byte{}, make([]byte, size)
	for i := range noise {
		noise[i] = byte(r.Uint32())
		code[i] = []byte{0xe8, 0, 0xff, 0x48, 0x89, byte(i), byte(i >> 8), byte(r.Uint32())}[r.IntN(8)]
	}
	for len(text) < size {
		text = fmt.Appendf(text, "%d files of user %d\n", r.IntN(50), r.IntN(10))
	}
	return map[string][]byte{
		"nothing": nil, "a byte": {1}, "zeros": make([]byte, size), "noise": noise, "text": text[:size], "code": code, "less": text[:size/3],
		"mixed": append(bytes.Clone(noise[:size/2]), text[:size/2]...),
	}
}

// methods are settings of all methods.
func methods() []Settings {
	return []Settings{
		{}, {Level: 3}, {Level: 19}, {Level: 9, BlockSize: 4096}, {BlockSize: MaxBlockSize},
		{Method: "gzip"}, {Method: "gzip", Level: 1}, {Method: "gzip", Level: 6, BlockSize: 4096}, {Method: "gzip", Window: 8}, {Method: "gzip", BlockSize: MaxBlockSize},
		{Method: "xz"}, {Method: "xz", Filters: []string{"x86", "arm"}, BlockSize: MaxBlockSize}, {Method: "xz", DictionarySize: 12 << 10}, {Method: "xz", BlockSize: 4096},
	}
}

// read decompresses with somebody else's program or library.
func read(t *testing.T, id uint16, packed []byte) []byte {
	t.Helper()
	if id == idGzip {
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
	name := map[uint16]string{idXz: "xz", idZstd: "zstd"}[id]
	cmd := exec.Command(testenv.NeedProgram(t, name), "-d", "-c")
	cmd.Stdin = bytes.NewReader(packed)
	got, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return got
}

func TestOthersRead(t *testing.T) {
	for _, s := range methods() {
		m, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		size := s.BlockSize
		if size == 0 {
			size = DefaultBlockSize
		}
		for name, content := range contents(size) {
			for _, kind := range []Content{Other, X86, Metadata} {
				if m.ID() != idXz && kind != Other || kind == Metadata && len(content) > MetadataSize {
					continue
				}
				packed, err := m.Block(t.Context(), []byte("before"), content, kind)
				if err != nil {
					t.Fatal(err)
				}
				packed, ok := bytes.CutPrefix(packed, []byte("before"))
				if got := read(t, m.ID(), packed); !ok || !bytes.Equal(got, content) {
					t.Errorf("%+v: %s: %d bytes became %d", s, name, len(content), len(got))
				}
				checkLimits(t, m.ID(), packed, max(size, MetadataSize), len(content))
			}
		}
	}
}

// checkLimits asserts what Linux demands of a block.
func checkLimits(t *testing.T, id uint16, packed []byte, memory, size int) {
	t.Helper()
	switch id {
	case idZstd:
		// RFC 8878, section 3.1.1.1.1: a single segment, no checksum, no dictionary. So the window is the content.
		if descriptor := packed[4]; descriptor&0x27 != 0x20 {
			t.Errorf("zstd: the frame's descriptor is %#x", descriptor)
		}
	case idXz:
		if !bytes.Equal(packed[6:8], []byte{0, 1}) {
			t.Errorf("xz: the flags are %x, not those of CRC-32", packed[6:8])
		}
		header := packed[12 : 12+4*(int(packed[12])+1)]
		at := 2
		if filters := int(header[1]&3) + 1; filters == 2 {
			at += 2 // a filter without properties
		}
		bits := int(header[at+2])
		if dictionary := (2 | bits&1) << (bits/2 + 11); header[at] != 0x21 || dictionary > memory {
			t.Errorf("xz: filter %#x, a dictionary of %d bytes, and Linux has %d", header[at], dictionary, memory)
		}
	case idGzip:
		if method := packed[0] & 15; method != 8 || packed[0]>>4 > 7 || binary.BigEndian.Uint16(packed)%31 != 0 || packed[1]&32 != 0 {
			t.Errorf("zlib: the header is %x (%d bytes)", packed[:2], size)
		}
	}
}

func TestConcurrentAndTheSame(t *testing.T) {
	all := contents(64 << 10)
	for _, s := range methods() {
		s.BlockSize = 64 << 10
		if s.DictionarySize > s.BlockSize {
			continue
		}
		m, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][]byte{}
		for name, content := range all {
			if want[name], err = m.Block(t.Context(), nil, content, Other); err != nil {
				t.Fatal(err)
			}
		}
		other, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for name, content := range all {
					got, err := other.Block(t.Context(), nil, content, Other)
					if err != nil || !bytes.Equal(got, want[name]) {
						t.Errorf("%+v: %s: %d bytes, not the same %d (%v)", s, name, len(got), len(want[name]), err)
					}
				}
			})
		}
		group.Wait()
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the user asked"))
	for _, name := range Methods() {
		m, err := New(Settings{Method: name})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Block(ctx, nil, make([]byte, 100), Other); err == nil || err.Error() != "the user asked" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		settings Settings
		want     []byte
	}{
		{Settings{}, []byte{1, 0, 0, 0}},
		{Settings{Level: 15}, nil},
		{Settings{Method: "gzip"}, nil},
		{Settings{Method: "gzip", Level: 6}, []byte{6, 0, 0, 0, 15, 0, 0, 0}},
		{Settings{Method: "gzip", Window: 14}, []byte{9, 0, 0, 0, 14, 0, 0, 0}},
		{Settings{Method: "xz"}, nil},
		{Settings{Method: "xz", Filters: []string{"arm", "x86"}}, []byte{0, 0, 4, 0, 9, 0, 0, 0}},
		{Settings{Method: "xz", DictionarySize: 12 << 10}, []byte{0, 0x30, 0, 0, 0, 0, 0, 0}},
		{Settings{Method: "xz", BlockSize: 4096}, []byte{0, 0x20, 0, 0, 0, 0, 0, 0}},
	} {
		m, err := New(c.settings)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, m.Options()); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.settings, diff)
		}
	}
}

func TestWrongSettings(t *testing.T) {
	for _, c := range []struct {
		settings Settings
		want     string
	}{
		{Settings{Method: "rar"}, `no method "rar": there are gzip, xz, zstd`},
		{Settings{Level: 23}, "level 23 of zstd"},
		{Settings{Method: "gzip", Level: -1}, "level -1 of gzip"},
		{Settings{Method: "gzip", Window: 7}, "a window of 2^7 bytes"},
		{Settings{Method: "xz", Level: 6}, "xz has no level"},
		{Settings{Method: "xz", Filters: []string{"ia64"}}, `no filter "ia64"`},
		{Settings{Method: "xz", DictionarySize: 5 << 12}, "a dictionary of 20480 bytes"},
		{Settings{Method: "xz", DictionarySize: 4096}, "a dictionary of 4096 bytes"},
		{Settings{Method: "xz", DictionarySize: MaxBlockSize}, "a dictionary of 1048576 bytes"},
		{Settings{Window: 15}, "a setting of gzip, not of zstd"},
		{Settings{Filters: []string{"x86"}}, "settings of xz, not of zstd"},
		{Settings{BlockSize: 2048}, "a block size of 2048 bytes"},
		{Settings{BlockSize: 3 << 12}, "a block size of 12288 bytes"},
	} {
		if _, err := New(c.settings); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.settings, err)
		}
	}
}

func TestGuess(t *testing.T) {
	elf := func(order byte, kind, machine uint16) []byte {
		header := append([]byte("\x7fELF\x02"), order, 1)
		header = append(header, make([]byte, 9)...)
		if order == 2 {
			return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(header, kind), machine)
		}
		return binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(header, kind), machine)
	}
	for _, c := range []struct {
		beginning []byte
		want      Content
	}{
		{nil, Other}, {[]byte("#!/bin/sh"), Other}, {[]byte("\x7fELF"), Other}, {elf(1, 2, 62), X86}, {elf(1, 3, 3), X86}, {elf(1, 3, 40), Thumb}, {elf(2, 3, 20), PowerPC},
		{elf(2, 2, 43), SPARC}, {elf(1, 2, 183), Other}, {[]byte("\x1f\x8b\x08"), Packed}, {[]byte("\xfd7zXZ\x00\x00"), Packed}, {[]byte("\x89PNG\r\n\x1a\n"), Packed},
	} {
		if got := Guess(c.beginning); got != c.want {
			t.Errorf("%q: %d, not %d", c.beginning, got, c.want)
		}
	}
}

func BenchmarkBlock(b *testing.B) {
	content := contents(MaxBlockSize)["text"]
	for _, s := range []Settings{{}, {Method: "gzip"}, {Method: "xz"}} {
		s.BlockSize = MaxBlockSize
		m, err := New(s)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(s.Method), func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			var dst []byte
			for b.Loop() {
				if dst, err = m.Block(b.Context(), dst[:0], content, Other); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
