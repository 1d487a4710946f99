package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/lockeddir"
)

// fileLock is a flock(2) on a file. It is of the open file, so two goroutines of one process exclude each other too.
type fileLock struct{ f *os.File }

func (l *fileLock) unlock() { lockeddir.Unlock(l.f) }

type lockMode int

const (
	shared    lockMode = unix.LOCK_SH
	exclusive lockMode = unix.LOCK_EX
)

// errBusy says that somebody else has the lock.
var errBusy = errors.New("locked by another process")

// tryLock locks the file at name, made if missing, or returns errBusy. A file that was removed or replaced in the meantime is not the lock
// that others see, so it is opened anew.
func (s *Store) tryLock(name string, mode lockMode) (*fileLock, error) {
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), int(mode)|unix.LOCK_NB)
		for err == unix.EINTR {
			err = unix.Flock(int(f.Fd()), int(mode)|unix.LOCK_NB)
		}
		if err != nil {
			f.Close()
			if err == unix.EWOULDBLOCK {
				return nil, errBusy
			}
			return nil, &fs.PathError{Op: "flock", Path: name, Err: err}
		}
		if sameFile(f, name) {
			s.own(f)
			return &fileLock{f}, nil
		}
		f.Close()
	}
}

func sameFile(f *os.File, name string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	theirs, err := os.Stat(name)
	return err == nil && os.SameFile(mine, theirs)
}

// lock waits for the lock until ctx ends. flock(2) itself can't be told to stop waiting, hence the trying.
func (s *Store) lock(ctx context.Context, name string, mode lockMode, what string) (*fileLock, error) {
	const (
		first = time.Millisecond
		most  = 50 * time.Millisecond
		tell  = time.Second
	)
	start := time.Now()
	told := false
	for wait := first; ; wait = min(2*wait, most) {
		l, err := s.tryLock(name, mode)
		if err == nil {
			return l, nil
		}
		if err != errBusy {
			return nil, fmt.Errorf("locking %s: %w", what, err)
		}
		if !told && time.Since(start) > tell {
			told = true
			s.progress.Note("waiting for another imgbuild that works on " + what)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for another imgbuild that works on %s: %w", what, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// lockStore takes the lock of the whole store, for moments only. Whoever needs a name's lock too takes that first.
func (s *Store) lockStore(ctx context.Context, mode lockMode) (*fileLock, error) {
	return s.lock(ctx, s.path("lock"), mode, "the store "+s.dir)
}

// lockName takes the exclusive lock of one name, for as long as a new container of that name is made.
func (s *Store) lockName(ctx context.Context, name string) (*fileLock, error) {
	sum := sha256.Sum256([]byte(name))
	return s.lock(ctx, s.path("names", hex.EncodeToString(sum[:16])), exclusive, name)
}

// owner is whose the store's files are: they follow its directory, so that root can work in a user's store without locking the user out.
type owner struct{ uid, gid int }

// own gives a new file or directory to the store's owner. Only root can, and only root must.
func (s *Store) own(f *os.File) {
	if s.owner == nil || os.Geteuid() != 0 || s.owner.uid == 0 && s.owner.gid == 0 {
		return
	}
	if err := f.Chown(s.owner.uid, s.owner.gid); err != nil {
		s.log.Warn("giving a file to the owner of the store", "file", f.Name(), "error", err)
	}
}

// lockTemp makes a new file in the directory for temporary ones and locks it, so that only those of dead processes are ever cleaned up.
func (s *Store) newTemp() (*os.File, error) {
	for {
		f, err := os.CreateTemp(s.path("tmp"), "")
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && sameFile(f, f.Name()) {
			s.own(f)
			if err := f.Chmod(0o644); err != nil {
				f.Close()
				os.Remove(f.Name())
				return nil, err
			}
			return f, nil
		}
		// A cleaner came in between: the file is gone or about to go.
		f.Close()
		if err != nil && err != unix.EWOULDBLOCK && err != unix.EINTR {
			os.Remove(f.Name())
			return nil, &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// removeStale removes the files of a directory that no living process has locked, and returns how many bytes they had.
func (s *Store) removeStale(dir string, stale func(os.FileInfo) bool) int64 {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	var sum int64
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || stale != nil && !stale(info) {
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && sameFile(f, name) && os.Remove(name) == nil {
			sum += info.Size()
		}
		f.Close()
	}
	return sum
}
