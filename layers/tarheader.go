package layers

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The tar format is ustar with extended headers where a value does not fit (POSIX.1-2018, pax, "pax Interchange Format"): blocks of
// 512 bytes, numbers as octal text.
const tarBlock = 512

// Type flags of a header block.
const (
	tarRegular  = '0'
	tarLink     = '1'
	tarSymlink  = '2'
	tarChar     = '3'
	tarBlockDev = '4'
	tarDir      = '5'
	tarFIFO     = '6'
	tarExtended = 'x'
)

// Fields of a header block: offset and length in bytes.
const (
	tarNameLen   = 100
	tarPrefixLen = 155

	tarModeAt     = 100
	tarUIDAt      = 108
	tarGIDAt      = 116
	tarSizeAt     = 124
	tarMTimeAt    = 136
	tarChecksumAt = 148
	tarFlagAt     = 156
	tarLinkAt     = 157
	tarMagicAt    = 257
	tarMajorAt    = 329
	tarMinorAt    = 337
	tarPrefixAt   = 345

	tarMax7  = 1<<21 - 1 // largest number of seven octal digits
	tarMax11 = 1<<33 - 1 // and of eleven
)

// Keywords of extended headers that are not in POSIX.
const (
	paxDataMap = "IMGBUILD.data" // where a file that is written with its holes as zeros holds data: offset,length,offset,length...
)

// maxDataMap bounds the length of a [paxDataMap] record, because Go's archive/tar refuses extended headers of more than 1 MiB.
const maxDataMap = 256 << 10

// tarEntry is one entry of a tar stream as it is written.
type tarEntry struct {
	name         string // with a slash at the end if it is a directory
	flag         byte
	mode         uint32 // permission bits
	uid, gid     uint32
	size         int64 // of what follows the header, in bytes
	mtime        Timespec
	link         string
	major, minor uint32
	xattrs       []Xattr
	records      []string // further extended records: keyword, value, keyword, value...
}

// tarEntryOf fills in what a node says about itself.
func tarEntryOf(name string, n *Node) (tarEntry, error) {
	h := tarEntry{name: name, mode: n.Perm(), uid: n.UID, gid: n.GID, mtime: n.MTime, xattrs: n.Xattrs}
	switch n.Type() {
	case TypeRegular:
		h.flag = tarRegular
	case TypeDir:
		h.flag = tarDir
		h.name += "/"
	case TypeSymlink:
		h.flag, h.link = tarSymlink, n.Target
	case TypeFIFO:
		h.flag = tarFIFO
	case TypeChar:
		h.flag, h.major, h.minor = tarChar, n.Major, n.Minor
	case TypeBlock:
		h.flag, h.major, h.minor = tarBlockDev, n.Major, n.Minor
	default:
		return h, fmt.Errorf("%q is a %s, which a tar can't hold", name, TypeName(n.Mode))
	}
	return h, nil
}

// tarHeaders writes header blocks. It keeps its memory from one to the next.
type tarHeaders struct {
	block [tarBlock]byte
	pax   []byte
}

// write writes the header block of h, after an extended header if it needs one, and returns how many bytes that were.
func (t *tarHeaders) write(w io.Writer, h *tarEntry) (int64, error) {
	t.pax = t.pax[:0]
	t.fill(h)
	block := t.block
	var written int64
	if len(t.pax) > 0 {
		t.fillExtended(h.name)
		for _, part := range [][]byte{t.block[:], t.pax, make([]byte, padding(int64(len(t.pax))))} {
			if _, err := w.Write(part); err != nil {
				return written, err
			}
			written += int64(len(part))
		}
	}
	_, err := w.Write(block[:])
	return written + tarBlock, err
}

// padding returns how many bytes fill the last block of size bytes.
func padding(size int64) int64 { return -size & (tarBlock - 1) }

// fill makes the header block of h and collects what does not fit into it in t.pax.
func (t *tarHeaders) fill(h *tarEntry) {
	t.block = [tarBlock]byte{}
	binary := false
	if !t.putName(h.name) {
		t.record("path", h.name)
		binary = !utf8.ValidString(h.name)
	}
	if len(h.link) > tarNameLen {
		t.record("linkpath", h.link)
		binary = binary || !utf8.ValidString(h.link)
	}
	copy(t.block[tarLinkAt:tarLinkAt+tarNameLen], h.link)
	t.octal(tarModeAt, 7, int64(h.mode))
	t.number("uid", tarUIDAt, 7, int64(h.uid), tarMax7)
	t.number("gid", tarGIDAt, 7, int64(h.gid), tarMax7)
	t.number("size", tarSizeAt, 11, h.size, tarMax11)
	t.number("SCHILY.devmajor", tarMajorAt, 7, int64(h.major), tarMax7)
	t.number("SCHILY.devminor", tarMinorAt, 7, int64(h.minor), tarMax7)
	if h.mtime.Nsec != 0 || h.mtime.Sec < 0 || h.mtime.Sec > tarMax11 {
		t.record("mtime", paxTime(h.mtime))
	}
	t.octal(tarMTimeAt, 11, min(max(h.mtime.Sec, 0), tarMax11))
	for _, x := range h.xattrs {
		t.record(xattrPrefix+xattrKeyword(x.Name), x.Value)
	}
	for i := 0; i < len(h.records); i += 2 {
		t.record(h.records[i], h.records[i+1])
		binary = binary || !utf8.ValidString(h.records[i+1])
	}
	if binary {
		// Says that names in this header are bytes, not UTF-8; it must come before them.
		t.pax = append([]byte("21 hdrcharset=BINARY\n"), t.pax...)
	}
	t.seal(h.flag)
}

// putName writes the name into the block, where it may be split at a slash.
func (t *tarHeaders) putName(name string) bool {
	if len(name) <= tarNameLen {
		copy(t.block[:], name)
		return true
	}
	if len(name) <= tarPrefixLen+1+tarNameLen {
		from := len(name) - tarNameLen - 1 // the first slash that leaves a short enough rest
		if i := strings.IndexByte(name[from:len(name)-1], '/'); i >= 0 && from+i <= tarPrefixLen && from+i > 0 {
			copy(t.block[tarPrefixAt:], name[:from+i])
			copy(t.block[:], name[from+i+1:])
			return true
		}
	}
	copy(t.block[:tarNameLen], name)
	return false
}

func (t *tarHeaders) octal(at, digits int, n int64) {
	for i := at + digits - 1; i >= at; i-- {
		t.block[i] = '0' + byte(n&7)
		n >>= 3
	}
}

func (t *tarHeaders) number(key string, at, digits int, n, limit int64) {
	if n > limit {
		t.record(key, strconv.FormatInt(n, 10))
		n = 0
	}
	t.octal(at, digits, n)
}

// seal adds the type flag, the magic and the checksum: the sum of all bytes with the checksum's own as blanks.
func (t *tarHeaders) seal(flag byte) {
	t.block[tarFlagAt] = flag
	copy(t.block[tarMagicAt:], "ustar\x0000")
	copy(t.block[tarChecksumAt:], "        ")
	var sum int64
	for _, c := range t.block {
		sum += int64(c)
	}
	t.octal(tarChecksumAt, 6, sum)
	t.block[tarChecksumAt+6] = 0
}

// record appends "LENGTH KEY=VALUE\n", where the length counts its own digits.
func (t *tarHeaders) record(key, value string) {
	size := len(key) + len(value) + 3
	total := size + len(strconv.Itoa(size))
	if len(strconv.Itoa(total)) > len(strconv.Itoa(size)) {
		total++
	}
	t.pax = strconv.AppendInt(t.pax, int64(total), 10)
	t.pax = append(t.pax, ' ')
	t.pax = append(t.pax, key...)
	t.pax = append(t.pax, '=')
	t.pax = append(t.pax, value...)
	t.pax = append(t.pax, '\n')
}

// fillExtended makes the block in front of the extended records. Its name is for readers that do not know them.
func (t *tarHeaders) fillExtended(name string) {
	t.block = [tarBlock]byte{}
	dir, base := "", strings.TrimSuffix(name, "/")
	if i := strings.LastIndexByte(base, '/'); i >= 0 {
		dir, base = base[:i+1], base[i+1:]
	}
	copy(t.block[:tarNameLen], dir+"PaxHeaders.0/"+base)
	t.octal(tarModeAt, 7, 0o644)
	t.octal(tarUIDAt, 7, 0)
	t.octal(tarGIDAt, 7, 0)
	t.octal(tarSizeAt, 11, int64(len(t.pax)))
	t.octal(tarMTimeAt, 11, 0)
	t.seal(tarExtended)
}

// paxTime writes a time as decimal seconds.
func paxTime(t Timespec) string {
	if t.Nsec == 0 {
		return strconv.FormatInt(t.Sec, 10)
	}
	sign, sec, nsec := "", t.Sec, int64(t.Nsec)
	if sec < 0 {
		// The fraction counts away from zero in text and forward in a Timespec.
		sign, sec, nsec = "-", -sec-1, 1e9-nsec
	}
	return strings.TrimRight(fmt.Sprintf("%s%d.%09d", sign, sec, nsec), "0")
}

// xattrKeyword writes an attribute's name the way GNU tar does, which knows two escapes, so that it can hold a "=".
func xattrKeyword(name string) string {
	if !strings.Contains(name, "=") && !strings.Contains(name, "%3D") && !strings.Contains(name, "%25") {
		return name
	}
	return strings.NewReplacer("%", "%25", "=", "%3D").Replace(name)
}

// dataMap is the value of a [paxDataMap] record. Neighbours are joined until it is short enough; what lies between them is then data that
// happens to be zero.
func dataMap(extents []Extent) (string, []Extent) {
	for {
		var text []byte
		for i, e := range extents {
			if i > 0 {
				text = append(text, ',')
			}
			text = strconv.AppendInt(text, e.Offset, 10)
			text = append(text, ',')
			text = strconv.AppendInt(text, e.Length, 10)
		}
		if len(text) <= maxDataMap {
			return string(text), extents
		}
		joined := make([]Extent, 0, (len(extents)+1)/2)
		for i := 0; i < len(extents); i += 2 {
			last := extents[min(i+1, len(extents)-1)]
			joined = append(joined, Extent{extents[i].Offset, last.Offset + last.Length - extents[i].Offset})
		}
		extents = joined
	}
}
