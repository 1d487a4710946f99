package layers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// foundEntry is one entry of a tar with all its extension headers applied.
type foundEntry struct {
	name, link   string
	typ          byte
	mode         uint32
	uid, gid     int64
	size         int64 // bytes of data in the tar, without padding and without a sparse map
	realSize     int64 // length of the file, holes included
	mtime        Timespec
	major, minor int64
	xattrs       []Xattr
	data         []Extent // of a sparse file, else nil
	dataMap      *string  // the value of a paxDataMap record, nil without one
	dense        bool     // the holes of a sparse file are in the tar as zeros, or so it says: see tarReader.checkHoles
	offset       int64    // in the tar, of the first data byte

	gnuMore     bool  // of the old GNU sparse form: the map goes on after the header
	gnuRealSize int64 // of that form: length of the file
}

// tarReader reads the headers of a tar: POSIX.1-1988 ustar, POSIX.1-2001 pax (both in POSIX.1-2017, XCU pax), GNU (tar.info, "Basic Tar Format") and
// pre-POSIX. Unlike archive/tar it tells where data lies and which parts of a sparse file are holes.
type tarReader struct {
	in      *stream
	next    int64             // offset of the next header
	dataEnd int64             // offset behind the data of the last entry
	check   func(int64) error // asked with each header's offset whether the tar may be so long
	limits  tarLimits
}

// tarLimits bounds what a tar may ask of this machine.
type tarLimits struct {
	fileSize int64 // of one file, holes included
	header   int64 // of one extension header
	extents  int   // of one sparse file
}

// errFormat is a defect of the tar itself.
type errFormat string

func (e errFormat) Error() string { return string(e) }

// errHostile is something that only a tar made to harm has.
type errHostile string

func (e errHostile) Error() string { return string(e) }

// Next returns the next entry, or io.EOF after the last.
func (t *tarReader) Next() (*foundEntry, error) {
	var pax map[string]string
	var longName, longLink string
	for {
		raw, err := t.readHeader()
		if err != nil {
			if err == io.EOF && (pax != nil || longName != "" || longLink != "") {
				return nil, errFormat("it ends after an extension header")
			}
			return nil, err
		}
		switch raw.typ {
		case 'x', 'X':
			text, err := t.readExtension(raw)
			if err != nil {
				return nil, err
			}
			if pax, err = parsePAX(text); err != nil {
				return nil, err
			}
		case 'g': // records for all entries that follow; no OCI tool heeds them
			if _, err := t.readExtension(raw); err != nil {
				return nil, err
			}
		case 'L', 'K':
			text, err := t.readExtension(raw)
			if err != nil {
				return nil, err
			}
			text, _, _ = strings.Cut(text, "\x00")
			if raw.typ == 'L' {
				longName = text
			} else {
				longLink = text
			}
		case 'V': // the name of the whole archive
			if raw.size < 0 || raw.size > t.limits.header {
				return nil, errHostile(fmt.Sprintf("its label says it has %d bytes", raw.size))
			}
			t.next += padded(raw.size)
		default:
			sparse, err := applyPAX(raw, pax)
			if longName != "" {
				raw.name = longName
			}
			if longLink != "" {
				raw.link = longLink
			}
			if err != nil {
				return raw, err
			}
			return raw, t.complete(raw, sparse)
		}
	}
}

// complete reads the sparse map of an entry, if it has one, and finds where its data and the next header are.
func (t *tarReader) complete(h *foundEntry, sparse *paxSparse) error {
	switch h.typ {
	case '0', 0, '7', 'S':
		if h.typ == 0 && strings.HasSuffix(h.name, "/") {
			h.typ = '5' // as before POSIX
		}
	case '1', '2', '3', '4', '5', '6':
		h.size = 0
	}
	if h.size < 0 || h.size > t.limits.fileSize {
		return errHostile(fmt.Sprintf("it says it has %d bytes", h.size))
	}
	h.offset = t.in.pos
	t.next = h.offset + padded(h.size)
	h.realSize = h.size
	if h.typ == 'S' || sparse != nil {
		if err := t.readSparse(h, sparse); err != nil {
			return err
		}
	}
	switch h.typ {
	case 0, '7', 'S':
		h.typ = '0'
	}
	t.dataEnd = h.offset + h.size
	if h.dataMap != nil && h.typ == '0' && sparse == nil {
		if err := t.readDataMap(h); err != nil {
			return err
		}
	}
	if h.realSize < 0 || h.realSize > t.limits.fileSize {
		return errHostile(fmt.Sprintf("it says it is %d bytes long", h.realSize))
	}
	return nil
}

func padded(size int64) int64 { return (size + tarBlock - 1) &^ (tarBlock - 1) }

// readHeader reads the block of one header. At the end, two blocks of zeros or nothing at all, the error is io.EOF.
func (t *tarReader) readHeader() (*foundEntry, error) {
	var b [tarBlock]byte
	if err := t.check(t.next); err != nil {
		return nil, err
	}
	t.in.seek(t.next)
	zeros := 0
	for {
		if err := t.in.readFull(b[:]); err != nil {
			if err == io.ErrUnexpectedEOF {
				return nil, errFormat("it breaks off in a header")
			}
			if err == io.EOF && t.in.end < t.dataEnd {
				return nil, errFormat("it breaks off in the data of its last entry")
			}
			return nil, err
		}
		t.next = t.in.pos
		if b != [tarBlock]byte{} {
			break
		}
		if zeros++; zeros == 2 {
			return nil, io.EOF
		}
	}
	return parseHeader(&b)
}

// parseHeader reads the fields of a header block at their offsets in POSIX.1-1988: name 0 mode 100 uid 108 gid 116 size 124 mtime 136 chksum 148
// typeflag 156 linkname 157 magic 257 devmajor 329 devminor 337 prefix 345.
func parseHeader(b *[tarBlock]byte) (*foundEntry, error) {
	var p fieldParser
	sum := p.number(b[148:156])
	unsigned, signed := checksums(b)
	if p.err != nil || sum != unsigned && sum != signed {
		return nil, errFormat("it is not a tar, or damaged: the checksum of a header is wrong")
	}
	h := &foundEntry{
		name: p.text(b[0:100]), link: p.text(b[157:257]), typ: b[156],
		mode: uint32(p.number(b[100:108])) & PermMask,
		uid:  p.number(b[108:116]), gid: p.number(b[116:124]),
		size:  p.number(b[124:136]),
		mtime: Timespec{Sec: p.number(b[136:148])},
	}
	magic := string(b[257:265])
	posix := magic[:6] == "ustar\x00"
	if posix || magic == "ustar  \x00" {
		if h.typ == '3' || h.typ == '4' {
			h.major, h.minor = p.number(b[329:337]), p.number(b[337:345])
		}
	}
	if posix {
		prefix := b[345:500]
		if string(b[508:512]) == "tar\x00" { // Schilling's star keeps times in the last 24 bytes
			prefix = b[345:476]
		}
		if dir := p.text(prefix); dir != "" {
			h.name = dir + "/" + h.name
		}
	}
	if h.typ == 'S' { // GNU's own: map at 386, a mark that more of it follows at 482, real size at 483
		h.data, h.gnuMore, h.gnuRealSize = gnuExtents(&p, b[386:482]), b[482] != 0, p.number(b[483:495])
	}
	if p.err != nil {
		return nil, errFormat("a header has a field that is not a number")
	}
	return h, nil
}

// checksums returns the sum of all bytes, with blanks for the sum itself. Some old programs added up signed bytes.
func checksums(b *[tarBlock]byte) (unsigned, signed int64) {
	for i, c := range b {
		if i >= 148 && i < 156 {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	return unsigned, signed
}

// fieldParser reads the fields of a header and remembers whether one was wrong.
type fieldParser struct{ err error }

// text reads bytes up to a NUL.
func (p *fieldParser) text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// number reads octal digits, or, with the first bit set, GNU's big-endian two's complement number.
func (p *fieldParser) number(b []byte) int64 {
	if b[0]&0x80 != 0 {
		return p.binary(b)
	}
	text := strings.Trim(p.text(b), " ")
	var n int64
	for _, c := range []byte(text) {
		if c < '0' || c > '7' || n > math.MaxInt64>>3 {
			p.err = errors.New("not an octal number")
			return 0
		}
		n = n<<3 | int64(c-'0')
	}
	return n
}

func (p *fieldParser) binary(b []byte) int64 {
	negative := b[0]&0x40 != 0
	var n int64
	for i, c := range b {
		if negative {
			c = ^c
		}
		if i == 0 {
			c &= 0x3f
		}
		if n > math.MaxInt64>>8 {
			p.err = errors.New("number out of range")
			return 0
		}
		n = n<<8 | int64(c)
	}
	if negative {
		return ^n
	}
	return n
}

// readExtension returns the data of an extension header.
func (t *tarReader) readExtension(h *foundEntry) (string, error) {
	if h.size < 0 || h.size > t.limits.header {
		return "", errHostile(fmt.Sprintf("an extension header says it has %d bytes", h.size))
	}
	text := make([]byte, h.size)
	if err := t.in.readFull(text); err != nil {
		return "", breaksOff(err, "in an extension header")
	}
	t.next = t.next + padded(h.size)
	return string(text), nil
}

// breaksOff says where a tar ended too early; other errors stay as they are.
func breaksOff(err error, where string) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errFormat("it breaks off " + where)
	}
	return err
}
