package ext4

import (
	"encoding/binary"
	"fmt"
)

// place returns where the content of an inode lies, in the order of the file, without holes and without blocks that are reserved but not written.
func (v *reading) place(p []byte, path string) ([]run, error) {
	w := &placing{v: v, path: path}
	root := p[inBlock : inBlock+inodeBlockSize]
	if binary.LittleEndian.Uint32(p[inFlags:])&flagExtents != 0 {
		err := w.extents(root, int(binary.LittleEndian.Uint16(root[6:])))
		return w.runs, err
	}
	// The first 12 numbers are blocks of content, then come those of block maps of one, two and three levels.
	logical, err := w.numbers(root[:4*directBlocks], 0, 0)
	for depth := 1; depth <= 3 && err == nil; depth++ {
		logical, err = w.numbers(root[4*(directBlocks+depth-1):][:4], logical, depth)
	}
	return w.runs, err
}

// placing collects the runs of one inode.
type placing struct {
	v    *reading
	path string
	runs []run
	next uint64 // the logical block after the last one
}

func (w *placing) damaged(reason string) error { return &DamagedError{Path: w.path, Reason: reason} }

// add adds a run, which may go on the last one.
func (w *placing) add(logical, start, count uint64) error {
	blocks := w.v.sb.blocks
	switch {
	case logical < w.next:
		return w.damaged("its blocks are not in order")
	case start == 0 || start >= blocks || count > blocks-start:
		return w.damaged(fmt.Sprintf("block %d of it is outside of the file system", start))
	}
	w.next = logical + count
	if last := len(w.runs) - 1; last >= 0 && w.runs[last].logical+w.runs[last].count == logical && w.runs[last].start+w.runs[last].count == start {
		w.runs[last].count += count
		return nil
	}
	if w.v.runs++; w.v.runs > maxReadRuns {
		return w.damaged("there are more pieces of files than a file system has")
	}
	w.runs = append(w.runs, run{logical: logical, start: start, count: count})
	return nil
}

// node reads a block of an extent tree or a block map.
func (w *placing) node(number uint64) ([]byte, error) {
	if w.v.mapped++; w.v.mapped > w.v.sb.blocks {
		return nil, w.damaged("block maps share blocks")
	}
	block := make([]byte, w.v.sb.blockSize)
	return block, w.v.block(number, block)
}

// maxExtentDepth is how many levels below its root an extent tree may have.
const maxExtentDepth = 5

func (w *placing) extents(node []byte, depth int) error {
	le := binary.LittleEndian
	entries := int(le.Uint16(node[2:]))
	if le.Uint16(node) != extentMagic || int(le.Uint16(node[6:])) != depth || depth > maxExtentDepth || extentRecord*(entries+1) > len(node) {
		return w.damaged("its extent tree is damaged")
	}
	for i := range entries {
		p := node[extentRecord*(i+1):]
		logical := uint64(le.Uint32(p))
		if depth > 0 {
			child, err := w.node(uint64(le.Uint32(p[4:])) | uint64(le.Uint16(p[8:]))<<32)
			if err != nil {
				return err
			}
			if err := w.extents(child, depth-1); err != nil {
				return err
			}
			continue
		}
		count, start := uint64(le.Uint16(p[4:])), uint64(le.Uint32(p[8:]))|uint64(le.Uint16(p[6:]))<<32
		if count > maxExtent { // reserved and not written: it reads as zeros
			continue
		}
		if count == 0 {
			return w.damaged("its extent tree has an empty extent")
		}
		if err := w.add(logical, start, count); err != nil {
			return err
		}
	}
	return nil
}

// numbers goes through a list of block numbers, at depth 0 those of content, and returns the logical block after what the list covers. A zero is a hole.
func (w *placing) numbers(list []byte, logical uint64, depth int) (uint64, error) {
	covers := uint64(1)
	for range depth {
		covers *= uint64(w.v.sb.blockSize / 4)
	}
	for ; len(list) > 0; list, logical = list[4:], logical+covers {
		number := uint64(binary.LittleEndian.Uint32(list))
		switch {
		case number == 0:
		case depth == 0:
			if err := w.add(logical, number, 1); err != nil {
				return 0, err
			}
		default:
			node, err := w.node(number)
			if err != nil {
				return 0, err
			}
			if _, err := w.numbers(node, logical, depth-1); err != nil {
				return 0, err
			}
		}
	}
	return logical, nil
}
