package filesystem

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/squashfs"
	"github.com/imgbuild/imgbuild/layers"
)

// mksquashfs 4.5 gives the top directory owner root and the time of the build when it reads a tar, whatever its options say. With an inode table that is not
// compressed (-noI), both can be put right afterwards.

// Places in a squashfs 4.0 (Linux, fs/squashfs/squashfs_fs.h), in bytes; all values are little-endian.
const (
	squashfsMagic      = 0x73717368
	squashfsSuperSize  = 96
	squashfsIDCount    = 26 // 16 bits
	squashfsRootInode  = 32 // 64 bits: the place of a metadata block in the inode table, and in the low 16 bits the place in its content
	squashfsIDTable    = 48 // 64 bits: where the places of the metadata blocks with owners and groups lie, 64 bits each
	squashfsInodeTable = 64 // 64 bits
	inodeOwner         = 4  // 16 bits: index into the table of owners
	inodeGroup         = 6
	inodeTime          = 8 // 32 bits, seconds since 1970
	metadataSize       = 8192
	metadataHeader     = 2 // 16 bits: the length that follows, and a bit for "not compressed"
	metadataPlain      = 1 << 15
)

// file is what a squashfs is put right in.
type file interface {
	io.ReaderAt
	io.WriterAt
}

// metadata is a table whose blocks are not compressed.
type metadata struct {
	f  file
	at int64 // the place of a block
}

// place returns where a byte of the table's content lies. All blocks but the last are full.
func (m metadata) place(offset int64) (int64, error) {
	at := m.at + offset/metadataSize*(metadataHeader+metadataSize)
	header, err := number(m.f, at, metadataHeader)
	if err != nil {
		return 0, err
	}
	if header&metadataPlain == 0 {
		return 0, fmt.Errorf("the metadata at %d is compressed", at)
	}
	return at + metadataHeader + offset%metadataSize, nil
}

// number reads one of the given length in bytes.
func number(r io.ReaderAt, at int64, length int) (uint64, error) {
	buf := make([]byte, 8)
	if _, err := r.ReadAt(buf[:length], at); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(buf), nil
}

// put writes a number of the given length in bytes to a place of the table's content, which may lie in two blocks.
func (m metadata) put(offset int64, value uint64, length int) error {
	for i := range int64(length) {
		at, err := m.place(offset + i)
		if err != nil {
			return err
		}
		if _, err := m.f.WriteAt([]byte{byte(value >> (8 * i))}, at); err != nil {
			return err
		}
	}
	return nil
}

// fixSquashfsRoot sets time and owner of the top directory. An owner that nothing else in the file system has can't be set: notes tell.
func fixSquashfsRoot(f file, root *layers.Node) (notes []layers.Note, err error) {
	if magic, err := number(f, 0, 4); err != nil || magic != squashfsMagic {
		return nil, fmt.Errorf("it begins with %#x (%v)", magic, err)
	}
	reference, err := number(f, squashfsRootInode, 8)
	if err != nil {
		return nil, err
	}
	table, err := number(f, squashfsInodeTable, 8)
	if err != nil {
		return nil, err
	}
	inodes, inode := metadata{f, int64(table + reference>>16)}, int64(reference&(1<<16-1))
	if err := inodes.put(inode+inodeTime, uint64(min(max(root.MTime.Sec, 0), squashfs.MaxTime)), 4); err != nil {
		return nil, err
	}
	for place, id := range map[int64]uint32{inodeOwner: root.UID, inodeGroup: root.GID} {
		index, found, err := squashfsID(f, id)
		if err != nil {
			return nil, err
		}
		if !found {
			notes = append(notes, layers.Note{Path: "/", Text: fmt.Sprintf("the top directory belongs to root, not to %d as it should: mksquashfs can't do that; use another compression or fewer options", id)})
			continue
		}
		if err := inodes.put(inode+place, index, 2); err != nil {
			return nil, err
		}
	}
	return notes, nil
}

// squashfsID returns the index of an owner or group in the table of both.
func squashfsID(f file, id uint32) (index uint64, found bool, err error) {
	count, err := number(f, squashfsIDCount, 2)
	if err != nil {
		return 0, false, err
	}
	places, err := number(f, squashfsIDTable, 8)
	if err != nil {
		return 0, false, err
	}
	const each = 4
	for i := range int64(count) {
		block, err := number(f, int64(places)+i*each/metadataSize*8, 8)
		if err != nil {
			return 0, false, err
		}
		at, err := metadata{f, int64(block)}.place(i * each % metadataSize)
		if err != nil {
			return 0, false, err
		}
		if got, err := number(f, at, each); err != nil || uint32(got) == id {
			return uint64(i), err == nil, err
		}
	}
	return 0, false, nil
}
