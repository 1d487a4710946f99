package iso

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/imgbuild/imgbuild/internal/ctxio"
)

// Places in an ISO image, in bytes from its begin. The descriptor is the primary volume descriptor: ECMA-119, section 8.4.
const (
	sectorSize      = 2048
	descriptorAt    = 16 * sectorSize
	volumeSizeAt    = descriptorAt + 80 // sectors of 2048 bytes, 32 bits little-endian and then big-endian
	applicationAt   = descriptorAt + 883
	applicationSize = 512
	bootSectorSize  = 512
	signatureAt     = 440 // of the MBR, 32 bits little-endian
)

// skippedSectors at the end don't count for isomd5sum: drives fail to read the last sectors of CDs that were written in one go.
const skippedSectors = 15

// writeSignature writes the disk signature into the MBR.
func writeSignature(w io.WriterAt, signature uint32) error {
	if _, err := w.WriteAt(binary.LittleEndian.AppendUint32(nil, signature), signatureAt); err != nil {
		return fmt.Errorf("writing the disk signature: %w", err)
	}
	return nil
}

// medium's digests of two programs that check media: of isomd5sum's checkisomd5, which dracut runs for rd.live.check, and of openSUSE's checkmedia, which
// KIWI's module runs for mediacheck=1.
type digests struct {
	md5    []byte // over all but the last sectors
	sha256 []byte // over all, with zeros in place of the boot sector, whose partition table may change on a stick
}

// text is the application use area with both. Each program skips what it does not know. isomd5sum's digests of parts are left out (their count is 0),
// since checkmedia would take them for SHA-256.
func (d digests) text() []byte {
	text := fmt.Sprintf("ISO MD5SUM = %x;SKIPSECTORS = %d;RHLISOSTATUS=0;FRAGMENT COUNT = 0;check=1;pad=0;sha256sum=%x", d.md5, skippedSectors, d.sha256)
	area := bytes.Repeat([]byte{' '}, applicationSize)
	copy(area, text)
	return area
}

// file is what an ISO image is changed through.
type file interface {
	io.ReaderAt
	io.WriterAt
}

// implant computes the digests of an ISO image and writes them into its application use area. read is called with how many more bytes were read.
func implant(ctx context.Context, f file, read func(int64)) error {
	d, err := compute(ctx, f, read)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(d.text(), applicationAt)
	return err
}

// compute reads an ISO image once.
func compute(ctx context.Context, f io.ReaderAt, read func(int64)) (digests, error) {
	sectors := make([]byte, 4)
	if _, err := f.ReadAt(sectors, volumeSizeAt); err != nil {
		return digests{}, fmt.Errorf("reading the volume descriptor: %w", err)
	}
	size := int64(binary.LittleEndian.Uint32(sectors)) * sectorSize
	head := make([]byte, applicationAt+applicationSize)
	if size < int64(len(head))+skippedSectors*sectorSize {
		return digests{}, errors.New("the image is too small")
	}
	if _, err := f.ReadAt(head, 0); err != nil {
		return digests{}, err
	}
	copy(head[applicationAt:], bytes.Repeat([]byte{' '}, applicationSize))
	all, most := sha256.New(), md5.New()
	most.Write(head)
	clear(head[:bootSectorSize])
	all.Write(head)
	at, end := int64(len(head)), size-skippedSectors*sectorSize
	for _, part := range []struct {
		until int64
		to    []hash.Hash
	}{{end, []hash.Hash{all, most}}, {size, []hash.Hash{all}}} {
		r := ctxio.Reader(ctx, io.NewSectionReader(f, at, part.until-at))
		if err := hashAll(r, part.to, read); err != nil {
			return digests{}, err
		}
		at = part.until
	}
	return digests{md5: most.Sum(nil), sha256: all.Sum(nil)}, nil
}

// hashAll gives all that r has to the hashes.
func hashAll(r io.Reader, to []hash.Hash, read func(int64)) error {
	buffer := make([]byte, 1<<20)
	for {
		n, err := r.Read(buffer)
		for _, h := range to {
			h.Write(buffer[:n])
		}
		read(int64(n))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
