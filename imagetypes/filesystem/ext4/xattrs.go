package ext4

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// Extended attributes (ext4 documentation, "Extended Attributes") lie behind the fields of a large inode and in one block that inodes with equal
// attributes share. Both hold a list of entries that grows up from the start and values that grow down from the end.
const (
	xattrMagic       = 0xEA020000
	xattrEntrySize   = 16 // bytes before the name
	xattrHeaderSize  = 32 // of a block
	xattrEnd         = 4  // zero bytes behind the last entry
	xattrMaxSharers  = 1024
	xattrBlockHash   = 0x0C // offsets in the header of a block
	xattrBlockSum    = 0x10
	xattrBlockRefs   = 0x04
	xattrBlockBlocks = 0x08
)

// attribute is one extended attribute as it goes to the disk.
type attribute struct {
	index uint8  // stands for the first part of the name
	name  string // the rest of it
	value []byte
}

// entrySize and valueSize are the bytes that an attribute takes in a list and at its end.
func (a *attribute) entrySize() int { return xattrEntrySize + pad4(len(a.name)) }
func (a *attribute) valueSize() int { return pad4(len(a.value)) }

func pad4(n int) int { return (n + 3) &^ 3 }

// xattrPrefixes are the known first parts of attribute names; an exact match has no rest.
func xattrPrefixes() []struct {
	prefix string
	index  uint8
	exact  bool
} {
	return []struct {
		prefix string
		index  uint8
		exact  bool
	}{
		{"user.", 1, false},
		{"system.posix_acl_access", 2, true},
		{"system.posix_acl_default", 3, true},
		{"trusted.", 4, false},
		{"security.", 6, false},
	}
}

// newAttribute encodes an attribute. The error says why it can't be kept.
func newAttribute(x layers.Xattr) (attribute, error) {
	for _, p := range xattrPrefixes() {
		switch {
		case p.exact && x.Name == p.prefix:
			value, err := diskACL(x.Value)
			return attribute{index: p.index, value: value}, err
		case !p.exact && strings.HasPrefix(x.Name, p.prefix) && len(x.Name) > len(p.prefix):
			rest := x.Name[len(p.prefix):]
			if len(rest) > 255 {
				return attribute{}, fmt.Errorf("its name is longer than 255 bytes")
			}
			return attribute{index: p.index, name: rest, value: []byte(x.Value)}, nil
		}
	}
	return attribute{}, fmt.Errorf("ext file systems have no such kind of attribute")
}

// xattrBlock is a block of attributes and how many inodes use it.
type xattrBlock struct {
	data   []byte
	number uint64
	users  uint32
}

// placeXattrs decides where the attributes of a node go: as many as fit behind the inode's fields, the rest into a block. What fits
// nowhere is left out and told to note.
func (s *superblock) placeXattrs(list []layers.Xattr, note func(text string)) (inline, block []byte) {
	var attrs []attribute
	for _, x := range list {
		a, err := newAttribute(x)
		if err != nil {
			note(fmt.Sprintf("extended attribute %s left out: %v", x.Name, err))
			continue
		}
		attrs = append(attrs, a)
	}
	slices.SortFunc(attrs, func(a, b attribute) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name))
	})
	inlineRoom := s.inodeSize - 128 - s.extraIsize - 4 - xattrEnd
	blockRoom := int(s.blockSize) - xattrHeaderSize - xattrEnd
	var inInode, inBlock []attribute
	for _, a := range attrs {
		size := a.entrySize() + a.valueSize()
		switch {
		case s.inodeSize > 128 && size <= inlineRoom:
			inInode = append(inInode, a)
			inlineRoom -= size
		case size <= blockRoom:
			inBlock = append(inBlock, a)
			blockRoom -= size
		default:
			note(fmt.Sprintf("extended attribute %s of %d bytes left out: all attributes of a file must fit into a block of %d bytes",
				a.fullName(), len(a.value), s.blockSize))
		}
	}
	if len(inInode) > 0 {
		inline = make([]byte, s.inodeSize-128-s.extraIsize)
		binary.LittleEndian.PutUint32(inline, xattrMagic)
		putAttributes(inline[4:], 0, inInode, false)
	}
	if len(inBlock) > 0 {
		block = xattrBlockOf(inBlock, int(s.blockSize))
	}
	return inline, block
}

func (a *attribute) fullName() string {
	for _, p := range xattrPrefixes() {
		if p.index == a.index {
			return p.prefix + a.name
		}
	}
	return a.name
}

// xattrBlockOf makes a block without its checksum, number of users and place.
func xattrBlockOf(attrs []attribute, size int) []byte {
	block := make([]byte, size)
	binary.LittleEndian.PutUint32(block, xattrMagic)
	binary.LittleEndian.PutUint32(block[xattrBlockBlocks:], 1)
	hash := putAttributes(block, xattrHeaderSize, attrs, true)
	binary.LittleEndian.PutUint32(block[xattrBlockHash:], hash)
	return block
}

// putAttributes writes entries from offset first of area on and values from its end down; places of values count from the start of the
// area. It returns the hash over all entries, each of which gets its own when hashed is set, as in blocks.
func putAttributes(area []byte, first int, attrs []attribute, hashed bool) uint32 {
	at, end := first, len(area)&^3
	total := uint32(0)
	for i := range attrs {
		a := &attrs[i]
		end -= a.valueSize()
		copy(area[end:], a.value)
		entry := area[at:]
		entry[0], entry[1] = uint8(len(a.name)), a.index
		if len(a.value) > 0 {
			binary.LittleEndian.PutUint16(entry[2:], uint16(end))
		}
		binary.LittleEndian.PutUint32(entry[8:], uint32(len(a.value)))
		copy(entry[xattrEntrySize:], a.name)
		if hashed {
			hash := a.hash()
			binary.LittleEndian.PutUint32(entry[12:], hash)
			total = total<<16 ^ total>>16 ^ hash
		}
		at += a.entrySize()
	}
	return total
}

// hash is e_hash of an attribute's entry: name and value rotated together.
func (a *attribute) hash() uint32 {
	h := uint32(0)
	for i := range len(a.name) {
		h = h<<5 ^ h>>27 ^ uint32(a.name[i])
	}
	padded := make([]byte, a.valueSize())
	copy(padded, a.value)
	for ; len(padded) > 0; padded = padded[4:] {
		h = h<<16 ^ h>>16 ^ binary.LittleEndian.Uint32(padded)
	}
	return h
}

// writeXattrBlock writes a block of attributes.
func (v *volume) writeXattrBlock(out *output, b *xattrBlock) error {
	binary.LittleEndian.PutUint32(b.data[xattrBlockRefs:], b.users)
	if v.sb.metadataCsum() {
		binary.LittleEndian.PutUint32(b.data[xattrBlockSum:], 0)
		sum := crc32c(v.sb.seed, binary.LittleEndian.AppendUint64(nil, b.number))
		binary.LittleEndian.PutUint32(b.data[xattrBlockSum:], crc32c(sum, b.data))
	}
	return out.write(v.at(b.number), b.data)
}
