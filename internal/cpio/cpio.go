// Package cpio writes and reads archives in the form "newc", which the kernel takes as its initial RAM disk (kernel documentation,
// driver-api/early-userspace/buffer-format).
package cpio

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// Header is one entry.
type Header struct {
	Name         string // without a leading slash
	Ino          uint32 // entries with the same number are hard links of each other; only the last of them has content
	Mode         uint32 // file type and permission bits as in st_mode
	UID, GID     uint32
	Links        uint32 // how many names the entry has in all; 0 is 1
	MTime        int64  // seconds since 1970; what is outside of 32 bits becomes the nearest that is not
	Size         int64  // bytes of content that follow; at most 4 GiB - 1
	Major, Minor uint32 // of a device node
}

// Writer writes an archive.
type Writer struct {
	w    io.Writer
	left int64 // of the entry's content
	pad  int   // after it
	err  error
}

// NewWriter returns a writer to w, which should be buffered.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// align is what every header and every content is padded to, in bytes.
const align = 4

// WriteHeader begins an entry. Exactly h.Size bytes of content are to be written after it.
func (w *Writer) WriteHeader(h Header) error {
	if err := w.finish(); err != nil {
		return err
	}
	if h.Size > math.MaxUint32 {
		return fmt.Errorf("writing %s: a cpio archive holds no file of more than 4 GiB - 1, and it has %d bytes", h.Name, h.Size)
	}
	if strings.ContainsRune(h.Name, 0) || h.Name == "" {
		return fmt.Errorf("writing a cpio archive: %q is no name", h.Name)
	}
	// magic, inode, mode, uid, gid, links, mtime, size, device that it lies on, device node, length of the name with its NUL, checksum
	_, err := fmt.Fprintf(w.w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00%s",
		h.Ino, h.Mode, h.UID, h.GID, max(h.Links, 1), min(max(h.MTime, 0), math.MaxUint32), h.Size, 0, 0, h.Major, h.Minor, len(h.Name)+1, 0, h.Name,
		"\x00\x00\x00"[:padding(int64(headerSize+len(h.Name)+1))])
	w.left, w.pad = h.Size, padding(h.Size)
	return w.keep(err)
}

// headerSize is the length of a header before the name, in bytes.
const headerSize = 6 + 13*8

func padding(n int64) int { return int(-n & (align - 1)) }

// Write writes content of the entry.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if int64(len(p)) > w.left {
		return 0, w.keep(fmt.Errorf("writing a cpio archive: more content than the header says"))
	}
	n, err := w.w.Write(p)
	w.left -= int64(n)
	return n, w.keep(err)
}

// trailer is the name of the entry that ends an archive.
const trailer = "TRAILER!!!"

// Close writes the end of the archive.
func (w *Writer) Close() error {
	if err := w.WriteHeader(Header{Name: trailer}); err != nil {
		return err
	}
	return w.finish()
}

// finish ends an entry.
func (w *Writer) finish() error {
	if w.err == nil && w.left > 0 {
		w.err = fmt.Errorf("writing a cpio archive: %d bytes of content are missing", w.left)
	}
	if w.err != nil || w.pad == 0 {
		return w.err
	}
	_, err := w.w.Write(make([]byte, w.pad))
	w.pad = 0
	return w.keep(err)
}

func (w *Writer) keep(err error) error {
	if w.err == nil {
		w.err = err
	}
	return w.err
}
