package compress

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"runtime"

	"github.com/klauspost/compress/zstd"
)

const (
	zstdLevel        = 1
	zstdDefaultLevel = 15 // what readers take for granted if there are no options: it is that of squashfs-tools
	zstdMaxLevel     = 22
)

// zstdMethod writes frames with the size of their content and neither a window nor a checksum: readers need as much memory as the content has, and
// Linux (fs/squashfs/zstd_wrapper.c) has no more than a block.
type zstdMethod struct {
	encoder *zstd.Encoder
	level   int
}

func newZstd(s Settings) (Method, error) {
	if s.Level == 0 {
		s.Level = zstdLevel
	}
	if s.Level < 1 || s.Level > zstdMaxLevel {
		return nil, fmt.Errorf("level %d of zstd: there are 1 to %d", s.Level, zstdMaxLevel)
	}
	window := max(s.BlockSize, MetadataSize)
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(s.Level)), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true),
		zstd.WithWindowSize(1<<bits.Len(uint(window-1))), zstd.WithZeroFrames(true), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	if err != nil {
		return nil, err
	}
	return &zstdMethod{encoder, s.Level}, nil
}

func (m *zstdMethod) ID() uint16 { return idZstd }

func (m *zstdMethod) Options() []byte {
	if m.level == zstdDefaultLevel {
		return nil
	}
	return binary.LittleEndian.AppendUint32(nil, uint32(m.level))
}

func (m *zstdMethod) Block(ctx context.Context, dst, content []byte, _ Content) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return m.encoder.EncodeAll(content, dst), nil
}
