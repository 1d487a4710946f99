package rpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// The tags of a header that are read here (rpm's lib/rpmtag.h).
const (
	tagName          = 1000
	tagVersion       = 1001
	tagRelease       = 1002
	tagEpoch         = 1003
	tagSize          = 1009
	tagVendor        = 1011
	tagLicense       = 1014
	tagArch          = 1022
	tagFileSizes     = 1028
	tagFileStates    = 1029
	tagFileModes     = 1030
	tagFileRDevs     = 1033
	tagFileMTimes    = 1034
	tagFileDigests   = 1035
	tagFileLinkTos   = 1036
	tagFileFlags     = 1037
	tagFileUser      = 1039
	tagFileGroup     = 1040
	tagSourceRPM     = 1044
	tagFileVerify    = 1045
	tagProvideName   = 1047
	tagChangelogTime = 1080
	tagChangelogName = 1081
	tagChangelogText = 1082
	tagDirIndexes    = 1116
	tagBaseNames     = 1117
	tagDirNames      = 1118
	tagDistURL       = 1123
	tagLongFileSizes = 5008
	tagLongSize      = 5009
	tagFileCaps      = 5010
	tagFileDigestAlg = 5011
)

// The types of a tag's data (rpm's lib/rpmtag.h, rpmTagType).
const (
	typeInt16       = 3
	typeInt32       = 4
	typeInt64       = 5
	typeString      = 6
	typeStringArray = 8
	typeI18NString  = 9
)

// The bounds that rpm itself sets on a header (lib/header.c): entries of the index, and bytes of the data.
const (
	maxEntries = 0xffff
	maxData    = 0x0fffffff
)

// entrySize is the length of an index entry: tag, type, offset and count, 32 bits each, big-endian.
const entrySize = 16

// header is the metadata of one package as it is in the database: an index, sorted or not, and the data that it points into (rpm's
// docs/manual/hregions.md and format_header.md).
type header struct {
	entries map[uint32]headerEntry
	data    []byte
}

type headerEntry struct {
	kind, offset, count uint32
}

var errHeader = errors.New("the header of a package is damaged")

// parseHeader reads a header without the magic that it has in package files.
func parseHeader(blob []byte) (header, error) {
	if len(blob) < 8 {
		return header{}, fmt.Errorf("%w: it has %d bytes", errHeader, len(blob))
	}
	entries, size := binary.BigEndian.Uint32(blob), binary.BigEndian.Uint32(blob[4:])
	if entries > maxEntries || size > maxData || int64(len(blob)) < 8+int64(entries)*entrySize+int64(size) {
		return header{}, fmt.Errorf("%w: it tells of %d entries and %d bytes in %d bytes", errHeader, entries, size, len(blob))
	}
	index := blob[8 : 8+entries*entrySize]
	h := header{entries: make(map[uint32]headerEntry, entries), data: blob[8+entries*entrySize:][:size]}
	for ; len(index) > 0; index = index[entrySize:] {
		e := headerEntry{binary.BigEndian.Uint32(index[4:]), binary.BigEndian.Uint32(index[8:]), binary.BigEndian.Uint32(index[12:])}
		if e.offset <= size {
			h.entries[binary.BigEndian.Uint32(index)] = e
		}
	}
	return h, nil
}

// texts returns the strings of a tag, none if it is missing. What is cut short is left out.
func (h header) texts(tag uint32) []string {
	e := h.entries[tag]
	switch e.kind {
	case typeString, typeStringArray, typeI18NString:
	default:
		return nil
	}
	rest := h.data[e.offset:]
	list := make([]string, 0, min(int(e.count), len(rest)))
	for range e.count {
		end := bytes.IndexByte(rest, 0)
		if end < 0 {
			break
		}
		list = append(list, string(rest[:end]))
		rest = rest[end+1:]
	}
	return list
}

// text returns the first string of a tag, "" if it is missing. Of a text in several languages that is the untranslated one.
func (h header) text(tag uint32) string {
	list := h.texts(tag)
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// numbers returns the integers of a tag, none if it is missing. What is cut short is left out.
func (h header) numbers(tag uint32) []uint64 {
	e := h.entries[tag]
	var width int
	switch e.kind {
	case typeInt16:
		width = 2
	case typeInt32:
		width = 4
	case typeInt64:
		width = 8
	default:
		return nil
	}
	rest := h.data[e.offset:]
	list := make([]uint64, 0, min(int(e.count), len(rest)/width))
	for range min(int(e.count), len(rest)/width) {
		var n uint64
		for _, b := range rest[:width] {
			n = n<<8 | uint64(b)
		}
		list = append(list, n)
		rest = rest[width:]
	}
	return list
}

// number returns the first integer of a tag, and whether it is there.
func (h header) number(tag uint32) (uint64, bool) {
	list := h.numbers(tag)
	if len(list) == 0 {
		return 0, false
	}
	return list[0], true
}

// bytes returns the single bytes of a tag, as file states are kept.
func (h header) bytes(tag uint32) []byte {
	e, ok := h.entries[tag]
	if !ok {
		return nil
	}
	rest := h.data[e.offset:]
	return rest[:min(int(e.count), len(rest))]
}
