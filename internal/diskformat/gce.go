package diskformat

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/pgzip"
)

// gceName is what the disk is called in the archive for the Google Compute Engine, which takes no other name.
const gceName = "disk.raw"

// GCEAlign is what the size of a disk for the Google Compute Engine is a multiple of, in bytes.
const GCEAlign = 1 << 30

// gceHoles is how finely holes are told, in bytes.
const gceHoles = 64 << 10

func checkGCE(j *job) error {
	if len(j.settings.Options) > 0 {
		return fmt.Errorf("it has no options, such as %s", j.settings.Options[0].Name)
	}
	return nil
}

// writeGCE writes a gzipped tar archive with the raw disk, in GNU tar's old format for files with holes, and a list of licences if there is one.
func writeGCE(ctx context.Context, j *job) error {
	if err := checkGCE(j); err != nil {
		return err
	}
	extents, err := gceExtents(ctx, j)
	if err != nil {
		return err
	}
	gz, err := pgzip.NewWriterLevel(j.out, pgzip.DefaultCompression)
	if err != nil {
		return err
	}
	if err := gz.SetConcurrency(1<<20, max(j.settings.Jobs, 1)); err != nil {
		return err
	}
	defer gz.Close() // after an error it ends what compresses; that it closes twice does not matter
	at := j.settings.IDs.Epoch
	if err := writeSparseFile(ctx, gz, j, extents, at); err != nil {
		return err
	}
	// What archive/tar writes at the end ends the whole archive.
	w := tar.NewWriter(gz)
	if license := j.settings.License; license != "" {
		manifest, err := json.Marshal(map[string][]string{"licenses": {license}})
		if err != nil {
			return err
		}
		manifest = append(manifest, '\n')
		if err := w.WriteHeader(&tar.Header{Name: "manifest.json", Mode: 0o644, Size: int64(len(manifest)), ModTime: at, Format: tar.FormatGNU}); err != nil {
			return err
		}
		if _, err := w.Write(manifest); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return gz.Close()
}

// gceExtents finds what is not zeros, the same on every file system of this machine.
func gceExtents(ctx context.Context, j *job) ([]extent, error) {
	var list []extent
	err := eachBlock(ctx, j, gceHoles, noWork, func(b *block) error {
		start := b.index * gceHoles
		end := min(start+gceHoles, j.size)
		if n := len(list); n > 0 && list[n-1].end == start {
			list[n-1].end = end
		} else {
			list = append(list, extent{start, end})
		}
		return nil
	})
	return list, err
}

// Places in a header of GNU tar's old format, in bytes (GNU tar's manual, "Basic Tar Format": struct oldgnu_header and struct sparse_header).
const (
	tarBlock      = 512
	tarMode       = 100
	tarUID        = 108
	tarGID        = 116
	tarSize       = 124
	tarTime       = 136
	tarChecksum   = 148
	tarType       = 156
	tarMagic      = 257
	tarSparse     = 386
	tarExtended   = 482
	tarRealSize   = 483
	tarSparseSize = 24
	tarInHeader   = 4  // entries of the map of holes in the header
	tarInBlock    = 21 // and in each further block
	tarMoreBlocks = 504
)

// putNumber writes a number into a field: octal digits, or where they don't suffice in base 256 with the highest bit set.
func putNumber(field []byte, n int64) {
	if n < 1<<(3*(len(field)-1)) {
		copy(field, fmt.Appendf(nil, "%0*o\x00", len(field)-1, n))
		return
	}
	binary.BigEndian.PutUint64(field[len(field)-8:], uint64(n))
	field[0] |= 0x80
}

// writeSparseFile writes the disk as one file of a tar archive.
func writeSparseFile(ctx context.Context, w io.Writer, j *job, extents []extent, at time.Time) error {
	var stored int64
	for _, e := range extents {
		stored += e.end - e.start
	}
	entries := extents
	if n := len(extents); n == 0 || extents[n-1].end < j.size {
		entries = append(entries[:n:n], extent{j.size, j.size}) // the hole at the end
	}
	header := make([]byte, tarBlock)
	copy(header, gceName)
	putNumber(header[tarMode:tarUID], 0o644)
	putNumber(header[tarUID:tarGID], 0)
	putNumber(header[tarGID:tarSize], 0)
	putNumber(header[tarSize:tarTime], stored)
	putNumber(header[tarTime:tarChecksum], max(at.Unix(), 0))
	header[tarType] = 'S'
	copy(header[tarMagic:], "ustar  \x00")
	entries = putHoles(header[tarSparse:], entries, tarInHeader)
	if len(entries) > 0 {
		header[tarExtended] = 1
	}
	putNumber(header[tarRealSize:tarRealSize+12], j.size)
	copy(header[tarChecksum:tarType], bytes.Repeat([]byte{' '}, tarType-tarChecksum))
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	copy(header[tarChecksum:], fmt.Sprintf("%06o\x00 ", sum))
	if _, err := w.Write(header); err != nil {
		return err
	}
	for len(entries) > 0 {
		more := make([]byte, tarBlock)
		if entries = putHoles(more, entries, tarInBlock); len(entries) > 0 {
			more[tarMoreBlocks] = 1
		}
		if _, err := w.Write(more); err != nil {
			return err
		}
	}
	buffer := make([]byte, 1<<20)
	for _, e := range extents {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if _, err := io.CopyBuffer(w, struct{ io.Reader }{io.NewSectionReader(j.raw, e.start, e.end-e.start)}, buffer); err != nil {
			return err
		}
	}
	_, err := w.Write(make([]byte, (tarBlock-stored%tarBlock)%tarBlock))
	return err
}

// putHoles writes the first n entries of a map, each an offset and a length, and returns the others.
func putHoles(field []byte, entries []extent, n int) []extent {
	n = min(n, len(entries))
	for i, e := range entries[:n] {
		record := field[i*tarSparseSize:][:tarSparseSize]
		putNumber(record[:12], e.start)
		putNumber(record[12:], e.end-e.start)
	}
	return entries[n:]
}
