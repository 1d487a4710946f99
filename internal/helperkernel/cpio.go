package helperkernel

import (
	"fmt"
	"io"
	"path"
)

// cpioWriter writes an archive in the form "newc" (kernel documentation, driver-api/early-userspace/buffer-format), which the kernel takes
// as its initial RAM disk. Directories above an entry are made as needed.
type cpioWriter struct {
	w     io.Writer
	ino   int
	names map[string]bool
	err   error
}

func newCPIO(w io.Writer) *cpioWriter {
	return &cpioWriter{w: w, names: map[string]bool{".": true, "/": true}}
}

// add writes one entry, unless its name is taken already. mode has the file type as st_mode does.
func (c *cpioWriter) add(name string, mode uint32, data []byte) {
	c.addDevice(name, mode, data, 0, 0)
}

func (c *cpioWriter) addDevice(name string, mode uint32, data []byte, major, minor int) {
	name = path.Clean("/" + name)[1:]
	if name == "" || c.names[name] {
		return
	}
	if dir := path.Dir(name); dir != "." {
		c.add(dir, 0o040755, nil)
	}
	c.names[name] = true
	c.entry(name, mode, data, major, minor)
}

func (c *cpioWriter) entry(name string, mode uint32, data []byte, major, minor int) {
	if c.err != nil {
		return
	}
	c.ino++
	// magic, inode, mode, uid, gid, links, mtime, size, device, number of a device node, length of the name, checksum
	header := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.ino, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name)
	for _, part := range [][]byte{[]byte(header), data} {
		padded := append(part[:len(part):len(part)], make([]byte, -len(part)&3)...)
		if _, err := c.w.Write(padded); err != nil {
			c.err = fmt.Errorf("writing the initial RAM disk: %w", err)
			return
		}
	}
}

// close ends the archive.
func (c *cpioWriter) close() error {
	c.entry("TRAILER!!!", 0, nil, 0, 0)
	return c.err
}
