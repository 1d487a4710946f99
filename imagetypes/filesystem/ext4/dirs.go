package ext4

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// Directories (ext4 documentation, "Directory Entries") are blocks of entries: inode (4 bytes), length of the entry (2), length of the name (1), file
// type (1), name. The last entry of a block reaches to the block's end, or to the checksum of 12 bytes that looks like an unused entry.
//
// A directory of more than one block gets a hash tree ("Hash Tree Directories"): its first block, the root, and further inner nodes look like empty
// blocks to a reader that knows no trees, and name the block in which entries of a hash value and above begin.
const (
	direntHeader  = 8
	direntTail    = 12 // bytes of the checksum at the end of a block
	direntTailTag = 0xDE

	hashRootInfo    = 24 // where the root's parameters lie, behind "." and ".."
	hashRootEntries = 32
	hashNodeEntries = 8
	hashTail        = 8 // bytes of an inner node's checksum
)

// dirent is one name of a directory.
type dirent struct {
	name   string
	number uint32 // inode
	kind   uint8
	hash   uint32 // only in directories with a hash tree
	minor  uint32
}

// size is the length of the entry in bytes.
func (e *dirent) size() int { return pad4(direntHeader + len(e.name)) }

// direntKind is the file type code of a directory entry.
func direntKind(mode uint32) uint8 {
	switch mode & layers.TypeMask {
	case layers.TypeRegular:
		return 1
	case layers.TypeDir:
		return 2
	case layers.TypeChar:
		return 3
	case layers.TypeBlock:
		return 4
	case layers.TypeFIFO:
		return 5
	case layers.TypeSymlink:
		return 7
	}
	return 0
}

// directory is how the entries of a directory are laid out.
type directory struct {
	entries []dirent
	leaves  []int // index of the first entry of each leaf block
	inner   int   // blocks of the hash tree above the leaves; 0 without one
	least   int   // blocks that the directory has at least, empty ones at its end
}

// blocks is how many blocks the directory takes.
func (d *directory) blocks() int { return max(d.inner+len(d.leaves), d.least) }

// arrange lays the entries out. They come sorted by name, and are sorted by hash if the directory gets a hash tree.
func (d *directory) arrange(s *superblock) {
	room := s.direntRoom()
	d.leaves = pack(d.entries, 2*12, room) // "." and ".." come first
	if len(d.leaves) <= 1 || d.least > 0 || s.compat&compatDirIndex == 0 || s.raw[sbHashVersion] != hashHalfMD4 {
		return
	}
	for i := range d.entries {
		d.entries[i].hash, d.entries[i].minor = s.nameHash(d.entries[i].name)
	}
	slices.SortFunc(d.entries, func(a, b dirent) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.minor, b.minor), strings.Compare(a.name, b.name))
	})
	leaves := pack(d.entries, 0, room)
	inner := 1
	if len(leaves) > s.hashLimit(hashRootEntries) {
		nodes := (len(leaves) + s.hashLimit(hashNodeEntries) - 1) / s.hashLimit(hashNodeEntries)
		if nodes > s.hashLimit(hashRootEntries) { // more names than two levels can hold: a plain directory is correct too
			slices.SortFunc(d.entries, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
			return
		}
		inner += nodes
	}
	d.leaves, d.inner = leaves, inner
}

// direntRoom is how many bytes of a block hold entries.
func (s *superblock) direntRoom() int {
	if s.metadataCsum() {
		return int(s.blockSize) - direntTail
	}
	return int(s.blockSize)
}

// hashLimit is how many records an inner block holds whose records begin at the given offset.
func (s *superblock) hashLimit(offset int) int {
	room := int(s.blockSize) - offset
	if s.metadataCsum() {
		room -= hashTail
	}
	return room / 8
}

// pack distributes entries over blocks in order; taken bytes of the first block are in use already.
func pack(entries []dirent, taken, room int) []int {
	leaves := []int{0}
	for i := range entries {
		size := entries[i].size()
		if taken+size > room {
			leaves, taken = append(leaves, i), 0
		}
		taken += size
	}
	return leaves
}

// dirWriter makes the blocks of one directory.
type dirWriter struct {
	v            *volume
	out          *output
	in           *inode
	seed         uint32
	runs         []run
	block        []byte
	used, before int // where the next entry goes, and where the last one begins
}

// writeDir writes the blocks of a directory.
func (v *volume) writeDir(out *output, in *inode) error {
	w := &dirWriter{v: v, out: out, in: in, seed: v.sb.inodeSeed(in.number), runs: slices.Clone(in.runs), block: make([]byte, v.sb.blockSize)}
	d := in.dir
	if d.inner > 0 {
		if err := w.writeTree(); err != nil {
			return err
		}
	}
	for i, first := range d.leaves {
		last := len(d.entries)
		if i+1 < len(d.leaves) {
			last = d.leaves[i+1]
		}
		w.begin()
		if i == 0 && d.inner == 0 {
			w.addDots()
		}
		for _, e := range d.entries[first:last] {
			w.add(e)
		}
		if err := w.endLeaf(); err != nil {
			return err
		}
	}
	for range d.blocks() - d.inner - len(d.leaves) {
		w.begin()
		if err := w.endLeaf(); err != nil {
			return err
		}
	}
	return nil
}

func (w *dirWriter) begin() {
	clear(w.block)
	w.used, w.before = 0, 0
}

func (w *dirWriter) addDots() {
	w.add(dirent{name: ".", number: w.in.number, kind: 2})
	w.add(dirent{name: "..", number: w.in.parent, kind: 2})
}

func (w *dirWriter) add(e dirent) {
	p := w.block[w.used:]
	binary.LittleEndian.PutUint32(p, e.number)
	binary.LittleEndian.PutUint16(p[4:], uint16(e.size()))
	p[6] = uint8(len(e.name))
	if w.v.sb.incompat&incompatFiletype != 0 {
		p[7] = e.kind
	}
	copy(p[direntHeader:], e.name)
	w.before, w.used = w.used, w.used+e.size()
}

// endLeaf stretches the last entry over the rest of the block, adds the checksum and writes the block. A block without entries gets an
// unused one.
func (w *dirWriter) endLeaf() error {
	room := w.v.sb.direntRoom()
	binary.LittleEndian.PutUint16(w.block[w.before+4:], uint16(room-w.before))
	if w.v.sb.metadataCsum() {
		tail := w.block[room:]
		binary.LittleEndian.PutUint16(tail[4:], direntTail)
		tail[7] = direntTailTag
		binary.LittleEndian.PutUint32(tail[8:], crc32c(w.seed, w.block[:room]))
	}
	return w.put()
}

// put writes the block to the directory's next place.
func (w *dirWriter) put() error {
	at := w.runs[0].start
	if w.runs[0].count--; w.runs[0].count == 0 {
		w.runs = w.runs[1:]
	} else {
		w.runs[0].start++
	}
	return w.out.write(w.v.at(at), w.block)
}

// hashRecord says in which block of a directory the entries from a hash value on lie.
type hashRecord struct {
	hash  uint32
	block uint32
}

// writeTree writes the root of the hash tree and the inner nodes below it. The leaves follow in order.
func (w *dirWriter) writeTree() error {
	d := w.in.dir
	leaves := make([]hashRecord, len(d.leaves))
	for i, first := range d.leaves {
		leaves[i] = hashRecord{d.entries[first].hash, uint32(d.inner + i)}
		if first > 0 && d.entries[first-1].hash == d.entries[first].hash {
			leaves[i].hash |= 1 // this hash value began in the leaf before
		}
	}
	if d.inner == 1 {
		return w.writeRoot(leaves, 0)
	}
	limit := w.v.sb.hashLimit(hashNodeEntries)
	nodes := make([]hashRecord, 0, d.inner-1)
	for i := 0; i < len(leaves); i += limit {
		nodes = append(nodes, hashRecord{leaves[i].hash, uint32(1 + len(nodes))})
	}
	if err := w.writeRoot(nodes, 1); err != nil {
		return err
	}
	for ; len(leaves) > 0; leaves = leaves[min(limit, len(leaves)):] {
		w.begin()
		binary.LittleEndian.PutUint16(w.block[4:], uint16(w.v.sb.blockSize))
		if err := w.endNode(hashNodeEntries, leaves[:min(limit, len(leaves))]); err != nil {
			return err
		}
	}
	return nil
}

// writeRoot writes the root of the hash tree.
func (w *dirWriter) writeRoot(records []hashRecord, levels uint8) error {
	w.begin()
	w.addDots()
	binary.LittleEndian.PutUint16(w.block[12+4:], uint16(w.v.sb.blockSize-12))
	w.block[hashRootInfo+4] = hashHalfMD4
	w.block[hashRootInfo+5] = 8 // length of these parameters
	w.block[hashRootInfo+6] = levels
	return w.endNode(hashRootEntries, records)
}

// endNode writes the records of an inner block from offset on and its checksum. The first record's hash gives way to limit and
// number of the records: it stands for everything below the second.
func (w *dirWriter) endNode(offset int, records []hashRecord) error {
	limit := w.v.sb.hashLimit(offset)
	for i, r := range records {
		p := w.block[offset+8*i:]
		binary.LittleEndian.PutUint32(p, r.hash)
		binary.LittleEndian.PutUint32(p[4:], r.block)
	}
	binary.LittleEndian.PutUint16(w.block[offset:], uint16(limit))
	binary.LittleEndian.PutUint16(w.block[offset+2:], uint16(len(records)))
	if w.v.sb.metadataCsum() {
		sum := crc32c(w.seed, w.block[:offset+8*len(records)])
		sum = crc32c(sum, make([]byte, hashTail)) // the reserved word and the place of the checksum itself
		binary.LittleEndian.PutUint32(w.block[offset+8*limit+4:], sum)
	}
	return w.put()
}
