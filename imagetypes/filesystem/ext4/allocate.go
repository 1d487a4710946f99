package ext4

// run is a piece of a file: count blocks from logical block number logical of the file on, which lie one after the other from block start of
// the file system on.
type run struct {
	logical uint64
	start   uint64
	count   uint64
}

// allocator hands out free blocks and inodes, lowest number first. Nothing is ever given back, so what it has handed out lies
// one after the other but for the file system's own tables between.
type allocator struct {
	v *volume

	blockGroup int
	blockBit   uint32
	usedBlocks uint64
	missing    uint64 // blocks that were asked for when none was left

	inodeGroup    int
	inodeBit      uint32
	usedInodes    uint64
	missingInodes uint64
}

// block returns up to most blocks that lie one after the other. When none is left it counts what is missing and returns blocks from
// number 0 on, so that a whole plan can be made before the file system is found to be too small.
func (a *allocator) block(most uint64) (start, count uint64, err error) {
	for a.blockGroup < len(a.v.groups) {
		g, err := a.v.loadBlocks(a.blockGroup)
		if err != nil {
			return 0, 0, err
		}
		limit := a.v.blocksIn(a.blockGroup)
		from := nextClear(g.blocks, a.blockBit, limit)
		if from == limit {
			a.blockGroup, a.blockBit = a.blockGroup+1, 0
			continue
		}
		to := nextSet(g.blocks, from, uint32(min(uint64(limit), uint64(from)+most)))
		a.take(g, from, to)
		a.blockBit = to
		return a.v.firstBlock(a.blockGroup) + uint64(from), uint64(to - from), nil
	}
	a.missing += most
	return 0, most, nil
}

// take marks the bits from up to but without to as used.
func (a *allocator) take(g *group, from, to uint32) {
	for bit := from; bit < to; bit++ {
		if bit%8 == 0 && bit+8 <= to {
			g.blocks[bit/8] = 0xFF
			bit += 7
			continue
		}
		setBit(g.blocks, bit)
	}
	n := to - from
	g.blocksChanged = true
	g.setNumber16(gdFreeBlocks, gdFreeBlocksHi, g.number16(gdFreeBlocks, gdFreeBlocksHi)-n)
	a.usedBlocks += uint64(n)
}

// release gives a block back that mke2fs has used. It must be called before the first allocation.
func (a *allocator) release(block uint64) error {
	index := int((block - a.v.sb.firstDataBlock) / uint64(a.v.sb.blocksPerGroup))
	g, err := a.v.loadBlocks(index)
	if err != nil {
		return err
	}
	clearBit(g.blocks, uint32(block-a.v.firstBlock(index)))
	g.blocksChanged = true
	g.setNumber16(gdFreeBlocks, gdFreeBlocksHi, g.number16(gdFreeBlocks, gdFreeBlocksHi)+1)
	a.usedBlocks--
	return nil
}

// runs appends the blocks for count logical blocks of a file to runs.
func (a *allocator) runs(runs []run, logical, count uint64) ([]run, error) {
	for count > 0 {
		start, n, err := a.block(count)
		if err != nil {
			return nil, err
		}
		if last := len(runs) - 1; last >= 0 && runs[last].start+runs[last].count == start && runs[last].logical+runs[last].count == logical {
			runs[last].count += n
		} else {
			runs = append(runs, run{logical, start, n})
		}
		logical, count = logical+n, count-n
	}
	return runs, nil
}

// single returns count blocks, which need not lie one after the other.
func (a *allocator) single(count int) ([]uint64, error) {
	blocks := make([]uint64, 0, count)
	for len(blocks) < count {
		start, n, err := a.block(uint64(count - len(blocks)))
		if err != nil {
			return nil, err
		}
		for i := range n {
			blocks = append(blocks, start+i)
		}
	}
	return blocks, nil
}

// inode returns a free inode. When none is left it counts what is missing and returns 0.
func (a *allocator) inode() (uint32, error) {
	per := a.v.sb.inodesPerGroup
	for a.inodeGroup < len(a.v.groups) {
		g, err := a.v.loadInodes(a.inodeGroup)
		if err != nil {
			return 0, err
		}
		bit := nextClear(g.inodes, a.inodeBit, per)
		number := uint32(a.inodeGroup)*per + bit + 1
		if bit == per {
			a.inodeGroup, a.inodeBit = a.inodeGroup+1, 0
			continue
		}
		a.inodeBit = bit + 1
		if number < a.v.sb.firstInode {
			continue
		}
		setBit(g.inodes, bit)
		g.inodesChanged = true
		g.setNumber16(gdFreeInodes, gdFreeInodesHi, g.number16(gdFreeInodes, gdFreeInodesHi)-1)
		a.usedInodes++
		return number, nil
	}
	a.missingInodes++
	return 0, nil
}

// countDir notes that the inode is a directory.
func (a *allocator) countDir(number uint32) {
	if number == 0 {
		return
	}
	g := &a.v.groups[(number-1)/a.v.sb.inodesPerGroup]
	g.setNumber16(gdUsedDirs, gdUsedDirsHi, g.number16(gdUsedDirs, gdUsedDirsHi)+1)
}
