package ext4

import "encoding/binary"

// The extent tree of ext4 (documentation, "Extent Tree"): nodes of 12-byte records behind a header of 12 bytes. The root lies in the
// inode, every other node fills a block. A leaf's records are runs of blocks, an inner node's the first logical block and the place of a child.
const (
	extentMagic      = 0xF30A
	extentRecord     = 12 // bytes of a record and of the header
	extentsInRoot    = 4
	maxExtent        = 32768 // blocks of one initialised extent
	inodeBlockOffset = 0x28  // where the root lies in the inode
	inodeBlockSize   = 60
)

// extentsPerBlock is how many records fit into a block. The 4 bytes that remain behind them hold the checksum.
func (s *superblock) extentsPerBlock() int { return (int(s.blockSize) - extentRecord) / extentRecord }

// extentRecords is how many extents describe the runs.
func extentRecords(runs []run) int {
	n := 0
	for _, r := range runs {
		n += int((r.count + maxExtent - 1) / maxExtent)
	}
	return n
}

// extentBlocks is how many blocks an extent tree takes besides its root.
func (s *superblock) extentBlocks(runs []run) int {
	blocks := 0
	for n := extentRecords(runs); n > extentsInRoot; {
		n = (n + s.extentsPerBlock() - 1) / s.extentsPerBlock()
		blocks += n
	}
	return blocks
}

// node is one record of an extent tree on its way to its parent.
type extentNode struct {
	logical, block uint64
}

func extentHeader(node []byte, entries, most, depth int) {
	binary.LittleEndian.PutUint16(node[0:], extentMagic)
	binary.LittleEndian.PutUint16(node[2:], uint16(entries))
	binary.LittleEndian.PutUint16(node[4:], uint16(most))
	binary.LittleEndian.PutUint16(node[6:], uint16(depth))
}

// putExtents writes leaf records.
func putExtents(node []byte, runs []run) {
	for i, r := range runs {
		p := node[extentRecord*(i+1):]
		binary.LittleEndian.PutUint32(p[0:], uint32(r.logical))
		binary.LittleEndian.PutUint16(p[4:], uint16(r.count))
		binary.LittleEndian.PutUint16(p[6:], uint16(r.start>>32))
		binary.LittleEndian.PutUint32(p[8:], uint32(r.start))
	}
}

// putIndex writes records of an inner node.
func putIndex(node []byte, children []extentNode) {
	for i, c := range children {
		p := node[extentRecord*(i+1):]
		binary.LittleEndian.PutUint32(p[0:], uint32(c.logical))
		binary.LittleEndian.PutUint32(p[4:], uint32(c.block))
		binary.LittleEndian.PutUint16(p[8:], uint16(c.block>>32))
	}
}

// splitRuns cuts runs into pieces that one extent can hold.
func splitRuns(runs []run) []run {
	if extentRecords(runs) == len(runs) {
		return runs
	}
	var pieces []run
	for _, r := range runs {
		for r.count > maxExtent {
			pieces = append(pieces, run{r.logical, r.start, maxExtent})
			r = run{r.logical + maxExtent, r.start + maxExtent, r.count - maxExtent}
		}
		pieces = append(pieces, r)
	}
	return pieces
}

// writeExtents writes the extent tree of an inode: the root to root, the other nodes to the inode's map blocks.
func (v *volume) writeExtents(out *output, root []byte, in *inode) error {
	extents := splitRuns(in.runs)
	if len(extents) <= extentsInRoot {
		extentHeader(root, len(extents), extentsInRoot, 0)
		putExtents(root, extents)
		return nil
	}
	per, blocks := v.sb.extentsPerBlock(), in.mapBlocks
	var level []extentNode
	node := make([]byte, v.sb.blockSize)
	for len(extents) > 0 {
		n := min(per, len(extents))
		clear(node)
		extentHeader(node, n, per, 0)
		putExtents(node, extents[:n])
		if err := v.writeExtentNode(out, blocks[0], node, in.number); err != nil {
			return err
		}
		level = append(level, extentNode{extents[0].logical, blocks[0]})
		extents, blocks = extents[n:], blocks[1:]
	}
	depth := 1
	for ; len(level) > extentsInRoot; depth++ {
		var above []extentNode
		for len(level) > 0 {
			n := min(per, len(level))
			clear(node)
			extentHeader(node, n, per, depth)
			putIndex(node, level[:n])
			if err := v.writeExtentNode(out, blocks[0], node, in.number); err != nil {
				return err
			}
			above = append(above, extentNode{level[0].logical, blocks[0]})
			level, blocks = level[n:], blocks[1:]
		}
		level = above
	}
	extentHeader(root, len(level), extentsInRoot, depth)
	putIndex(root, level)
	return nil
}

// writeExtentNode writes one node that fills a block, with its checksum behind the last record.
func (v *volume) writeExtentNode(out *output, block uint64, node []byte, number uint32) error {
	if v.sb.metadataCsum() {
		tail := extentRecord * (1 + v.sb.extentsPerBlock())
		binary.LittleEndian.PutUint32(node[tail:], crc32c(v.sb.inodeSeed(number), node[:tail]))
	}
	return out.write(v.at(block), node)
}
