package squashfs

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// noXattrs is the index of no extended attributes (SQUASHFS_INVALID_XATTR).
const noXattrs = 0xffffffff

// xattrSpaces are the name spaces of extended attributes that can be held, each at its number (SQUASHFS_XATTR_USER and following).
var xattrSpaces = [...]string{"user", "trusted", "security"}

// xattrs are the different sets of extended attributes.
type xattrs struct {
	sets  [][]layers.Xattr
	index map[string]uint32 // by what is stored of a set
}

func newXattrs() xattrs { return xattrs{index: map[string]uint32{}} }

// add returns the index of a set.
func (x *xattrs) add(set []layers.Xattr) uint32 {
	key := string(encodeXattrs(set))
	index, ok := x.index[key]
	if !ok {
		index = uint32(len(x.sets))
		x.index[key] = index
		x.sets = append(x.sets, set)
	}
	return index
}

// encodeXattrs returns a set as it is stored: for each attribute struct squashfs_xattr_entry with the name behind its name space, and struct squashfs_xattr_val with the value.
func encodeXattrs(set []layers.Xattr) []byte {
	var p []byte
	for _, x := range set {
		before, name, _ := strings.Cut(x.Name, ".")
		p = binary.LittleEndian.AppendUint16(p, uint16(slices.Index(xattrSpaces[:], before)))
		p = binary.LittleEndian.AppendUint16(p, uint16(len(name)))
		p = append(p, name...)
		p = binary.LittleEndian.AppendUint32(p, uint32(len(x.Value)))
		p = append(p, x.Value...)
	}
	return p
}
