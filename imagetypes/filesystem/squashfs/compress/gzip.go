package compress

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zlib"

	"github.com/imgbuild/imgbuild/internal/deflate"
)

const (
	gzipLevel      = 9
	gzipWindow     = 15
	gzipMinWindow  = 8
	gzipStrategies = 0 // zlib's default strategy alone

	gzipWeighed = 7 // the lowest level for which ways to write are weighed: no larger than zlib's highest
)

// gzipMethod writes zlib's format (RFC 1950), which squashfs calls gzip.
type gzipMethod struct {
	level, window int
	packers       sync.Pool // of *deflate.Packer, or *zlib.Writer for low levels
}

func newGzip(s Settings) (Method, error) {
	if s.Level == 0 {
		s.Level = gzipLevel
	}
	if s.Level < 1 || s.Level > gzipLevel {
		return nil, fmt.Errorf("level %d of gzip: there are 1 to %d", s.Level, gzipLevel)
	}
	if s.Window == 0 {
		s.Window = gzipWindow
	}
	if s.Window < gzipMinWindow || s.Window > gzipWindow {
		return nil, fmt.Errorf("a window of 2^%d bytes for gzip: it must be 2^%d to 2^%d", s.Window, gzipMinWindow, gzipWindow)
	}
	return &gzipMethod{level: s.Level, window: s.Window}, nil
}

func (m *gzipMethod) ID() uint16 { return idGzip }

func (m *gzipMethod) Options() []byte {
	if m.level == gzipLevel && m.window == gzipWindow {
		return nil
	}
	options := binary.LittleEndian.AppendUint32(nil, uint32(m.level))
	options = binary.LittleEndian.AppendUint16(options, uint16(m.window))
	return binary.LittleEndian.AppendUint16(options, gzipStrategies)
}

func (m *gzipMethod) Block(ctx context.Context, dst, content []byte, _ Content) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if m.level < gzipWeighed && m.window == gzipWindow {
		return m.quickly(dst, content)
	}
	p, ok := m.packers.Get().(*deflate.Packer)
	if !ok {
		p = deflate.NewPacker()
	}
	defer m.packers.Put(p)
	return p.Append(dst, content, deflate.Settings{Window: m.window, Nice: 24, Depth: 3, Passes: 1}), nil
}

func (m *gzipMethod) quickly(dst, content []byte) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	w, ok := m.packers.Get().(*zlib.Writer)
	if ok {
		w.Reset(out)
	} else {
		var err error
		if w, err = zlib.NewWriterLevel(out, m.level); err != nil {
			return nil, err
		}
	}
	defer m.packers.Put(w)
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
