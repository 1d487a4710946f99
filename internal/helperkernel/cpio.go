package helperkernel

import (
	"fmt"
	"io"
	"path"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/cpio"
)

// initrdWriter writes an initial RAM disk. Directories above an entry are made as needed.
type initrdWriter struct {
	w     *cpio.Writer
	ino   uint32
	names map[string]bool
	err   error
}

func newInitrd(w io.Writer) *initrdWriter {
	return &initrdWriter{w: cpio.NewWriter(w), names: map[string]bool{".": true, "/": true}}
}

// add writes one entry, unless its name is taken already. mode has the file type as st_mode does.
func (c *initrdWriter) add(name string, mode uint32, data []byte) {
	c.addDevice(name, mode, data, 0, 0)
}

func (c *initrdWriter) addDevice(name string, mode uint32, data []byte, major, minor uint32) {
	name = path.Clean("/" + name)[1:]
	if name == "" || c.names[name] {
		return
	}
	if dir := path.Dir(name); dir != "." {
		c.add(dir, unix.S_IFDIR|0o755, nil)
	}
	c.names[name] = true
	if c.err != nil {
		return
	}
	c.ino++
	if c.err = c.w.WriteHeader(cpio.Header{Name: name, Ino: c.ino, Mode: mode, Size: int64(len(data)), Major: major, Minor: minor}); c.err == nil {
		_, c.err = c.w.Write(data)
	}
}

// close ends the archive.
func (c *initrdWriter) close() error {
	if c.err == nil {
		c.err = c.w.Close()
	}
	if c.err != nil {
		return fmt.Errorf("writing the initial RAM disk: %w", c.err)
	}
	return nil
}
