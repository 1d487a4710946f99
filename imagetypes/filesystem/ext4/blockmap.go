package ext4

import "encoding/binary"

// The block map of ext2 and ext3 (ext4 documentation, "Direct/Indirect Block Addressing"): the inode holds the numbers of the first 12 blocks
// and then those of a block of block numbers, of a block of those, and of a block of those again. 0 is a hole.
const directBlocks = 12

// mapShape is how many block numbers fit into a block: per, its square and its cube.
type mapShape struct{ per, per2, per3 uint64 }

func (s *superblock) mapShape() mapShape {
	per := uint64(s.blockSize / 4)
	return mapShape{per, per * per, per * per * per}
}

// limit is the number of blocks that a file can have.
func (m mapShape) limit() uint64 { return directBlocks + m.per + m.per2 + m.per3 }

// blocks is how many blocks of block numbers a file needs that has data in the given spans, which ascend and do not touch each other.
func (m mapShape) blocks(spans []span) int {
	n := 0
	none := ^uint64(0)
	lastLeaf, lastMiddle, double, triple := none, none, false, false
	for _, s := range spans {
		for at := max(s.start, directBlocks); at < s.end; {
			pos := at - directBlocks
			leaf := pos / m.per // leaves are counted through all three levels
			if leaf != lastLeaf {
				n, lastLeaf = n+1, leaf
			}
			if pos >= m.per && pos < m.per+m.per2 && !double {
				n, double = n+1, true
			}
			if pos >= m.per+m.per2 {
				if middle := (pos - m.per - m.per2) / m.per2; middle != lastMiddle {
					n, lastMiddle = n+1, middle
				}
				if !triple {
					n, triple = n+1, true
				}
			}
			at = directBlocks + (leaf+1)*m.per
		}
	}
	return n
}

// mapWriter writes the block map of one file.
type mapWriter struct {
	v      *volume
	out    *output
	runs   []run
	blocks []uint64 // for block numbers
}

// writeBlockMap writes the block map of an inode: the top to root, the rest to the inode's map blocks.
func (v *volume) writeBlockMap(out *output, root []byte, in *inode) error {
	w := &mapWriter{v: v, out: out, runs: in.runs, blocks: in.mapBlocks}
	for i := range uint64(directBlocks) {
		binary.LittleEndian.PutUint32(root[4*i:], uint32(w.find(i)))
	}
	shape := v.sb.mapShape()
	at := uint64(directBlocks)
	for level, size := range []uint64{shape.per, shape.per2, shape.per3} {
		block, err := w.write(at, size/shape.per)
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(root[4*(directBlocks+level):], uint32(block))
		at += size
	}
	return nil
}

// find returns the block of a logical block, 0 for a hole. It must be called in ascending order.
func (w *mapWriter) find(logical uint64) uint64 {
	for len(w.runs) > 0 && w.runs[0].logical+w.runs[0].count <= logical {
		w.runs = w.runs[1:]
	}
	if len(w.runs) == 0 || logical < w.runs[0].logical {
		return 0
	}
	return w.runs[0].start + logical - w.runs[0].logical
}

// next returns the first logical block from logical on that is no hole, and whether there is one.
func (w *mapWriter) next(logical uint64) (uint64, bool) {
	for len(w.runs) > 0 && w.runs[0].logical+w.runs[0].count <= logical {
		w.runs = w.runs[1:]
	}
	if len(w.runs) == 0 {
		return 0, false
	}
	return max(logical, w.runs[0].logical), true
}

// write writes a block of block numbers that covers the file from logical block base on; each number stands for each blocks. It returns
// where it is, or 0 if all it would cover is a hole.
func (w *mapWriter) write(base, each uint64) (uint64, error) {
	per := uint64(w.v.sb.blockSize / 4)
	if first, ok := w.next(base); !ok || first >= base+per*each {
		return 0, nil
	}
	block := w.blocks[0]
	w.blocks = w.blocks[1:]
	numbers := make([]byte, w.v.sb.blockSize)
	for i := range per {
		at := base + i*each
		first, ok := w.next(at)
		if !ok {
			break
		}
		if first >= at+each {
			continue
		}
		child := w.find(at)
		if each > 1 {
			var err error
			if child, err = w.write(at, each/per); err != nil {
				return 0, err
			}
		}
		binary.LittleEndian.PutUint32(numbers[4*i:], uint32(child))
	}
	return block, w.out.write(w.v.at(block), numbers)
}
