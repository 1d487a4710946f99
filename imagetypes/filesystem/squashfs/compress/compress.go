// Package compress compresses the blocks of a squashfs 4.0 with the methods that Linux can read: gzip (which is zlib's format), lz4, xz and zstd.
//
// Every block is compressed on its own, and a method is safe for use by several goroutines at once. The bytes depend on the settings and the
// block alone.
package compress

import (
	"context"
	"fmt"
	"strings"
)

// Numbers of the methods in the superblock (Linux, fs/squashfs/squashfs_fs.h).
const (
	idGzip = 1
	idXz   = 4
	idZstd = 6
)

// MetadataSize is how many bytes a full metadata block has before it is compressed.
const MetadataSize = 8192

// Limits of a data block's size in bytes, which is a power of two.
const (
	MinBlockSize     = 4 << 10
	MaxBlockSize     = 1 << 20
	DefaultBlockSize = 256 << 10 // large enough to compress well, and small enough that little files are read quickly
)

// Settings say how blocks are compressed. The zero value is zstd with its default level.
type Settings struct {
	// Method is gzip, xz or zstd; "" is zstd.
	Method string
	// Level is how much work is done: 1 to 9 for gzip, 1 to 22 for zstd, where about 11 is the highest there is. 0 is the default: 9 for gzip and 1 for zstd.
	Level int
	// BlockSize is how many bytes a full data block has; 0 is DefaultBlockSize.
	BlockSize int
	// Filters are the filters for machine code that xz may use: x86, arm, armthumb, powerpc, sparc. A block is filtered if it is of an ELF file of that
	// architecture; for x86, any block is if that makes it smaller, as far as one can tell without compressing it.
	Filters []string
	// DictionarySize is how far back xz may refer, in bytes: MetadataSize to BlockSize, 2^n or 2^n+2^(n+1). 0 is BlockSize.
	DictionarySize int
	// Window is how far back gzip may refer, as the logarithm of bytes: 8 to 15. 0 is 15.
	Window int
}

// Method compresses blocks.
type Method interface {
	// ID is the method's number in the superblock.
	ID() uint16
	// Options is the content of the metadata block that follows the superblock, nil if there is none.
	Options() []byte
	// Block appends the compressed content to dst, at most a block, and returns it. It may be longer than the content, which is then to be
	// stored as it is.
	Block(ctx context.Context, dst, content []byte, kind Content) ([]byte, error)
}

// New returns the method that the settings ask for. The error says which setting is wrong.
func New(s Settings) (Method, error) {
	if s.BlockSize == 0 {
		s.BlockSize = DefaultBlockSize
	}
	if s.BlockSize < MinBlockSize || s.BlockSize > MaxBlockSize || s.BlockSize&(s.BlockSize-1) != 0 {
		return nil, fmt.Errorf("a block size of %d bytes: it must be a power of two from %d to %d", s.BlockSize, MinBlockSize, MaxBlockSize)
	}
	if s.Method == "" {
		s.Method = "zstd"
	}
	if s.Method != "xz" && (len(s.Filters) > 0 || s.DictionarySize != 0) {
		return nil, fmt.Errorf("filters and a dictionary's size are settings of xz, not of %s", s.Method)
	}
	if s.Method != "gzip" && s.Window != 0 {
		return nil, fmt.Errorf("the window's size is a setting of gzip, not of %s", s.Method)
	}
	switch s.Method {
	case "gzip":
		return newGzip(s)
	case "xz":
		return newXz(s)
	case "zstd":
		return newZstd(s)
	}
	return nil, fmt.Errorf("no method %q: there are %s", s.Method, strings.Join(Methods(), ", "))
}

// Methods are the names of all methods.
func Methods() []string { return []string{"gzip", "xz", "zstd"} }
