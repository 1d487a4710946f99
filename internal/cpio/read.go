package cpio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Bounds of what is read from a stranger.
const (
	maxNameRead    = 4096 // bytes, PATH_MAX of Linux with its zero byte
	maxEntriesRead = 2_000_000
)

// Entry is what [Read] finds.
type Entry struct {
	Header
	Offset int64 // where the content lies, Header.Size bytes
}

// ErrFormat says that bytes are no archive in the form newc, or a damaged one.
var ErrFormat = errors.New("it is no cpio archive in the form newc, or a damaged one")

// Read lists the archive of the given size in bytes that r holds, and those that follow it with nothing but zeros between, as initial RAM disks have them. It
// returns where it stopped: at the end or before something else, such as a compressed archive.
func Read(r io.ReaderAt, size int64) (entries []Entry, end int64, err error) {
	for at := int64(0); ; {
		e, next, err := readEntry(r, at, size)
		if err != nil {
			return nil, 0, err
		}
		at = next
		if e.Name != trailer {
			if len(entries) == maxEntriesRead {
				return nil, 0, fmt.Errorf("%w: it has more than %d entries", ErrFormat, maxEntriesRead)
			}
			entries = append(entries, e)
			continue
		}
		if at, err = skipZeros(r, at, size); err != nil {
			return nil, 0, err
		}
		var magic [5]byte
		if n, _ := r.ReadAt(magic[:], at); n < len(magic) || string(magic[:]) != "07070" {
			return entries, at, nil
		}
	}
}

// fieldCount is how many numbers of eight hexadecimal digits follow the magic number.
const fieldCount = 13

func readEntry(r io.ReaderAt, at, size int64) (e Entry, next int64, err error) {
	raw := make([]byte, headerSize)
	if _, err := r.ReadAt(raw, at); err != nil {
		return e, 0, fmt.Errorf("%w: it breaks off", ErrFormat)
	}
	if magic := string(raw[:6]); magic != "070701" && magic != "070702" {
		return e, 0, ErrFormat
	}
	var field [fieldCount]uint32
	for i := range field {
		v, err := strconv.ParseUint(string(raw[6+8*i:][:8]), 16, 32)
		if err != nil {
			return e, 0, fmt.Errorf("%w: %q is no number", ErrFormat, raw[6+8*i:][:8])
		}
		field[i] = uint32(v)
	}
	length := int64(field[11])
	if length == 0 || length > maxNameRead {
		return e, 0, fmt.Errorf("%w: a name of it has %d bytes", ErrFormat, length)
	}
	name := make([]byte, length)
	if _, err := r.ReadAt(name, at+headerSize); err != nil {
		return e, 0, fmt.Errorf("%w: it breaks off", ErrFormat)
	}
	name, _, _ = bytes.Cut(name, []byte{0})
	e = Entry{Header: Header{
		Name: string(name), Ino: field[0], Mode: field[1], UID: field[2], GID: field[3], Links: field[4], MTime: int64(field[5]), Size: int64(field[6]),
		Major: field[9], Minor: field[10],
	}, Offset: pad(at + headerSize + length)}
	next = min(pad(e.Offset+e.Size), size) // the last padding may be missing
	if e.Offset+e.Size > size {
		return e, 0, fmt.Errorf("%w: it breaks off in %s", ErrFormat, e.Name)
	}
	return e, next, nil
}

// pad rounds up to the 4 bytes that everything is aligned to.
func pad(n int64) int64 { return (n + 3) &^ 3 }

func skipZeros(r io.ReaderAt, at, size int64) (int64, error) {
	buffer := make([]byte, 4096)
	for at < size {
		n, err := r.ReadAt(buffer[:min(int64(len(buffer)), size-at)], at)
		if err != nil && err != io.EOF {
			return 0, fmt.Errorf("reading a cpio archive: %w", err)
		}
		rest := bytes.TrimLeft(buffer[:n], "\x00")
		at += int64(n - len(rest))
		if len(rest) > 0 || n == 0 {
			break
		}
	}
	return at, nil
}
