package layers

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"github.com/imgbuild/imgbuild/internal/gunzip"
)

// pieceEncoder compresses pieces; it may be used by several goroutines at once.
type pieceEncoder interface {
	// encode appends the compressed form of raw to dst. Its bytes depend on raw and the level alone.
	encode(dst, raw []byte) ([]byte, error)
}

func newPieceEncoder(c Compression, jobs int) (pieceEncoder, error) {
	switch c.Algorithm {
	case Gzip:
		return &gzipEncoder{level: c.Level}, nil
	case Zstd:
		// A window larger than a piece would only cost memory, here and in every reader.
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(jobs), zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(c.Level)),
			zstd.WithWindowSize(c.pieceSize()))
		if err != nil {
			return nil, fmt.Errorf("preparing zstd level %d: %w", c.Level, err)
		}
		return zstdEncoder{enc}, nil
	default:
		return nil, fmt.Errorf("compression %q has no pieces", c.Algorithm)
	}
}

type zstdEncoder struct{ enc *zstd.Encoder }

func (e zstdEncoder) encode(dst, raw []byte) ([]byte, error) { return e.enc.EncodeAll(raw, dst), nil }

// A gzip member (RFC 1952) of ours has an extra field with one subfield "IB" that holds two numbers of 32 bits, least byte first:
// the size of the whole member and the size of what it holds. With them a reader finds every member without decompressing.
const (
	gzipHeaderSize  = 10 + 2 + 4 + 8
	gzipTrailerSize = 8
)

type gzipEncoder struct {
	level   int
	writers sync.Pool
}

func (e *gzipEncoder) encode(dst, raw []byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst,
		0x1f, 0x8b, 8, 4, // magic, deflate, FEXTRA
		0, 0, 0, 0, 0, 255, // no time, no flags, unknown system
		12, 0, 'I', 'B', 8, 0, // XLEN, subfield id, its length
		0, 0, 0, 0, 0, 0, 0, 0)
	out := bytes.NewBuffer(dst)
	w, _ := e.writers.Get().(*flate.Writer)
	if w == nil {
		var err error
		if w, err = flate.NewWriter(out, e.level); err != nil {
			return nil, fmt.Errorf("preparing gzip level %d: %w", e.level, err)
		}
	} else {
		w.Reset(out)
	}
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	e.writers.Put(w)
	dst = binary.LittleEndian.AppendUint32(out.Bytes(), crc32.ChecksumIEEE(raw))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(raw)))
	binary.LittleEndian.PutUint32(dst[start+16:], uint32(len(dst)-start))
	binary.LittleEndian.PutUint32(dst[start+20:], uint32(len(raw)))
	return dst, nil
}

// pieceDecoder decompresses pieces; it may be used by several goroutines at once.
type pieceDecoder struct {
	algorithm Algorithm
	zstd      *zstd.Decoder
	gzips     sync.Pool
}

// maxWindow is the largest zstd window that a foreign layer may ask for: that of zstd --ultra -22.
const maxWindow = 128 << 20

func newPieceDecoder(a Algorithm, jobs int) (*pieceDecoder, error) {
	d := &pieceDecoder{algorithm: a}
	if a == Zstd {
		dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(jobs), zstd.WithDecodeAllCapLimit(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("preparing to read zstd: %w", err)
		}
		d.zstd = dec
	}
	return d, nil
}

// decode decompresses packed, which must hold exactly length bytes, into buf or, where that is too small, a new buffer.
func (d *pieceDecoder) decode(packed []byte, length int64, buf []byte) ([]byte, error) {
	if int64(cap(buf)) < length {
		buf = make([]byte, length)
	}
	if d.algorithm == Zstd {
		out, err := d.zstd.DecodeAll(packed, buf[:0:length])
		if err == nil && int64(len(out)) != length {
			err = fmt.Errorf("it holds %d bytes, not %d", len(out), length)
		}
		return out, err
	}
	in := bytes.NewReader(packed)
	r, _ := d.gzips.Get().(*gunzip.Reader)
	var err error
	if r == nil {
		r, err = gunzip.NewReader(in)
	} else {
		err = r.Reset(in)
	}
	if err != nil {
		return nil, err
	}
	out := buf[:length]
	if _, err := io.ReadFull(r, out); err != nil {
		return nil, fmt.Errorf("it holds less than %d bytes: %w", length, err)
	}
	var more [1]byte
	if n, err := r.Read(more[:]); n != 0 || err != io.EOF {
		if err != nil && err != io.EOF {
			return nil, err
		}
		return nil, fmt.Errorf("it holds more than %d bytes", length)
	}
	d.gzips.Put(r)
	return out, nil
}

func (d *pieceDecoder) close() {
	if d.zstd != nil {
		d.zstd.Close()
	}
}

// maxFrame bounds what one piece may unpack to before a blob counts as not seekable, and with it the memory a reader needs.
const maxFrame = 16 << 20

// maxFrames bounds how many pieces a blob may have before it counts as not seekable: at a mebibyte each, four tebibytes.
const maxFrames = 4 << 20

// The zstd seekable format (contrib/seekable_format/zstd_seekable_compression_format.md in the zstd sources) ends a blob with
// a skippable frame: magic and size of the frame; per frame its compressed and decompressed size, and a checksum if bit 7 of the descriptor
// is set; the number of frames, the descriptor and a magic number of its own. All numbers are of 32 bits, least byte first, but the descriptor
// of one byte.
const (
	skippableMagic  = 0x184D2A5E
	seekTableMagic  = 0x8F92EAB1
	seekTableHeader = 8
	seekTableFooter = 9
)

func appendSeekTable(dst []byte, frames []Frame) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, skippableMagic)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(8*len(frames)+seekTableFooter))
	for _, f := range frames {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(f.Size))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(f.TarSize))
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(frames)))
	dst = append(dst, 0)
	return binary.LittleEndian.AppendUint32(dst, seekTableMagic)
}

// readFrames finds the independent pieces of a blob, in order and without gaps, or nothing if the blob does not say where they are. It
// trusts only what it can check: that the pieces fill the blob. That each one unpacks to what is said here is checked when it
// is decompressed; and since every piece must then be a run of whole frames, reading by pieces and reading from the beginning to the end
// give the same bytes.
func readFrames(blob Blob, a Algorithm) ([]Frame, error) {
	switch a {
	case Zstd:
		return zstdFrames(blob)
	case Gzip:
		return gzipFrames(blob)
	default:
		return nil, nil
	}
}

// zstdFrames reads the seek table at the end of a blob.
func zstdFrames(blob Blob) ([]Frame, error) {
	var foot [seekTableFooter]byte
	end := blob.Size() - seekTableFooter
	if end < seekTableHeader {
		return nil, nil
	}
	if err := readFullAt(blob, foot[:], end); err != nil {
		return nil, err
	}
	count := int64(binary.LittleEndian.Uint32(foot[:]))
	if binary.LittleEndian.Uint32(foot[5:]) != seekTableMagic || count > maxFrames {
		return nil, nil
	}
	entry := int64(8)
	if foot[4]&0x80 != 0 {
		entry = 12
	}
	tableStart := end - count*entry - seekTableHeader
	if tableStart < 0 {
		return nil, nil
	}
	table := make([]byte, end-tableStart)
	if err := readFullAt(blob, table, tableStart); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(table) != skippableMagic || int64(binary.LittleEndian.Uint32(table[4:])) != count*entry+seekTableFooter {
		return nil, nil
	}
	frames := make([]Frame, 0, count)
	var at Frame
	for rest := range slices.Chunk(table[seekTableHeader:], int(entry)) {
		at.Size, at.TarSize = int64(binary.LittleEndian.Uint32(rest)), int64(binary.LittleEndian.Uint32(rest[4:]))
		if at.Size == 0 || at.TarSize > maxFrame || at.Size > maxFrame+maxFrame/8+1024 {
			return nil, nil
		}
		frames = append(frames, at)
		at.Offset += at.Size
		at.TarOffset += at.TarSize
	}
	if at.Offset != tableStart {
		return nil, nil
	}
	return frames, nil
}

// gzipFrames follows the sizes in the extra fields from member to member.
func gzipFrames(blob Blob) ([]Frame, error) {
	var frames []Frame
	var at Frame
	for at.Offset < blob.Size() {
		var head [gzipHeaderSize]byte
		if blob.Size()-at.Offset < gzipHeaderSize+gzipTrailerSize {
			return nil, nil
		}
		if err := readFullAt(blob, head[:], at.Offset); err != nil {
			return nil, err
		}
		if !bytes.Equal(head[:4], []byte{0x1f, 0x8b, 8, 4}) || !bytes.Equal(head[10:16], []byte{12, 0, 'I', 'B', 8, 0}) {
			return nil, nil
		}
		at.Size, at.TarSize = int64(binary.LittleEndian.Uint32(head[16:])), int64(binary.LittleEndian.Uint32(head[20:]))
		if at.Size < gzipHeaderSize+gzipTrailerSize || at.Size > blob.Size()-at.Offset || at.TarSize > maxFrame || len(frames) >= maxFrames {
			return nil, nil
		}
		frames = append(frames, at)
		at.Offset += at.Size
		at.TarOffset += at.TarSize
	}
	return frames, nil
}

func readFullAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
