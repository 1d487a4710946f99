// Package squashfs writes a root tree as a squashfs 4.0 file system into a file.
//
// The contents of the files are read once, one after the other, and cut into blocks; as many goroutines as there are processors
// compress them, and one writes them in the order in which they were read. So the bytes depend on nothing but the tree and the options, and no more than
// a few blocks per processor are in memory. What tells of the files comes behind the contents, in tables: inodes, directories, fragments, export, owners,
// extended attributes.
//
// The format is described in the Linux kernel: Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h, whose names the comments here give.
// All numbers in it are little-endian.
package squashfs

import (
	"context"
	"io"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/squashfs/compress"
	"github.com/imgbuild/imgbuild/layers"
)

// Fragments says which ends of files share blocks with others, so that they take no blocks of their own.
type Fragments int

const (
	FragmentsDefault Fragments = iota // FragmentsSmall
	FragmentsSmall                    // files smaller than a block
	FragmentsAlways                   // what is left of larger ones behind their last whole block, too
	FragmentsNone
)

// Options say how a file system is written. The zero value is fine.
type Options struct {
	Compression compress.Settings // its BlockSize does not count
	BlockSize   int               // in bytes, a power of two from 4 KiB to 1 MiB; 0 for [compress.DefaultBlockSize]
	Fragments   Fragments
	// KeepDuplicates stores files with equal content as often as there are. Without it they share one place.
	KeepDuplicates bool

	// What is not compressed. Owners are with the inodes, too, unless PlainIDs is set alone.
	PlainInodes, PlainIDs, PlainData, PlainFragments, PlainXattrs bool

	NoXattrs  bool    // leaves extended attributes out
	NoExport  bool    // leaves the table out by which NFS finds inodes
	NoPadding bool    // ends the file system where it ends, and not at a multiple of 4 KiB
	UID, GID  *uint32 // of everything; nil for those of the tree

	Epoch      uint32 // when the file system was made, in seconds since 1970
	Processors int    // how many blocks to compress at once; 0 for as many as there are processors

	Progress func(n int64)                  // of every further bytes of data read
	Observe  func(n *layers.Node) io.Writer // asked where else to write the data of a file without holes; nil means nowhere
}

// File is what a file system is written to, from its beginning.
type File interface {
	io.WriterAt
	Truncate(size int64) error
}

// Report is what [Write] did.
type Report struct {
	Size  int64         // of the file system in bytes
	Notes []layers.Note // what it could not hold
}

// Write writes a tree. If it fails, the file holds nothing of use.
func Write(ctx context.Context, f File, tree *layers.Tree, o Options) (*Report, error) {
	if o.BlockSize == 0 {
		o.BlockSize = compress.DefaultBlockSize
	}
	o.Compression.BlockSize = o.BlockSize
	method, err := compress.New(o.Compression)
	if err != nil {
		return nil, err
	}
	p, err := newPlan(tree, o)
	if err != nil {
		return nil, err
	}
	out := &output{file: f, at: superblockSize}
	if options := method.Options(); options != nil {
		if err := out.write(plainMetadata(options)); err != nil {
			return nil, err
		}
	}
	if err := p.writeContents(ctx, out, method); err != nil {
		return nil, err
	}
	size, err := p.writeTables(ctx, out, method)
	if err != nil {
		return nil, err
	}
	return &Report{Size: size, Notes: p.notes}, nil
}

// output writes to a file, one thing behind the other.
type output struct {
	file File
	at   int64 // where the next byte goes
}

func (o *output) write(p []byte) error {
	if _, err := o.file.WriteAt(p, o.at); err != nil {
		return err
	}
	o.at += int64(len(p))
	return nil
}
