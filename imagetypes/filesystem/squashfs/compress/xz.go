package compress

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/internal/command"
)

// filter is one for machine code.
type filter struct {
	name    string // as mksquashfs and xz call it
	content Content
	flag    uint32 // in the options of the superblock
}

// filters are in the order of their flags (squashfs-tools, xz_wrapper.c; Linux knows the same).
func filters() []filter {
	return []filter{{"x86", X86, 1}, {"powerpc", PowerPC, 2}, {"ia64", IA64, 4}, {"arm", ARM, 8}, {"armthumb", Thumb, 16}, {"sparc", SPARC, 32}}
}

// xzMethod makes each block a complete .xz file with one block, a check that Linux knows, and a dictionary of the size that it has.
type xzMethod struct {
	block, dictionary int
	used              []filter
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

// filter returns the name of the filter for a content, "" if there is none.
func (m *xzMethod) filter(kind Content) string {
	for _, f := range m.used {
		if f.content == kind || f.content == ARM && kind == Thumb && !slices.ContainsFunc(m.used, func(o filter) bool { return o.content == Thumb }) {
			return f.name
		}
	}
	return ""
}

func (m *xzMethod) Block(ctx context.Context, dst, content []byte, kind Content) ([]byte, error) {
	args := []string{"-c", "-T1", "-F", "xz", "--check=crc32", "-q"}
	if name := m.filter(kind); name != "" {
		args = append(args, "--"+name)
	}
	args = append(args, fmt.Sprintf("--lzma2=preset=6,dict=%d", m.dictionary))
	out := bytes.NewBuffer(dst)
	err := command.Run(ctx, command.Cmd{Name: "xz", Args: args, Stdin: bytes.NewReader(content), Stdout: out})
	return out.Bytes(), err
}
