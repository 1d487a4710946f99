package layers

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/opencontainers/go-digest"
)

// indexDecoder reads an index. Once something is wrong, err is set and every number is zero.
type indexDecoder struct {
	in  []byte
	err error

	source   *BlobSource
	tarSize  int64
	lists    [][]Xattr
	nodes    []Node        // all nodes, of which the first made are in use
	contents []BlobContent // and contents
	made     int
	before   indexBefore
	name     []byte
}

func (d *indexDecoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
		d.in = nil
	}
}

func (d *indexDecoder) uint() uint64 {
	// Most numbers are of one byte.
	if len(d.in) > 0 && d.in[0] < 0x80 {
		n := uint64(d.in[0])
		d.in = d.in[1:]
		return n
	}
	n, size := binary.Uvarint(d.in)
	if size <= 0 {
		d.fail("it ends too early")
		return 0
	}
	d.in = d.in[size:]
	return n
}

func (d *indexDecoder) int() int64 {
	n := d.uint()
	return int64(n>>1) ^ -int64(n&1)
}

// upTo reads a number that must not be larger than limit.
func (d *indexDecoder) upTo(limit uint64, what string) uint64 {
	n := d.uint()
	if n > limit {
		d.fail("it has the %s %d, more than %d", what, n, limit)
		return 0
	}
	return n
}

func (d *indexDecoder) uint32(what string) uint32 { return uint32(d.upTo(math.MaxUint32, what)) }

func (d *indexDecoder) nsec() uint32 { return uint32(d.upTo(999_999_999, "nanoseconds")) }

func (d *indexDecoder) size(what string) int64 { return int64(d.upTo(math.MaxInt64, what)) }

// count reads how many things follow that take at least least bytes each.
func (d *indexDecoder) count(least int, what string) int {
	n := d.uint()
	if limit := len(d.in) / least; n > uint64(limit) {
		d.fail("it has the %s %d, more than %d", what, n, limit)
		return 0
	}
	return int(n)
}

// bytes reads a text; it is only good until the next one is read.
func (d *indexDecoder) bytes() []byte {
	n := d.count(1, "length")
	text := d.in[:n]
	d.in = d.in[n:]
	return text
}

func (d *indexDecoder) text() string { return string(d.bytes()) }

func (d *indexDecoder) byte() byte {
	if len(d.in) == 0 {
		d.fail("it ends too early")
		return 0
	}
	b := d.in[0]
	d.in = d.in[1:]
	return b
}

func (d *indexDecoder) decode() *Layer {
	l := &Layer{Source: d.source}
	d.source.Algorithm = Algorithm(d.byte())
	if d.source.Algorithm > Zstd {
		d.fail("it names the unknown compression %d", d.source.Algorithm)
	}
	l.Digest, l.DiffID = digest.Digest(d.text()), digest.Digest(d.text())
	d.source.Digest = l.Digest
	l.Size, l.TarSize = d.size("size"), d.size("size")
	d.tarSize = l.TarSize
	d.frames(l)
	d.xattrLists()
	d.nodes = make([]Node, d.count(5, "number of nodes"))
	d.contents = make([]BlobContent, d.upTo(uint64(len(d.nodes)), "number of contents"))
	l.Entries = make([]Entry, d.count(3, "number of entries"))
	for i := range l.Entries {
		d.entry(&l.Entries[i])
		if d.err != nil {
			d.err = fmt.Errorf("entry %d of %d: %w", i, len(l.Entries), d.err)
			break
		}
	}
	return l
}

func (d *indexDecoder) frames(l *Layer) {
	n := d.count(2, "number of frames")
	if n == 0 {
		return
	}
	frames := make([]Frame, n)
	var at Frame
	for i := range frames {
		at.Size, at.TarSize = d.size("size"), d.size("size")
		if at.Size > l.Size-at.Offset || at.TarSize > l.TarSize-at.TarOffset || at.TarSize > maxFrame {
			d.fail("a frame is larger than the layer")
			return
		}
		frames[i] = at
		at.Offset += at.Size
		at.TarOffset += at.TarSize
	}
	if at.TarOffset != l.TarSize {
		d.fail("its frames hold %d bytes of tar, not %d", at.TarOffset, l.TarSize)
		return
	}
	d.source.Frames = frames
}

func (d *indexDecoder) xattrLists() {
	d.lists = make([][]Xattr, d.count(1, "number of lists"))
	for i := range d.lists {
		d.lists[i] = make([]Xattr, d.count(2, "number of attributes"))
		for k := range d.lists[i] {
			d.lists[i][k] = Xattr{d.text(), d.text()}
		}
	}
}

func (d *indexDecoder) entry(e *Entry) {
	first := d.byte()
	e.Kind = EntryKind(first &^ entryEarlier)
	if e.Kind > Link {
		d.fail("its kind %d is not known", e.Kind)
		return
	}
	shared := d.upTo(uint64(len(d.name)), "number of shared bytes")
	d.name = append(d.name[:shared], d.bytes()...)
	e.Name = string(d.name)
	if !isCleanName(e.Name) {
		d.fail("its name %q is not one of a tree", e.Name)
		return
	}
	switch {
	case e.Kind == Link:
		if e.Target = d.text(); !isCleanName(e.Target) {
			d.fail("its target %q is not a name of a tree", e.Target)
		}
	case e.Kind != Put:
	case first&entryEarlier != 0:
		if i := d.uint(); i < uint64(d.made) {
			e.Node = &d.nodes[i]
		} else {
			d.fail("it is a link to an entry after it")
		}
	default:
		e.Node = d.node()
	}
	if e.Name == "." && (e.Kind != Put || e.Node != nil && !e.Node.IsDir()) && e.Kind != Opaque {
		d.fail("it is no directory, but in the place of the root directory")
	}
}

// isCleanName reports whether name is in the form of [Clean], without parts that lead elsewhere.
func isCleanName(name string) bool {
	if name == "." {
		return true
	}
	start := 0
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			if name[i] == 0 {
				return false
			}
			continue
		}
		if part := name[start:i]; part == "" || part == "." || part == ".." {
			return false
		}
		start = i + 1
	}
	return true
}

func (d *indexDecoder) node() *Node {
	if d.made == len(d.nodes) {
		d.fail("it has more nodes than it says")
		return nil
	}
	n := &d.nodes[d.made]
	d.made++
	n.Mode = d.uint32("mode")
	flags := d.uint()
	n.UID, n.GID = d.uint32("owner"), d.uint32("group")
	n.MTime.Sec = d.before.mtime + d.int()
	d.before.mtime = n.MTime.Sec
	if flags&nodeNsec != 0 {
		n.MTime.Nsec = d.nsec()
	}
	if flags&nodeXattrs != 0 {
		if i := d.uint(); i < uint64(len(d.lists)) {
			n.Xattrs = d.lists[i]
		} else {
			d.fail("it has attributes that are not there")
		}
	}
	switch n.Type() {
	case TypeDir, TypeFIFO:
	case TypeSymlink:
		n.Target = d.text()
	case TypeChar, TypeBlock:
		n.Major, n.Minor = d.uint32("device number"), d.uint32("device number")
	case TypeRegular:
		n.Size = d.size("size")
	default:
		d.fail("its mode %o is not that of an entry", n.Mode)
	}
	if flags&nodeSparse != 0 {
		n.Data = d.extents(n.Size)
	}
	if flags&nodeContent != 0 {
		d.content(n, flags)
	} else if n.DataSize() > 0 {
		d.fail("it has no content")
	}
	if flags&nodeHost != 0 {
		d.host(n, flags)
	}
	return n
}

func (d *indexDecoder) extents(end int64) []Extent {
	list := make([]Extent, d.count(2, "number of extents"))
	var at int64
	for i := range list {
		gap, length := d.size("offset"), d.size("length")
		if gap > end-at || length > end-at-gap {
			d.fail("an extent lies behind the end")
			return nil
		}
		list[i] = Extent{at + gap, length}
		at += gap + length
	}
	return slices.Clip(list)
}

func (d *indexDecoder) content(n *Node, flags uint64) {
	if len(d.contents) == 0 || !n.IsRegular() {
		d.fail("it has content that is not there")
		return
	}
	c := &d.contents[0]
	d.contents = d.contents[1:]
	*c = BlobContent{Source: d.source, Offset: d.before.content + d.int(), Length: n.DataSize()}
	if c.Offset < 0 || c.Offset > d.tarSize || c.Length > d.tarSize-c.Offset {
		d.fail("its content lies behind the end of the tar")
		return
	}
	d.before.content = c.Offset + c.Length
	if flags&nodeRuns != 0 {
		c.Runs = d.extents(d.tarSize)
		var sum int64
		for _, r := range c.Runs {
			sum += r.Length
		}
		if sum != c.Length {
			d.fail("its content has %d bytes, not %d", sum, c.Length)
		}
	}
	n.Content = c
}

func (d *indexDecoder) host(n *Node, flags uint64) {
	h := &HostID{MTime: n.MTime, Size: n.Size}
	h.Dev = d.before.dev + uint64(d.int())
	h.Ino = d.before.ino + uint64(d.int())
	h.CTime.Sec = d.before.ctime + d.int()
	h.CTime.Nsec = d.nsec()
	d.before.dev, d.before.ino, d.before.ctime = h.Dev, h.Ino, h.CTime.Sec
	if flags&nodeHostElse != 0 {
		h.MTime.Sec = d.int()
		h.MTime.Nsec = d.nsec()
		if h.Size = d.int(); h.Size < 0 {
			d.fail("a size is negative")
		}
	}
	n.Host = h
}
