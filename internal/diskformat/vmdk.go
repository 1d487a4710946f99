package diskformat

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/klauspost/compress/zlib"
)

// Numbers of VMware's 'Virtual Disk Format 5.0'. Sizes and offsets in the file are counted in sectors of 512 bytes, little-endian.
const (
	vmdkSparse = "monolithicSparse"
	vmdkStream = "streamOptimized"

	vmdkMagic       = 0x564d444b // "KDMV"
	vmdkGrain       = 64 << 10
	vmdkPerTable    = 512
	vmdkTableSize   = 4 * vmdkPerTable
	vmdkDescriptor  = 20 // sectors
	vmdkGDAtEnd     = 1<<64 - 1
	vmdkNewlines    = 1 << 0
	vmdkRedundant   = 1 << 1
	vmdkCompressed  = 1 << 16
	vmdkMarkers     = 1 << 17
	vmdkDeflate     = 1
	vmdkMarkerTable = 1
	vmdkMarkerDir   = 2
	vmdkMarkerFoot  = 3
	sector          = 512
)

// writeVMDK writes one file of the subformat monolithicSparse, the default, or streamOptimized.
func writeVMDK(ctx context.Context, j *job) error {
	v := &vmdk{j: j, out: &joinedWriter{w: j.out}, grains: (j.size + vmdkGrain - 1) / vmdkGrain}
	v.tables = (v.grains + vmdkPerTable - 1) / vmdkPerTable
	switch subformat := j.option("subformat", vmdkSparse); subformat {
	case vmdkSparse:
		return v.writeSparse(ctx)
	case vmdkStream:
		return v.writeStream(ctx)
	default:
		return fmt.Errorf("subformat=%s is not known", subformat)
	}
}

type vmdk struct {
	j      *job
	out    *joinedWriter
	grains int64 // of the disk
	tables int64 // grain tables
}

// vmdkHeader is the specification's SparseExtentHeader.
type vmdkHeader struct {
	version, flags              uint32
	redundantAt, dirAt, dataAt  uint64 // sectors
	compression                 uint16
	capacity                    int64 // bytes
	descriptorAt, descriptorLen uint64
}

func (h vmdkHeader) encode() []byte {
	b := make([]byte, sector)
	le := binary.LittleEndian
	le.PutUint32(b[0:], vmdkMagic)
	le.PutUint32(b[4:], h.version)
	le.PutUint32(b[8:], h.flags)
	le.PutUint64(b[12:], uint64((h.capacity+vmdkGrain-1)/vmdkGrain*vmdkGrain/sector))
	le.PutUint64(b[20:], vmdkGrain/sector)
	le.PutUint64(b[28:], h.descriptorAt)
	le.PutUint64(b[36:], h.descriptorLen)
	le.PutUint32(b[44:], vmdkPerTable)
	le.PutUint64(b[48:], h.redundantAt)
	le.PutUint64(b[56:], h.dirAt)
	le.PutUint64(b[64:], h.dataAt)
	copy(b[73:], "\n \r\n")
	le.PutUint16(b[77:], h.compression)
	return b
}

// descriptor is the text part of the file.
func (v *vmdk) descriptor(subformat string) ([]byte, error) {
	adapter := v.j.option("adapter_type", "ide")
	heads, perTrack := 16, 63
	if adapter != "ide" {
		heads = 255
	}
	cylinders := v.j.size / sector / int64(heads*perTrack)
	if adapter == "ide" {
		cylinders = min(cylinders, 16383)
	}
	text := fmt.Sprintf(`# Disk DescriptorFile
version=1
CID=%08x
parentCID=ffffffff
createType="%s"

# Extent description
RW %d SPARSE "%s"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "%s"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "%d"
ddb.geometry.sectors = "%d"
ddb.adapterType = "%s"
`, v.j.settings.IDs.Uint32("vmdk content"), subformat, v.j.size/sector, filepath.Base(v.j.out.Name()), v.j.option("hwversion", "4"), cylinders, heads, perTrack, adapter)
	b := make([]byte, vmdkDescriptor*sector)
	if len(text) > len(b) {
		return nil, fmt.Errorf("the descriptor of a VMDK has room for %d bytes, %d are needed: use a shorter file name", len(b), len(text))
	}
	copy(b, text)
	return b, nil
}

// writeSparse lays out header, descriptor, two copies of directory and tables, then the grains.
func (v *vmdk) writeSparse(ctx context.Context) error {
	dirSectors := (4*v.tables + sector - 1) / sector
	copySectors := dirSectors + v.tables*vmdkTableSize/sector
	firstCopy := int64(1 + vmdkDescriptor)
	dataAt := (firstCopy + 2*copySectors + vmdkGrain/sector - 1) / (vmdkGrain / sector) * (vmdkGrain / sector)
	table := make([]byte, v.tables*vmdkTableSize)
	at := dataAt * sector
	err := eachBlock(ctx, v.j, vmdkGrain, noWork, func(b *block) error {
		binary.LittleEndian.PutUint32(table[4*b.index:], uint32(at/sector))
		err := v.out.WriteAt(b.data, at)
		at += vmdkGrain
		return err
	})
	if err != nil {
		return err
	}
	header := vmdkHeader{
		version: 1, flags: vmdkNewlines | vmdkRedundant, capacity: v.j.size, descriptorAt: 1, descriptorLen: vmdkDescriptor,
		redundantAt: uint64(firstCopy), dirAt: uint64(firstCopy + copySectors), dataAt: uint64(dataAt),
	}
	text, err := v.descriptor(vmdkSparse)
	if err != nil {
		return err
	}
	if err := v.out.WriteAt(append(header.encode(), text...), 0); err != nil {
		return err
	}
	for i := range int64(2) {
		begin := firstCopy + i*copySectors
		dir := make([]byte, dirSectors*sector)
		for n := range v.tables {
			binary.LittleEndian.PutUint32(dir[4*n:], uint32(begin+dirSectors+n*vmdkTableSize/sector))
		}
		if err := v.out.WriteAt(append(dir, table...), begin*sector); err != nil {
			return err
		}
	}
	if err := v.out.Flush(); err != nil {
		return err
	}
	return v.j.out.Truncate(at)
}

// writeStream writes compressed grains one after the other, each table after its grains, directory and footer at the end.
func (v *vmdk) writeStream(ctx context.Context) error {
	header := vmdkHeader{
		version: 3, flags: vmdkNewlines | vmdkCompressed | vmdkMarkers, capacity: v.j.size, descriptorAt: 1, descriptorLen: vmdkDescriptor,
		dirAt: vmdkGDAtEnd, dataAt: vmdkGrain / sector, compression: vmdkDeflate,
	}
	text, err := v.descriptor(vmdkStream)
	if err != nil {
		return err
	}
	s := &vmdkStreamWriter{vmdk: v, table: make([]byte, vmdkTableSize), current: -1, dir: make([]byte, (4*v.tables+sector-1)/sector*sector)}
	if err := s.append(header.encode(), text, make([]byte, vmdkGrain-sector-len(text))); err != nil {
		return err
	}
	writers := sync.Pool{New: func() any {
		w, err := zlib.NewWriterLevel(nil, zlib.BestSpeed)
		if err != nil { // the level is one of the package's own
			panic(err)
		}
		return w
	}}
	deflate := func(b *block) error {
		var out bytes.Buffer
		out.Write(make([]byte, 12)) // the marker: first sector and length
		w := writers.Get().(*zlib.Writer)
		defer writers.Put(w)
		w.Reset(&out)
		if _, err := w.Write(b.data); err != nil {
			return err
		}
		err := w.Close()
		b.out = out.Bytes()
		binary.LittleEndian.PutUint64(b.out, uint64(b.index*vmdkGrain/sector))
		binary.LittleEndian.PutUint32(b.out[8:], uint32(len(b.out)-12))
		return err
	}
	if err := eachBlock(ctx, v.j, vmdkGrain, deflate, s.grain); err != nil {
		return err
	}
	return s.finish(header)
}

// vmdkStreamWriter appends to a streamOptimized file.
type vmdkStreamWriter struct {
	*vmdk
	at      int64 // where the next record goes
	current int64 // index of the table that is being filled; -1 for none
	table   []byte
	dir     []byte
}

// append writes parts one after the other and pads to a whole sector.
func (s *vmdkStreamWriter) append(parts ...[]byte) error {
	for _, part := range parts {
		if err := s.out.WriteAt(part, s.at); err != nil {
			return err
		}
		s.at += int64(len(part))
	}
	if odd := s.at % sector; odd != 0 {
		return s.append(make([]byte, sector-odd))
	}
	return nil
}

// marker is the sector that announces metadata of the given number of sectors.
func vmdkMarker(sectors int64, kind uint32) []byte {
	b := make([]byte, sector)
	binary.LittleEndian.PutUint64(b, uint64(sectors))
	binary.LittleEndian.PutUint32(b[12:], kind)
	return b
}

func (s *vmdkStreamWriter) grain(b *block) error {
	if table := b.index / vmdkPerTable; table != s.current {
		if err := s.endTable(); err != nil {
			return err
		}
		s.current = table
	}
	binary.LittleEndian.PutUint32(s.table[4*(b.index%vmdkPerTable):], uint32(s.at/sector))
	return s.append(b.out)
}

func (s *vmdkStreamWriter) endTable() error {
	if s.current < 0 {
		return nil
	}
	binary.LittleEndian.PutUint32(s.dir[4*s.current:], uint32(s.at/sector+1))
	err := s.append(vmdkMarker(vmdkTableSize/sector, vmdkMarkerTable), s.table)
	clear(s.table)
	return err
}

func (s *vmdkStreamWriter) finish(header vmdkHeader) error {
	if err := s.endTable(); err != nil {
		return err
	}
	header.dirAt = uint64(s.at/sector + 1)
	err := s.append(vmdkMarker(int64(len(s.dir))/sector, vmdkMarkerDir), s.dir,
		vmdkMarker(1, vmdkMarkerFoot), header.encode(), make([]byte, sector)) // ended by an empty marker
	if err != nil {
		return err
	}
	return s.out.Flush()
}
