package compress

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"github.com/imgbuild/imgbuild/internal/xz"
)

// filter is one for machine code.
type filter struct {
	name    string // as mksquashfs calls it
	content Content
	flag    uint32 // in the options of the superblock
	filter  xz.Filter
}

// filters are all but ia64's.
func filters() []filter {
	return []filter{
		{"x86", X86, 1, xz.X86}, {"powerpc", PowerPC, 2, xz.PowerPC}, {"arm", ARM, 8, xz.ARM}, {"armthumb", Thumb, 16, xz.ARMThumb}, {"sparc", SPARC, 32, xz.SPARC},
	}
}

// xzMethod makes each block a complete .xz file with one block, a check that Linux knows (lib/xz), and a dictionary of the size that it has.
type xzMethod struct {
	block, dictionary int
	used              []filter
	packers           sync.Pool // of *xz.Packer
}

func newXz(s Settings) (Method, error) {
	if s.Level != 0 {
		return nil, fmt.Errorf("xz has no level in squashfs")
	}
	m := &xzMethod{block: s.BlockSize, dictionary: s.DictionarySize}
	if m.dictionary == 0 {
		m.dictionary = max(s.BlockSize, MetadataSize)
	}
	high := 1 << (bits.Len(uint(m.dictionary)) - 1)
	if m.dictionary < MetadataSize || m.dictionary > max(s.BlockSize, MetadataSize) || m.dictionary != high && m.dictionary != high+high/2 {
		return nil, fmt.Errorf("a dictionary of %d bytes for xz: it must be 2^n or 2^n+2^(n+1), from %d to the block size %d", s.DictionarySize, MetadataSize, s.BlockSize)
	}
	known := filters()
	for _, name := range s.Filters {
		at := slices.IndexFunc(known, func(f filter) bool { return f.name == name })
		if at < 0 {
			var names []string
			for _, f := range known {
				names = append(names, f.name)
			}
			return nil, fmt.Errorf("no filter %q for xz: there are %s", name, strings.Join(names, ", "))
		}
		m.used = append(m.used, known[at])
	}
	return m, nil
}

func (m *xzMethod) ID() uint16 { return idXz }

func (m *xzMethod) Options() []byte {
	if m.dictionary == m.block && len(m.used) == 0 {
		return nil
	}
	flags := uint32(0)
	for _, f := range m.used {
		flags |= f.flag
	}
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(m.dictionary)), flags)
}

// settings are those for a content.
func (m *xzMethod) settings(content []byte, kind Content) xz.Settings {
	s := xz.Settings{Dictionary: m.dictionary, LiteralContext: 3, Position: 2, Nice: 48, Depth: 12}
	for _, f := range m.used {
		// What is no ELF file may hold code of x86, too, and an ELF file may be all data.
		if f.filter == xz.X86 && (kind == X86 || kind == Other) && xz.PaysX86(content) || f.filter != xz.X86 && kind == f.content {
			s.Filter = f.filter
		}
	}
	return s
}

func (m *xzMethod) Block(ctx context.Context, dst, content []byte, kind Content) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	p, ok := m.packers.Get().(*xz.Packer)
	if !ok {
		p = xz.NewPacker()
	}
	defer m.packers.Put(p)
	return p.Append(dst, content, m.settings(content, kind)), nil
}
