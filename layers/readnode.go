package layers

import (
	"fmt"
	"math"
)

// node makes the inode of a tar entry.
func (r *layerReader) node(name string, h *foundEntry) (*Node, error) {
	n := &Node{MTime: h.mtime, Xattrs: h.xattrs}
	switch h.typ {
	case '0':
		n.Mode = TypeRegular
	case '2':
		n.Mode = TypeSymlink
	case '3':
		n.Mode = TypeChar
	case '4':
		n.Mode = TypeBlock
	case '5', 'D': // GNU tar's directory with a list of its names
		n.Mode = TypeDir
	case '6':
		n.Mode = TypeFIFO
	default:
		return nil, errFormat(fmt.Sprintf("it is of the unknown type %q", h.typ))
	}
	if name == "." && !n.IsDir() {
		return nil, errHostile(fmt.Sprintf("it puts a %s in the place of the root directory", TypeName(n.Mode)))
	}
	n.Mode |= h.mode
	var err error
	if n.UID, err = owner(h.uid); err != nil {
		return nil, err
	}
	if n.GID, err = owner(h.gid); err != nil {
		return nil, err
	}
	switch n.Type() {
	case TypeSymlink:
		if h.link == "" || len(h.link) > maxPathLength {
			return nil, errHostile(fmt.Sprintf("it is a symbolic link to %d bytes, which Linux does not allow", len(h.link)))
		}
		n.Target = h.link
		n.Mode = TypeSymlink | 0o777 // the only one that Linux has
	case TypeChar, TypeBlock:
		if h.major < 0 || h.major > maxMajor || h.minor < 0 || h.minor > maxMinor {
			return nil, errHostile(fmt.Sprintf("it has the device number %d:%d, which Linux does not allow", h.major, h.minor))
		}
		n.Major, n.Minor = uint32(h.major), uint32(h.minor)
	case TypeRegular:
		return n, r.content(n, h)
	}
	return n, nil
}

// Linux's device numbers have 12 bits of major and 20 of minor (linux/kdev_t.h).
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

func owner(id int64) (uint32, error) {
	if id < 0 || id >= math.MaxUint32 {
		return 0, errHostile(fmt.Sprintf("it belongs to %d, which is not a user or group of Linux", id))
	}
	return uint32(id), nil
}

func (r *layerReader) content(n *Node, h *foundEntry) error {
	n.Size, n.Data = h.realSize, h.data
	if r.extents += len(h.data); r.extents > r.opts.MaxEntries {
		return errHostile(fmt.Sprintf("its sparse files have more than %d parts", r.opts.MaxEntries))
	}
	length := n.DataSize()
	if length == 0 {
		return nil
	}
	c := r.source.NewContent(h.offset, length)
	if h.dense {
		c.Runs = runsAt(h.offset, h.data)
	}
	n.Content = c
	return nil
}
