package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// lease is the file in which this process says what it relies on. It is locked as long as the process lives.
type lease struct {
	f    *os.File
	held map[digest.Digest]bool
}

func (l *lease) close() error {
	os.Remove(l.f.Name())
	return l.f.Close()
}

// hold records that this process relies on blobs. The caller holds the store's lock, shared at least, from before it looks whether the blobs
// are there, so that Prune sees the record or removes the blob before the look.
func (s *Store) hold(digests ...digest.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil {
		f, err := os.CreateTemp(s.path("leases"), "")
		if err != nil {
			return fmt.Errorf("recording what is in use: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			os.Remove(f.Name())
			return fmt.Errorf("recording what is in use: locking %s: %w", f.Name(), err)
		}
		s.own(f)
		s.lease = &lease{f: f, held: map[digest.Digest]bool{}}
	}
	var lines []byte
	for _, d := range digests {
		if !s.lease.held[d] {
			lines = append(append(lines, d...), '\n')
		}
	}
	if len(lines) == 0 {
		return nil
	}
	if _, err := s.lease.f.Write(lines); err != nil {
		return fmt.Errorf("recording what is in use: %w", err)
	}
	for _, d := range digests {
		s.lease.held[d] = true
	}
	return nil
}

// holdForReading does the same for a reader. In a store that can't be written, or on a full disk, it reads without.
func (s *Store) holdForReading(ctx context.Context, digests ...digest.Digest) error {
	if s.prepare(ctx) == nil {
		l, err := s.lockStore(ctx, shared)
		if err == nil {
			defer l.unlock()
			if err := s.hold(digests...); err != nil {
				s.log.Debug("reading from the store without a lease", "error", err)
			}
		}
	}
	return ctx.Err()
}

// held returns what living processes rely on. The caller holds the store's exclusive lock, so no lease is being begun.
func (s *Store) held() (map[digest.Digest]bool, error) {
	held := map[digest.Digest]bool{}
	entries, err := os.ReadDir(s.path("leases"))
	if errors.Is(err, fs.ErrNotExist) {
		return held, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(s.path("leases"), e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		scanner := bufio.NewScanner(f)
		for scanner.Scan() {
			held[digest.Digest(scanner.Text())] = true
		}
		err = scanner.Err()
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", f.Name(), err)
		}
	}
	return held, nil
}
