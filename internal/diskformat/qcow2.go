package diskformat

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// Numbers of QEMU's docs/interop/qcow2.txt.
const (
	qcow2Magic         = 0x514649fb // "QFI\xfb"
	qcow2Version       = 3
	qcow2HeaderLength  = 112
	qcow2RefcountOrder = 4 // 16 bits each
	qcow2BitCompType   = 1 << 3
	qcow2Copied        = 1 << 63
	qcow2Compressed    = 1 << 62
	qcow2DeflateWindow = 4096 // QEMU inflates with a window of 12 bits
	// qcow2MaxRefs keeps the count of a cluster that many compressed ones share within 16 bits.
	qcow2MaxRefs = 60000

	defaultClusterSize = 64 << 10
)

// qcow2 is the image as far as it is written: data clusters one after the other, then the tables.
type qcow2 struct {
	j           *job
	out         *joinedWriter
	clusterBits int
	clusterSize int64
	l2          map[int64][]uint64 // by index in the L1 table
	refs        []uint16           // by host cluster

	next  int64 // the first host byte that no cluster takes, a multiple of the cluster size
	free  int64 // where the next compressed data goes
	limit int64 // end of the clusters that free is in
}

func checkQcow2(j *job) error {
	if _, err := parseClusterSize(j.option("cluster_size", strconv.Itoa(defaultClusterSize))); err != nil {
		return err
	}
	_, _, err := qcow2Compressor(j.option("compression", "on"), j.option("compression_type", "zstd"), 1)
	return err
}

// writeQcow2 writes version 3, compressed by default. Clusters of zeros are not allocated.
func writeQcow2(ctx context.Context, j *job) error {
	clusterSize, err := parseClusterSize(j.option("cluster_size", strconv.Itoa(defaultClusterSize)))
	if err != nil {
		return err
	}
	compress, kind, err := qcow2Compressor(j.option("compression", "on"), j.option("compression_type", "zstd"), j.settings.Jobs)
	if err != nil {
		return err
	}
	q := &qcow2{
		j: j, out: &joinedWriter{w: j.out}, clusterSize: clusterSize, clusterBits: bits.TrailingZeros64(uint64(clusterSize)),
		l2: map[int64][]uint64{}, next: clusterSize, refs: []uint16{1},
	}
	if err := eachBlock(ctx, j, clusterSize, compress, q.add); err != nil {
		return err
	}
	return q.finish(kind)
}

func parseClusterSize(text string) (int64, error) {
	n := strings.ToLower(text)
	factor := int64(1)
	switch {
	case strings.HasSuffix(n, "k"):
		n, factor = n[:len(n)-1], 1<<10
	case strings.HasSuffix(n, "m"):
		n, factor = n[:len(n)-1], 1<<20
	}
	size, err := strconv.ParseInt(n, 10, 32)
	size *= factor
	if err != nil || size < 512 || size > 2<<20 || size&(size-1) != 0 {
		return 0, fmt.Errorf("cluster_size=%s: it must be a power of two from 512 to 2M", text)
	}
	return size, nil
}

// qcow2Compressor returns what compresses one cluster, and the compression type of the header.
func qcow2Compressor(on, kind string, jobs int) (func(*block) error, byte, error) {
	if on == "off" {
		return noWork, 0, nil
	}
	if on != "on" {
		return nil, 0, fmt.Errorf("compression=%s: it can be on or off", on)
	}
	switch kind {
	case "zstd":
		encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(jobs), zstd.WithEncoderCRC(false), zstd.WithWindowSize(2<<20))
		if err != nil {
			return nil, 0, err
		}
		return func(b *block) error {
			b.out = encoder.EncodeAll(b.data, make([]byte, 0, len(b.data)/2))
			return nil
		}, 1, nil
	case "zlib":
		writers := sync.Pool{New: func() any {
			w, err := flate.NewWriterWindow(nil, qcow2DeflateWindow)
			if err != nil { // the window size is within the range of the function
				panic(err)
			}
			return w
		}}
		return func(b *block) error {
			var out bytes.Buffer
			w := writers.Get().(*flate.Writer)
			defer writers.Put(w)
			w.Reset(&out)
			if _, err := w.Write(b.data); err != nil {
				return err
			}
			err := w.Close()
			b.out = out.Bytes()
			return err
		}, 0, nil
	}
	return nil, 0, fmt.Errorf("compression_type=%s: it can be zstd or zlib", kind)
}

// add writes one cluster.
func (q *qcow2) add(b *block) error {
	perTable := q.clusterSize / 8
	table := q.l2[b.index/perTable]
	if table == nil {
		table = make([]uint64, perTable)
		q.l2[b.index/perTable] = table
	}
	if b.out == nil || int64(len(b.out)) >= q.clusterSize-q.clusterSize/16 {
		at := q.allocate(1)
		table[b.index%perTable] = uint64(at) | qcow2Copied
		return q.out.WriteAt(b.data, at)
	}
	at := q.place(int64(len(b.out)))
	// The descriptor counts the sectors of 512 bytes that the data touches after its first one.
	sectors := uint64((at+int64(len(b.out))-1)/512 - at/512)
	shift := 62 - (q.clusterBits - 8)
	table[b.index%perTable] = qcow2Compressed | sectors<<shift | uint64(at)
	return q.out.WriteAt(b.out, at)
}

// allocate takes n host clusters.
func (q *qcow2) allocate(n int64) int64 {
	at := q.next
	for range n {
		q.refs = append(q.refs, 1)
	}
	q.next += n * q.clusterSize
	return at
}

// place takes n bytes, n less than a cluster, for compressed data, which shares clusters with its neighbours.
func (q *qcow2) place(n int64) int64 {
	if q.free < q.limit && q.refs[q.free/q.clusterSize] >= qcow2MaxRefs {
		q.free = q.limit
	}
	if q.free+n > q.limit {
		if q.limit != q.next {
			q.free = q.next // somebody else took the cluster behind
		}
		q.refs = append(q.refs, 0)
		q.next += q.clusterSize
		q.limit = q.next
	}
	at := q.free
	q.free += n
	for c := at / q.clusterSize; c <= (q.free-1)/q.clusterSize; c++ {
		q.refs[c]++
	}
	return at
}

// finish writes the tables and, last, the header.
func (q *qcow2) finish(compression byte) error {
	perTable := q.clusterSize / 8
	clusters := (q.j.size + q.clusterSize - 1) / q.clusterSize
	l1 := make([]byte, (clusters+perTable-1)/perTable*8)
	for i := range int64(len(l1) / 8) {
		table := q.l2[i]
		if table == nil {
			continue
		}
		at := q.allocate(1)
		if err := q.out.WriteAt(bigEndian(table), at); err != nil {
			return err
		}
		binary.BigEndian.PutUint64(l1[i*8:], uint64(at)|qcow2Copied)
	}
	l1At := q.allocate(q.clustersFor(int64(len(l1))))
	if err := q.out.WriteAt(l1, l1At); err != nil {
		return err
	}
	tableAt, tableClusters, err := q.writeRefcounts()
	if err != nil {
		return err
	}
	h := make([]byte, qcow2HeaderLength)
	be := binary.BigEndian
	be.PutUint32(h[0:], qcow2Magic)
	be.PutUint32(h[4:], qcow2Version)
	be.PutUint32(h[20:], uint32(q.clusterBits))
	be.PutUint64(h[24:], uint64(q.j.size))
	be.PutUint32(h[36:], uint32(len(l1)/8))
	be.PutUint64(h[40:], uint64(l1At))
	be.PutUint64(h[48:], uint64(tableAt))
	be.PutUint32(h[56:], uint32(tableClusters))
	if compression != 0 {
		be.PutUint64(h[72:], qcow2BitCompType)
	}
	be.PutUint32(h[96:], qcow2RefcountOrder)
	be.PutUint32(h[100:], qcow2HeaderLength)
	h[104] = compression
	if err := q.out.WriteAt(h, 0); err != nil {
		return err
	}
	if err := q.out.Flush(); err != nil {
		return err
	}
	return q.j.out.Truncate(q.next)
}

func (q *qcow2) clustersFor(bytes int64) int64 { return (bytes + q.clusterSize - 1) / q.clusterSize }

// writeRefcounts writes the blocks of reference counts, which count themselves too, and their table.
func (q *qcow2) writeRefcounts() (tableAt, tableClusters int64, err error) {
	perBlock := q.clusterSize / 2
	blocks := int64(0)
	for {
		total := q.next/q.clusterSize + blocks + tableClusters
		needBlocks := (total + perBlock - 1) / perBlock
		needTable := q.clustersFor(needBlocks * 8)
		if needBlocks == blocks && needTable == tableClusters {
			break
		}
		blocks, tableClusters = needBlocks, needTable
	}
	blocksAt := q.allocate(blocks)
	tableAt = q.allocate(tableClusters)
	counts := make([]byte, blocks*q.clusterSize)
	for i, n := range q.refs {
		binary.BigEndian.PutUint16(counts[2*i:], n)
	}
	if err := q.out.WriteAt(counts, blocksAt); err != nil {
		return 0, 0, err
	}
	table := make([]byte, blocks*8)
	for i := range blocks {
		binary.BigEndian.PutUint64(table[i*8:], uint64(blocksAt+i*q.clusterSize))
	}
	return tableAt, tableClusters, q.out.WriteAt(table, tableAt)
}

func bigEndian(values []uint64) []byte {
	b := make([]byte, 8*len(values))
	for i, v := range values {
		binary.BigEndian.PutUint64(b[8*i:], v)
	}
	return b
}
