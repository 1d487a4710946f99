package ext4

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// Bounds of what is read of a file system from a stranger; no honest one comes near.
const (
	maxReadEntries  = 2_000_000 // names
	maxReadMetadata = 512 << 20 // bytes of paths, link targets and extended attributes
	maxReadRuns     = 4 << 20   // pieces that files lie in
)

// DamagedError says that what is read is no ext file system, or one that no program makes.
type DamagedError struct {
	Path   string // of the entry concerned; "" for the whole file system
	Reason string
}

// Error implements error.
func (e *DamagedError) Error() string {
	if e.Path == "" {
		return "reading the ext file system: " + e.Reason + "; e2fsck -fn shows what is wrong with it"
	}
	return fmt.Sprintf("reading %s of the ext file system: %s; e2fsck -fn shows what is wrong with it", e.Path, e.Reason)
}

// Is reports whether an ext2, ext3 or ext4 file system begins at the beginning of r.
func Is(r io.ReaderAt) bool {
	var magic [2]byte
	_, err := r.ReadAt(magic[:], superOffset+sbMagic)
	return err == nil && binary.LittleEndian.Uint16(magic[:]) == superMagic
}

// VolumeLabel returns the label of the file system that begins at the beginning of r, "" if it has none.
func VolumeLabel(r io.ReaderAt) string {
	const place, length = 0x78, 16
	p := make([]byte, length)
	if _, err := r.ReadAt(p, superOffset+place); err != nil {
		return ""
	}
	label, _, _ := strings.Cut(string(p), "\x00")
	return label
}

// Read returns what is in the ext2, ext3 or ext4 file system of the given size in bytes that r holds, and what of it a tree can't hold. The contents of
// files are read from r when they are opened. Whatever r holds, memory and time stay in proportion to its size.
func Read(ctx context.Context, r io.ReaderAt, size int64) (*layers.Tree, []layers.Note, error) {
	s := &superblock{}
	if _, err := r.ReadAt(s.raw[:], superOffset); err != nil || s.u16(sbMagic) != superMagic {
		return nil, nil, &DamagedError{Reason: "there is no superblock"}
	}
	s.decode()
	v := &reading{sb: s, in: r, nodes: map[uint32]*layers.Node{}, tables: map[uint32]uint64{}, blocks: map[uint64][]layers.Xattr{}}
	if err := v.check(size); err != nil {
		return nil, nil, err
	}
	tree, err := v.tree(ctx)
	return tree, v.notes, err
}

// reading is a file system that is read.
type reading struct {
	sb     *superblock
	in     io.ReaderAt
	nodes  map[uint32]*layers.Node // by inode
	tables map[uint32]uint64       // of each group: the block its inodes begin at
	blocks map[uint64][]layers.Xattr
	notes  []layers.Note

	entries, metadata int64
	runs              int64
	data, mapped      uint64 // blocks of content, and of directories and block maps
}

func (v *reading) check(size int64) error {
	s := v.sb
	readable := uint32(incompatSupported | incompatRecover)
	if s.incompat&incompatMetaBG != 0 {
		return &UnsupportedError{"meta_bg"}
	}
	if extra := s.incompat &^ readable; extra != 0 {
		return &UnsupportedError{fmt.Sprintf("FEATURE_I%d", highestBit(extra))}
	}
	switch {
	case s.blockSize > 64<<10 || s.inodeSize < 128 || int64(s.inodeSize) > s.blockSize || s.descSize < 32 || s.descSize > 1024:
		return &DamagedError{Reason: "the superblock has impossible sizes"}
	case s.blocksPerGroup == 0 || s.inodesPerGroup == 0 || s.blocks <= s.firstDataBlock:
		return &DamagedError{Reason: "the superblock has impossible group sizes"}
	case s.blocks > uint64(size/s.blockSize):
		return &DamagedError{Reason: fmt.Sprintf("it is cut off: it has %d blocks of %d bytes, more than the %d bytes that are there", s.blocks, s.blockSize, size)}
	}
	if s.incompat&incompatRecover != 0 {
		v.notes = append(v.notes, layers.Note{Path: "/", Text: "the file system was in use when it was copied or its machine stopped: the last changes may be in its journal only"})
	}
	return nil
}

func (v *reading) block(number uint64, p []byte) error {
	if number >= v.sb.blocks {
		return &DamagedError{Reason: fmt.Sprintf("block %d is outside of it", number)}
	}
	if _, err := v.in.ReadAt(p[:v.sb.blockSize], int64(number)*v.sb.blockSize); err != nil {
		return fmt.Errorf("reading block %d of the ext file system: %w", number, err)
	}
	return nil
}

// table returns the block that a group's inodes begin at (ext4 documentation, "Block Group Descriptors": bytes 0x08 and 0x28).
func (v *reading) table(group uint32) (uint64, error) {
	if at, ok := v.tables[group]; ok {
		return at, nil
	}
	desc := make([]byte, v.sb.descSize)
	if _, err := v.in.ReadAt(desc, int64(v.sb.firstDataBlock+1)*v.sb.blockSize+int64(group)*int64(v.sb.descSize)); err != nil {
		return 0, fmt.Errorf("reading group %d of the ext file system: %w", group, err)
	}
	at := uint64(binary.LittleEndian.Uint32(desc[0x08:]))
	if len(desc) >= 64 {
		at |= uint64(binary.LittleEndian.Uint32(desc[0x28:])) << 32
	}
	if at >= v.sb.blocks {
		return 0, &DamagedError{Reason: fmt.Sprintf("the inodes of group %d are outside of it", group)}
	}
	v.tables[group] = at
	return at, nil
}

func (v *reading) inode(number uint32) ([]byte, error) {
	if number == 0 || number > v.sb.inodes {
		return nil, &DamagedError{Reason: fmt.Sprintf("there is no inode %d", number)}
	}
	at, err := v.table((number - 1) / v.sb.inodesPerGroup)
	if err != nil {
		return nil, err
	}
	p := make([]byte, v.sb.inodeSize)
	if _, err := v.in.ReadAt(p, int64(at)*v.sb.blockSize+int64((number-1)%v.sb.inodesPerGroup)*int64(v.sb.inodeSize)); err != nil {
		return nil, fmt.Errorf("reading inode %d of the ext file system: %w", number, err)
	}
	return p, nil
}

// todo is a directory whose entries are still to be read.
type todo struct {
	path  string
	inode []byte
}

func (v *reading) tree(ctx context.Context) (*layers.Tree, error) {
	edit := layers.NewTree().Edit(layers.Timespec{})
	raw, err := v.inode(rootInode)
	if err != nil {
		return nil, err
	}
	root, err := v.node(raw, "/")
	if err != nil {
		return nil, err
	}
	if root == nil || !root.IsDir() {
		return nil, &DamagedError{Path: "/", Reason: "it is no directory"}
	}
	v.nodes[rootInode] = root
	if err := edit.Put(".", root); err != nil {
		return nil, err
	}
	for dirs := []todo{{"", raw}}; len(dirs) > 0; {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		dir := dirs[0]
		dirs = dirs[1:]
		err := v.readDir(dir, func(name string, number uint32) error {
			path := dir.path + name
			raw, node, err := v.entry(number, path)
			if err != nil || node == nil {
				return err
			}
			if raw != nil && node.IsDir() {
				dirs = append(dirs, todo{path + "/", raw})
			}
			if _, err := edit.Lookup(path); err == nil {
				return &DamagedError{Path: "/" + path, Reason: "the name is there twice"}
			}
			return edit.Put(path, node)
		})
		if err != nil {
			return nil, err
		}
	}
	return edit.Tree(), nil
}

// entry returns the node of a name, and the inode if this is its first name. The node is nil for what a tree can't hold.
func (v *reading) entry(number uint32, path string) ([]byte, *layers.Node, error) {
	v.entries++
	v.metadata += int64(len(path))
	if v.entries > maxReadEntries || v.metadata > maxReadMetadata {
		return nil, nil, &DamagedError{Path: "/" + path, Reason: "there are more names than a root tree has"}
	}
	if node, ok := v.nodes[number]; ok {
		if node != nil && node.IsDir() {
			return nil, nil, &DamagedError{Path: "/" + path, Reason: "the directory has two names"}
		}
		return nil, node, nil
	}
	raw, err := v.inode(number)
	if err != nil {
		return nil, nil, err
	}
	node, err := v.node(raw, "/"+path)
	if err != nil {
		return nil, nil, err
	}
	v.nodes[number] = node
	return raw, node, nil
}

// readDir calls fn for each name in a directory but "." and "..". The inner nodes of a hash tree look like blocks without names.
func (v *reading) readDir(dir todo, fn func(name string, number uint32) error) error {
	damaged := func(reason string) error { return &DamagedError{Path: "/" + dir.path, Reason: reason} }
	runs, err := v.place(dir.inode, "/"+dir.path)
	if err != nil {
		return err
	}
	block := make([]byte, v.sb.blockSize)
	for _, r := range runs {
		for i := range r.count {
			if v.mapped++; v.mapped > v.sb.blocks {
				return damaged("directories share blocks")
			}
			if err := v.block(r.start+i, block); err != nil {
				return err
			}
			for p := block; len(p) >= direntHeader; {
				number, length := binary.LittleEndian.Uint32(p), int(binary.LittleEndian.Uint16(p[4:]))
				if len(block) == 64<<10 && (length == 0xFFFF || length == 0) {
					length = 64 << 10
				}
				name := int(p[6])
				if length < direntHeader || length%4 != 0 || length > len(p) || direntHeader+name > length {
					return damaged("an entry of it has an impossible length")
				}
				text := string(p[direntHeader : direntHeader+name])
				p = p[length:]
				if number == 0 || text == "." || text == ".." {
					continue
				}
				if text == "" || strings.ContainsAny(text, "/\x00") {
					return damaged(fmt.Sprintf("it has the impossible name %q", text))
				}
				if err := fn(text, number); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Flags of inodes that are not read.
const (
	flagEncrypt = 0x800
	typeSocket  = 0o140000
)

// node makes a node of an inode; nil and a note for a socket.
func (v *reading) node(p []byte, path string) (*layers.Node, error) {
	le := binary.LittleEndian
	n := &layers.Node{
		Mode: uint32(le.Uint16(p[inMode:])),
		UID:  uint32(le.Uint16(p[inUID:])) | uint32(le.Uint16(p[inUIDHi:]))<<16,
		GID:  uint32(le.Uint16(p[inGID:])) | uint32(le.Uint16(p[inGIDHi:]))<<16,
	}
	flags := le.Uint32(p[inFlags:])
	if flags&(flagInline|flagEncrypt) != 0 {
		return nil, &DamagedError{Path: path, Reason: "files whose content is encrypted or lies in the inode (features encrypt, inline_data) can't be read here"}
	}
	extra := 0
	if len(p) > 128 {
		if extra = int(le.Uint16(p[inExtraIsize:])); extra > len(p)-128 || extra%4 != 0 {
			return nil, &DamagedError{Path: path, Reason: "its inode has impossible sizes"}
		}
	}
	n.MTime.Sec = int64(int32(le.Uint32(p[inMTime:])))
	if 128+extra >= inMTimeExtra+4 {
		more := le.Uint32(p[inMTimeExtra:])
		n.MTime.Sec += int64(more&3) << 32
		n.MTime.Nsec = min(more>>2, 999_999_999)
	}
	var err error
	if n.Xattrs, err = v.xattrs(p, extra, path); err != nil {
		return nil, err
	}
	size := int64(le.Uint32(p[inSize:])) | int64(le.Uint32(p[inSizeHi:]))<<32
	switch n.Type() {
	case layers.TypeDir, layers.TypeFIFO:
	case layers.TypeRegular:
		return n, v.content(n, p, size, path)
	case layers.TypeSymlink:
		n.Target, err = v.target(p, size, path)
		return n, err
	case layers.TypeChar, layers.TypeBlock:
		old, huge := le.Uint32(p[inBlock:]), le.Uint32(p[inBlock+4:])
		n.Major, n.Minor = old>>8&0xFF, old&0xFF
		if old == 0 {
			n.Major, n.Minor = huge>>8&0xFFF, huge&0xFF|huge>>12&^uint32(0xFF)
		}
	case typeSocket:
		v.notes = append(v.notes, layers.Note{Path: path, Text: "a socket is left out"})
		return nil, nil
	default:
		return nil, &DamagedError{Path: path, Reason: "it has no known file type"}
	}
	return n, nil
}

// content says where a regular file's bytes lie.
func (v *reading) content(n *layers.Node, p []byte, size int64, path string) error {
	runs, err := v.place(p, path)
	if err != nil {
		return err
	}
	if size < 0 {
		return &DamagedError{Path: path, Reason: "it has an impossible size"}
	}
	n.Size = size
	c := &content{in: v.in}
	for _, r := range runs {
		from := int64(r.logical) * v.sb.blockSize
		if from >= size {
			break // blocks behind its end that were reserved for it
		}
		length := min(int64(r.count)*v.sb.blockSize, size-from)
		c.pieces = append(c.pieces, layers.Extent{Offset: int64(r.start) * v.sb.blockSize, Length: length})
		if last := len(n.Data) - 1; last >= 0 && n.Data[last].Offset+n.Data[last].Length == from {
			n.Data[last].Length += length
		} else {
			n.Data = append(n.Data, layers.Extent{Offset: from, Length: length})
		}
		if v.data += r.count; v.data > v.sb.blocks {
			return &DamagedError{Path: path, Reason: "files share blocks"}
		}
	}
	switch {
	case size == 0:
		n.Data = nil
	case len(n.Data) == 0:
		n.Data = []layers.Extent{}
	case len(n.Data) == 1 && n.Data[0].Length == size:
		n.Data = nil
	}
	if len(c.pieces) > 0 {
		n.Content = c
	}
	return nil
}

func (v *reading) target(p []byte, size int64, path string) (string, error) {
	if size > 0 && size <= fastSymlink && binary.LittleEndian.Uint32(p[inFlags:])&flagExtents == 0 {
		return string(p[inBlock : inBlock+size]), nil
	}
	runs, err := v.place(p, path)
	if err != nil {
		return "", err
	}
	if size <= 0 || size > v.sb.blockSize || len(runs) != 1 || runs[0].logical != 0 {
		return "", &DamagedError{Path: path, Reason: "the symbolic link has an impossible length"}
	}
	block := make([]byte, v.sb.blockSize)
	if err := v.block(runs[0].start, block); err != nil {
		return "", err
	}
	if v.metadata += size; v.metadata > maxReadMetadata {
		return "", &DamagedError{Path: path, Reason: "there are more link targets than a root tree has"}
	}
	return string(block[:size]), nil
}

// content is a file's bytes in the file system.
type content struct {
	in     io.ReaderAt
	pieces []layers.Extent // places in the file system
}

// Open implements [layers.Content].
func (c *content) Open() (io.ReadCloser, error) {
	return &contentReader{in: c.in, pieces: slices.Clone(c.pieces)}, nil
}

type contentReader struct {
	in     io.ReaderAt
	pieces []layers.Extent
}

// Read implements io.Reader.
func (r *contentReader) Read(p []byte) (int, error) {
	if len(r.pieces) == 0 {
		return 0, io.EOF
	}
	at := &r.pieces[0]
	n, err := r.in.ReadAt(p[:min(int64(len(p)), at.Length)], at.Offset)
	at.Offset, at.Length = at.Offset+int64(n), at.Length-int64(n)
	if at.Length == 0 {
		r.pieces = r.pieces[1:]
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close implements io.Closer.
func (r *contentReader) Close() error { return nil }
