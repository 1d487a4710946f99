package layers

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// An index is a [Layer] as a file, for a store to keep beside the layer's blob. It is read in milliseconds, where reading the
// layer means to decompress it. It has this form, with numbers as in [binary.AppendUvarint], signed ones in zigzag form, and texts behind their length:
//
//	magic     8 bytes, the last of which is the version
//	layer     algorithm, digest, diff id, size, tar size
//	frames    their number; of each its size in the blob and in the tar
//	xattrs    the number of different lists; of each its length and then names and values
//	nodes     the number of nodes and the number of those with content, for the reader's memory
//	entries   their number, and then one after the other
//	checksum  32 bytes, SHA-256 of all before
//
// An entry is a byte with its kind and whether its node is that of an earlier entry, the number of bytes that its name shares with the name
// before, the rest of the name, and then its node or target. Numbers that grow slowly are written as the difference to those of the node
// before. See appendNode for a node.
const indexMagic = "imgbidx\x01"

// ErrIndex says that a file is not an index that this version of the program can use. The index is then to be made again from the blob.
var ErrIndex = errors.New("the index can't be used")

// maxIndex bounds the length in bytes of an index that is read.
const maxIndex = 1 << 30

// entryEarlier in the first byte of an entry says that its node is that of an earlier entry.
const entryEarlier = 1 << 7

// Flags of a node.
const (
	nodeNsec     = 1 << iota // its time has nanoseconds
	nodeXattrs               // it has extended attributes
	nodeSparse               // it has a list of extents
	nodeContent              // it has content in the tar
	nodeRuns                 // its content is in several places of the tar
	nodeHost                 // its state on this machine is known
	nodeHostElse             // and has other times or another size than the node
)

// EncodeIndex writes the index of a layer whose contents all lie in its blob.
func EncodeIndex(w io.Writer, l *Layer) error {
	e := indexEncoder{layer: l, lists: map[string]uint64{}, ordinals: map[*Node]uint64{}}
	data, err := e.encode()
	if err != nil {
		return fmt.Errorf("writing the index of a layer: %w", err)
	}
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("writing the index of a layer: %w", err)
	}
	return nil
}

type indexEncoder struct {
	layer    *Layer
	out      []byte
	lists    map[string]uint64 // encoded lists of attributes and their numbers
	ordinals map[*Node]uint64
	contents uint64
	before   indexBefore
}

// indexBefore is what the numbers of a node are differences to.
type indexBefore struct {
	mtime, ctime, content int64
	dev, ino              uint64
}

func (e *indexEncoder) uint(n uint64) { e.out = binary.AppendUvarint(e.out, n) }
func (e *indexEncoder) int(n int64)   { e.out = binary.AppendVarint(e.out, n) }

func (e *indexEncoder) text(s string) {
	e.uint(uint64(len(s)))
	e.out = append(e.out, s...)
}

func (e *indexEncoder) encode() ([]byte, error) {
	l := e.layer
	source := l.Source
	if source == nil {
		source = &BlobSource{}
	}
	e.out = append(make([]byte, 0, 64*len(l.Entries)+1024), indexMagic...)
	e.out = append(e.out, byte(source.Algorithm))
	e.text(l.Digest.String())
	e.text(l.DiffID.String())
	e.uint(uint64(l.Size))
	e.uint(uint64(l.TarSize))
	e.uint(uint64(len(source.Frames)))
	for _, f := range source.Frames {
		e.uint(uint64(f.Size))
		e.uint(uint64(f.TarSize))
	}
	e.collect()
	e.uint(uint64(len(l.Entries)))
	name := ""
	for i := range l.Entries {
		if err := e.entry(&l.Entries[i], name); err != nil {
			return nil, fmt.Errorf("entry %q: %w", l.Entries[i].Name, err)
		}
		name = l.Entries[i].Name
	}
	sum := sha256.Sum256(e.out)
	return append(e.out, sum[:]...), nil
}

// collect writes the different lists of attributes and the numbers of nodes.
func (e *indexEncoder) collect() {
	var lists []byte
	seen := map[*Node]struct{}{}
	for i := range e.layer.Entries {
		n := e.layer.Entries[i].Node
		if _, ok := seen[n]; n == nil || ok {
			continue
		}
		seen[n] = struct{}{}
		if n.Content != nil {
			e.contents++
		}
		if key := xattrList(n.Xattrs); len(n.Xattrs) > 0 {
			if _, ok := e.lists[key]; !ok {
				e.lists[key] = uint64(len(e.lists))
				lists = append(lists, key...)
			}
		}
	}
	e.uint(uint64(len(e.lists)))
	e.out = append(e.out, lists...)
	e.uint(uint64(len(seen)))
	e.uint(e.contents)
}

func xattrList(list []Xattr) string {
	e := indexEncoder{}
	e.uint(uint64(len(list)))
	for _, x := range list {
		e.text(x.Name)
		e.text(x.Value)
	}
	return string(e.out)
}

func (e *indexEncoder) entry(entry *Entry, before string) error {
	first := byte(entry.Kind)
	ordinal, earlier := e.ordinals[entry.Node]
	earlier = earlier && entry.Node != nil
	if earlier {
		first |= entryEarlier
	}
	shared := 0
	for shared < min(len(before), len(entry.Name)) && before[shared] == entry.Name[shared] {
		shared++
	}
	e.out = append(e.out, first)
	e.uint(uint64(shared))
	e.text(entry.Name[shared:])
	switch {
	case entry.Kind == Link:
		e.text(entry.Target)
		return nil
	case entry.Kind != Put:
		return nil
	case earlier:
		e.uint(ordinal)
		return nil
	case entry.Node == nil:
		return errors.New("it has no node")
	}
	e.ordinals[entry.Node] = uint64(len(e.ordinals))
	return e.node(entry.Node)
}

// node appends mode, flags, uid, gid, seconds and nanoseconds of the time, number of the list of attributes, target or device number, size and
// extents of a file, the place of its content, and its state on this machine. What the flags or the mode say is not there is left out.
func (e *indexEncoder) node(n *Node) error {
	var flags uint64
	set := func(flag uint64, on bool) {
		if on {
			flags |= flag
		}
	}
	var content *BlobContent
	if n.Content != nil {
		var ok bool
		if content, ok = n.Content.(*BlobContent); !ok || content.Source != e.layer.Source || content.Length != n.DataSize() {
			return errors.New("its content does not lie in the layer's blob")
		}
	}
	set(nodeNsec, n.MTime.Nsec != 0)
	set(nodeXattrs, len(n.Xattrs) > 0)
	set(nodeSparse, n.Data != nil)
	set(nodeContent, content != nil)
	set(nodeRuns, content != nil && content.Runs != nil)
	set(nodeHost, n.Host != nil)
	set(nodeHostElse, n.Host != nil && (n.Host.MTime != n.MTime || n.Host.Size != n.Size))
	e.uint(uint64(n.Mode))
	e.uint(flags)
	e.uint(uint64(n.UID))
	e.uint(uint64(n.GID))
	e.int(n.MTime.Sec - e.before.mtime)
	e.before.mtime = n.MTime.Sec
	if flags&nodeNsec != 0 {
		e.uint(uint64(n.MTime.Nsec))
	}
	if flags&nodeXattrs != 0 {
		e.uint(e.lists[xattrList(n.Xattrs)])
	}
	switch n.Type() {
	case TypeSymlink:
		e.text(n.Target)
	case TypeChar, TypeBlock:
		e.uint(uint64(n.Major))
		e.uint(uint64(n.Minor))
	case TypeRegular:
		e.uint(uint64(n.Size))
	}
	if n.Data != nil {
		e.extents(n.Data)
	}
	if content != nil {
		e.int(content.Offset - e.before.content)
		e.before.content = content.Offset + content.Length
		if content.Runs != nil {
			e.extents(content.Runs)
		}
	}
	e.host(n)
	return nil
}

func (e *indexEncoder) extents(list []Extent) {
	e.uint(uint64(len(list)))
	var at int64
	for _, x := range list {
		e.uint(uint64(x.Offset - at))
		e.uint(uint64(x.Length))
		at = x.Offset + x.Length
	}
}

func (e *indexEncoder) host(n *Node) {
	h := n.Host
	if h == nil {
		return
	}
	e.int(int64(h.Dev - e.before.dev))
	e.int(int64(h.Ino - e.before.ino))
	e.int(h.CTime.Sec - e.before.ctime)
	e.uint(uint64(h.CTime.Nsec))
	e.before.dev, e.before.ino, e.before.ctime = h.Dev, h.Ino, h.CTime.Sec
	if h.MTime != n.MTime || h.Size != n.Size {
		e.int(h.MTime.Sec)
		e.uint(uint64(h.MTime.Nsec))
		e.int(h.Size)
	}
}

// DecodeIndex reads an index. The contents of the layer are then read from blob, which may be nil if they are not needed. An index that is damaged, of
// another version or not of this blob gives an error that is [ErrIndex].
func DecodeIndex(r io.Reader, blob Blob) (*Layer, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxIndex+1))
	if err != nil {
		return nil, fmt.Errorf("reading the index of a layer: %w", err)
	}
	l, err := decodeIndex(data, blob)
	if err != nil {
		return nil, fmt.Errorf("reading the index of a layer: %w: %w", ErrIndex, err)
	}
	return l, nil
}

func decodeIndex(data []byte, blob Blob) (*Layer, error) {
	end := len(data) - sha256.Size
	switch {
	case len(data) > maxIndex:
		return nil, fmt.Errorf("it has more than %d bytes", maxIndex)
	case !strings.HasPrefix(string(data[:min(len(data), len(indexMagic))]), indexMagic[:len(indexMagic)-1]) || end < len(indexMagic):
		return nil, errors.New("it does not begin like an index")
	case data[len(indexMagic)-1] != indexMagic[len(indexMagic)-1]:
		return nil, fmt.Errorf("it is of version %d, not %d", data[len(indexMagic)-1], indexMagic[len(indexMagic)-1])
	}
	if sum := sha256.Sum256(data[:end]); !bytes.Equal(sum[:], data[end:]) {
		return nil, errors.New("its checksum is wrong")
	}
	d := indexDecoder{in: data[len(indexMagic):end], source: &BlobSource{Blob: blob}}
	l := d.decode()
	if d.err == nil && len(d.in) > 0 {
		d.fail("it has more bytes than it needs")
	}
	if d.err == nil && blob != nil && blob.Size() != l.Size {
		return nil, fmt.Errorf("it is of a blob of %d bytes, and this one has %d", l.Size, blob.Size())
	}
	return l, d.err
}
