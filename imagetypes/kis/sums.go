package kis

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/imgbuild/imgbuild/internal/ctxio"
)

// sums are the check sums of a system image and its size in blocks, with which a client knows how much of a device to read again.
type sums struct {
	md5, sha256      []byte
	size, compressed int64 // bytes; compressed is 0 if the image is not
}

// sum reads the first size bytes of a file.
func sum(ctx context.Context, f *os.File, size int64) (sums, error) {
	short, long := md5.New(), sha256.New() // the short one is the format's: it finds damage, not forgery
	if _, err := io.Copy(io.MultiWriter(short, long), ctxio.Reader(ctx, io.NewSectionReader(f, 0, size))); err != nil {
		return sums{}, fmt.Errorf("reading the system image: %w", err)
	}
	return sums{md5: short.Sum(nil), sha256: long.Sum(nil), size: size}, nil
}

// text is KIWI's form: SUM BLOCKS BLOCKSIZE and, for a compressed image, its own BLOCKS BLOCKSIZE too.
func (s sums) text(digest []byte) string {
	block := blockSize(s.size)
	text := fmt.Sprintf("%s %d %d", hex.EncodeToString(digest), s.size/block, block)
	if s.compressed > 0 {
		block := blockSize(s.compressed)
		text += fmt.Sprintf(" %d %d", s.compressed/block, block)
	}
	return text + "\n"
}

// blockSize is the largest number up to 8192 that divides size, so that blocks of it make up the whole.
func blockSize(size int64) int64 {
	for block := int64(8192); block > 1; block-- {
		if size%block == 0 {
			return block
		}
	}
	return 1
}
