package xz

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	foreign "github.com/ulikunitz/xz"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// usual are settings for a content in one block of squashfs.
func usual(size int) Settings {
	dictionary := 4096
	for dictionary < size {
		dictionary *= 2
	}
	return Settings{Dictionary: dictionary, LiteralContext: 3, Position: 2, Nice: 64, Depth: 48}
}

func TestOthersReadPackers(t *testing.T) {
	program := testenv.NeedProgram(t, "xz")
	p := NewPacker()
	for name, data := range samples() {
		data = data[:min(len(data), 1_200_000)]
		packed := p.Append([]byte("before"), data, usual(len(data)))
		packed, ok := bytes.CutPrefix(packed, []byte("before"))
		if !ok {
			t.Fatalf("%s: what was there before is gone", name)
		}
		r, err := foreign.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: the library reads %d bytes of %d (%v)", name, len(got), len(data), err)
		}
		if got, err := unxz(program, packed); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: xz reads %d bytes of %d (%v)", name, len(got), len(data), err)
		}
		fast := compress(t, data, 1<<20)
		if len(packed) > len(fast)+100 && name != "zeros" {
			t.Errorf("%s: %d bytes became %d, and %d with the fast way", name, len(data), len(packed), len(fast))
		}
	}
}

func unxz(program string, packed []byte) ([]byte, error) {
	cmd := exec.Command(program, "--decompress", "--stdout")
	cmd.Stdin = bytes.NewReader(packed)
	return cmd.Output()
}

// code returns what looks like machine code of all architectures, call instructions at every place.
func code(r *rand.Rand, size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = []byte{0xe8, 0xe9, 0, 0xff, 0xeb, 0xf0, 0xf8, 0x48, 0x01, 0x40, 0x7f, 0xc0, byte(r.Uint32())}[r.IntN(13)]
	}
	return data
}

func TestFilters(t *testing.T) {
	program := testenv.NeedProgram(t, "xz")
	p := NewPacker()
	r := rand.New(rand.NewPCG(11, 12))
	for _, filter := range []Filter{X86, PowerPC, ARM, ARMThumb, SPARC} {
		for _, size := range []int{0, 1, 3, 4, 5, 6, 7, 8, 9, 100, 4097, 200_000} {
			data := code(r, size)
			s := usual(size)
			s.Filter = filter
			if got, err := unxz(program, p.Append(nil, data, s)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("filter %d: xz reads %d bytes of %d (%v)", filter, len(got), len(data), err)
			}
		}
	}
}

func TestProperties(t *testing.T) {
	program := testenv.NeedProgram(t, "xz")
	p := NewPacker()
	data := words(rand.New(rand.NewPCG(13, 14)), 50_000, 300)
	for _, c := range [][3]uint8{{0, 0, 0}, {4, 0, 0}, {0, 4, 4}, {2, 2, 1}, {3, 0, 4}} {
		s := usual(len(data))
		s.LiteralContext, s.LiteralPosition, s.Position = c[0], c[1], c[2]
		if got, err := unxz(program, p.Append(nil, data, s)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("lc lp pb %v: xz reads %d bytes of %d (%v)", c, len(got), len(data), err)
		}
	}
}

func TestDictionaries(t *testing.T) {
	program := testenv.NeedProgram(t, "xz")
	p := NewPacker()
	part := noise(rand.New(rand.NewPCG(15, 16)), 9000)
	data := slicesOf(part, part, part)
	for dictionary, most := range map[int]int{4096: len(data) + 300, 6144: len(data) + 300, 8192: len(data) + 300, 12288: 9300, 16384: 9300} {
		s := usual(len(data))
		s.Dictionary = dictionary
		packed := p.Append(nil, data, s)
		if got, err := unxz(program, packed); err != nil || !bytes.Equal(got, data) || len(packed) > most {
			t.Errorf("a dictionary of %d: %d bytes, of which xz reads %d of %d (%v)", dictionary, len(packed), len(got), len(data), err)
		}
		// A reader with a buffer of the dictionary's size alone sees matches that are farther away than it says.
		file := filepath.Join(t.TempDir(), "file.xz")
		if err := os.WriteFile(file, packed, 0o600); err != nil {
			t.Fatal(err)
		}
		list := testenv.Run(t, "xz", "--list", "--verbose", "--verbose", file)
		if want := fmt.Sprintf("dict=%dKiB", dictionary>>10); !strings.Contains(list, want) {
			t.Errorf("no %s in\n%s", want, list)
		}
	}
}

func FuzzPacker(f *testing.F) {
	for _, data := range samples() {
		if len(data) < 10_000 {
			f.Add(data)
		}
	}
	f.Add(code(rand.New(rand.NewPCG(17, 18)), 5000))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := foreign.NewReader(bytes.NewReader(NewPacker().Append(nil, data, usual(len(data)))))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes came back as %d (%v)", len(data), len(got), err)
		}
	})
}
