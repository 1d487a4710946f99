package diskformat

import "io"

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
