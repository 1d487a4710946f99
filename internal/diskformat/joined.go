package diskformat

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// joinedWriter makes few large writes of many small ones that follow each other.
type joinedWriter struct {
	w      io.WriterAt
	buffer []byte
	at     int64
}

// joinedSize is how much is written at once.
const joinedSize = 1 << 20

// WriteAt keeps data, which it copies, until enough has come together.
func (j *joinedWriter) WriteAt(data []byte, at int64) error {
	if at != j.at+int64(len(j.buffer)) || len(j.buffer)+len(data) > joinedSize {
		if err := j.Flush(); err != nil {
			return err
		}
		j.at = at
	}
	if len(data) >= joinedSize {
		_, err := j.w.WriteAt(data, at)
		j.at = at + int64(len(data))
		return err
	}
	j.buffer = append(j.buffer, data...)
	return nil
}

// Flush writes what is kept.
func (j *joinedWriter) Flush() error {
	if len(j.buffer) == 0 {
		return nil
	}
	_, err := j.w.WriteAt(j.buffer, j.at)
	j.at += int64(len(j.buffer))
	j.buffer = j.buffer[:0]
	return err
}

// eagerFile asks the kernel to bring what is written to the disk while more is being made, so that little is left to do when the file is
// synced at the end.
type eagerFile struct {
	*os.File
	pending int64 // bytes written since the kernel was asked
}

// eagerSize is after how many bytes the kernel is asked.
const eagerSize = 8 << 20

// WriteAt implements io.WriterAt.
func (f *eagerFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(p, at)
	if f.pending += int64(n); err == nil && f.pending >= eagerSize {
		f.pending = 0
		// A file system that can't do it writes everything when the file is synced.
		_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	}
	return n, err
}
