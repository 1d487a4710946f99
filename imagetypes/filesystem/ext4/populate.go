// Package ext4 fills an empty ext2, ext3 or ext4 file system with a root tree.
//
// mke2fs, the format's own tool, makes the file system with whatever options the user wants; this package then reads what it made and
// writes the tree into it: inodes, directories, maps and contents, the bitmaps, counters and checksums. Nothing is mounted and no directory is
// unpacked, so an ordinary user gets every owner and every device right. The bytes depend on nothing but the tree and what mke2fs made.
//
// The format is described in the Linux kernel's documentation, filesystems/ext4, whose chapters the files here name.
package ext4

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/imgbuild/imgbuild/layers"
)

// Report is what [Populate] did.
type Report struct {
	Notes      []layers.Note // what the file system could not hold
	FreeBlocks uint64        // left, of BlockSize bytes each
	FreeInodes uint32
	BlockSize  int64
	// Quota is set if the file system has quota files, whose counts are to be brought up to date by e2fsck.
	Quota bool
}

// Options say what to do besides. The zero value is fine.
type Options struct {
	// Sync gives directories and files the attribute S of chattr(1): what is written to them is on the disk at once.
	Sync     bool
	Progress func(n int64)                  // of every further bytes
	Observe  func(n *layers.Node) io.Writer // asked where else to write a file's data; nil means nowhere
	// Written gets what has been written to f at an offset, and is told that the first final bytes of f will not change any more; nil if nobody wants to know. It is
	// called by another goroutine, and calls release, or has it called, when it does not need the data any longer.
	Written func(final, at int64, data []byte, release func())
}

// Populate writes a tree into the empty file system that mke2fs has made in f, beginning at offset (bytes). What mke2fs has not written there
// must read as zeros.
//
// If the tree does not fit, the error is a [*NoSpaceError] and nothing is written.
func Populate(ctx context.Context, f interface {
	io.ReaderAt
	io.WriterAt
}, offset int64, tree *layers.Tree, opts Options,
) (*Report, error) {
	v, err := openVolume(f, offset)
	if err != nil {
		return nil, err
	}
	v.sync = opts.Sync
	p, err := newPlan(ctx, v, tree)
	if err != nil {
		return nil, err
	}
	out := newOutput(f, v.sb.blockSize)
	if !v.sb.hasQuota() {
		out.written = opts.Written
	}
	err = p.write(ctx, out, tree, opts)
	if closing := out.close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, err
	}
	return p.report(), nil
}

// Fits plans a tree for the empty file system in f at offset and writes nothing. If the tree does not fit, the error is a
// [*NoSpaceError].
func Fits(ctx context.Context, f io.ReaderAt, offset int64, tree *layers.Tree) (*Report, error) {
	v, err := openVolume(readOnly{f}, offset)
	if err != nil {
		return nil, err
	}
	p, err := newPlan(ctx, v, tree)
	if err != nil {
		return nil, err
	}
	p.updateSuper()
	return p.report(), nil
}

// readOnly is a file that can't be written.
type readOnly struct{ io.ReaderAt }

func (readOnly) WriteAt([]byte, int64) (int, error) {
	return 0, fmt.Errorf("writing to a file system that is only looked at")
}

func (p *plan) report() *Report {
	sb := p.v.sb
	return &Report{
		Notes: p.notes, FreeBlocks: sb.freeBlocks(), FreeInodes: sb.u32(sbFreeInodes), BlockSize: sb.blockSize,
		Quota: sb.hasQuota(),
	}
}

// updateSuper brings the superblock's counters and features up to date.
func (p *plan) updateSuper() {
	sb := p.v.sb
	sb.setFreeBlocks(sb.freeBlocks() - p.alloc.usedBlocks)
	sb.put32(sbFreeInodes, sb.u32(sbFreeInodes)-uint32(p.alloc.usedInodes))
	if p.largeFile {
		sb.roCompat |= roCompatLargeFile
		sb.put32(sbROCompat, sb.roCompat)
	}
	if p.xattrs {
		sb.compat |= compatExtAttr
		sb.put32(sbCompat, sb.compat)
	}
}

// hasQuota reports whether the file system has quota files.
func (sb *superblock) hasQuota() bool { return sb.roCompat&(roCompatQuota|roCompatProject) != 0 }

// write writes everything that the plan has placed. The contents come last, so that they are final one after the other.
func (p *plan) write(ctx context.Context, out *output, tree *layers.Tree, opts Options) error {
	for _, in := range p.inodes {
		if in.dir != nil {
			if err := p.v.writeDir(out, in); err != nil {
				return err
			}
		}
	}
	for _, b := range p.blocks {
		if err := p.v.writeXattrBlock(out, b); err != nil {
			return err
		}
	}
	for _, in := range p.inodes {
		if in.node.IsSymlink() && len(in.runs) > 0 {
			if err := out.write(p.v.at(in.runs[0].start), []byte(in.node.Target)); err != nil {
				return err
			}
		}
	}
	if err := p.writeInodes(out); err != nil {
		return err
	}
	p.updateSuper()
	if err := p.v.flushGroups(out); err != nil {
		return err
	}
	return p.writeContents(ctx, out, tree, opts)
}

// writeInodes writes the inode tables, block by block.
func (p *plan) writeInodes(out *output) error {
	blockSize := p.v.sb.blockSize
	block := make([]byte, blockSize)
	at := int64(-1)
	for _, in := range p.inodes {
		place := p.v.inodeAt(in.number)
		inBlockAt := (place - p.v.base) % blockSize
		if start := place - inBlockAt; start != at {
			if at >= 0 {
				if err := out.write(at, block); err != nil {
					return err
				}
			}
			at = start
			if _, err := p.v.file.ReadAt(block, at); err != nil {
				return fmt.Errorf("reading an inode table: %w", err)
			}
		}
		raw := block[inBlockAt : inBlockAt+int64(p.v.sb.inodeSize)]
		clear(raw)
		if err := p.writeMap(out, raw[inBlock:inBlock+inodeBlockSize], in); err != nil {
			return err
		}
		p.v.putInode(raw, in)
	}
	return out.write(at, block)
}

// writeMap fills an inode's block field with what leads to its content, or is it.
func (p *plan) writeMap(out *output, field []byte, in *inode) error {
	switch {
	case in.node.IsDevice():
		putDevice(field, in.node)
	case in.node.IsSymlink() && len(in.runs) == 0:
		copy(field, in.node.Target)
	case in.node.Type() == layers.TypeFIFO:
	case p.v.sb.extents():
		return p.v.writeExtents(out, field, in)
	case len(in.runs) == 1 && len(in.mapBlocks) == 0:
		for i := range in.runs[0].count {
			binary.LittleEndian.PutUint32(field[4*(in.runs[0].logical+i):], uint32(in.runs[0].start+i))
		}
	default:
		return p.v.writeBlockMap(out, field, in)
	}
	return nil
}

// Inodes returns how many inodes the file system in f at offset has, used ones included.
func Inodes(f io.ReaderAt, offset int64) (uint32, error) {
	sb, err := readSuperblock(f, offset)
	if err != nil {
		return 0, err
	}
	return sb.inodes, nil
}
