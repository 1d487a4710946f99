package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/atomicfile"
)

// reserveSize is how many bytes are kept for replacing the index on a full disk.
const reserveSize = 256 << 10

// prepare makes the store ready for writing: the layout exists, and what dead processes left over is gone.
func (s *Store) prepare(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writable {
		return nil
	}
	if err := s.makeDirs(); err != nil {
		return fmt.Errorf("making the store %s: %w", s.dir, err)
	}
	l, err := s.lockStore(ctx, exclusive)
	if err != nil {
		return err
	}
	defer l.unlock()
	if err := s.makeLayout(); err != nil {
		return fmt.Errorf("making the store %s: %w", s.dir, err)
	}
	s.cleanTemp()
	s.makeReserve()
	s.writable = true
	return nil
}

func (s *Store) makeDirs() error {
	// Containers hold password hashes and keys: the store is its owner's alone.
	if err := makeAll(s.dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(s.dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.owner = &owner{int(st.Uid), int(st.Gid)}
	}
	dirs := []string{filepath.Join(s.dir, "blobs"), filepath.Join(s.dir, "blobs", "sha256"), s.path()}
	for _, sub := range []string{"names", "leases", "tmp", "partial", "index"} {
		dirs = append(dirs, s.path(sub))
	}
	for _, dir := range dirs {
		err := os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		s.own(f)
		f.Close()
		if err := atomicfile.SyncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// makeAll makes a directory that is missing, and those above it, so that they are there after a crash too.
func makeAll(dir string, perm os.FileMode) error {
	err := os.Mkdir(dir, perm)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeAll(filepath.Dir(dir), 0o755); err != nil {
			return err
		}
		err = os.Mkdir(dir, perm)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := atomicfile.SyncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) { // one may write where one may not read
		return err
	}
	return nil
}

// makeLayout writes what an empty layout has. The file oci-layout comes last: with it the layout is complete.
func (s *Store) makeLayout() error {
	layout := filepath.Join(s.dir, ispec.ImageLayoutFile)
	if _, err := os.Stat(layout); err == nil {
		return nil
	}
	index := filepath.Join(s.dir, ispec.ImageIndexFile)
	if _, err := os.Stat(index); errors.Is(err, fs.ErrNotExist) {
		if err := (&engine{store: s}).PutIndex(context.Background(), ispec.Index{}); err != nil {
			return err
		}
	}
	data, err := json.Marshal(ispec.ImageLayout{Version: ispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	return s.replace(layout, append(data, '\n'))
}

// makeReserve fills the reserve up again. That it fails on a full disk is what it is for.
func (s *Store) makeReserve() {
	f, err := os.OpenFile(s.path("reserve"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	s.own(f)
	if info, err := f.Stat(); err == nil && info.Size() < reserveSize {
		if unix.Fallocate(int(f.Fd()), 0, 0, reserveSize) != nil {
			_ = f.Truncate(0)
		}
	}
}

// replace writes a file of the store under a temporary name, syncs it and puts it in the place of the one at name.
func (s *Store) replace(name string, data []byte) error {
	f, err := s.newTemp()
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	defer f.Close()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return atomicfile.SyncDir(filepath.Dir(name))
}

// cleanTemp removes the temporary files and leases of processes that are dead.
func (s *Store) cleanTemp() int64 {
	return s.removeStale(s.path("tmp"), nil) + s.removeStale(s.path("leases"), nil)
}
