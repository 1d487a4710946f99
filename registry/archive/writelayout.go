package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/atomicfile"
	"github.com/imgbuild/imgbuild/internal/lockeddir"
	"github.com/imgbuild/imgbuild/registry/manifest"
)

// writeLayoutDir makes an OCI image layout, or puts a container into one that is there.
func (p *parts) writeLayoutDir(ctx context.Context, dir string, desc v1.Descriptor) error {
	dir = filepath.Clean(dir)
	switch entries, err := os.ReadDir(dir); {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0:
		return stage(dir, func(tmp newDir) error {
			if err := p.writeLayout(ctx, tmp, desc); err != nil {
				return err
			}
			sub := filepath.Join(string(tmp), ispec.ImageBlobsDir)
			return errors.Join(atomicfile.SyncDir(filepath.Join(sub, "sha256")), atomicfile.SyncDir(sub))
		})
	case err != nil:
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, ispec.ImageLayoutFile)); err != nil {
		return fmt.Errorf("%s holds something else than an OCI image layout; give another directory: %w", dir, fs.ErrExist)
	}
	return p.addToLayout(ctx, dir, desc)
}

// addToLayout writes the blobs that are missing and then the index, under a lock of the directory that keeps other imgbuilds away.
func (p *parts) addToLayout(ctx context.Context, dir string, desc v1.Descriptor) error {
	lock, err := lockDir(ctx, dir)
	if err != nil {
		return err
	}
	defer lockeddir.Unlock(lock)
	sub := filepath.Join(dir, ispec.ImageBlobsDir, "sha256")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		return err
	}
	for _, b := range p.layoutBlobs(desc) {
		if err := p.addBlob(ctx, dir, filepath.Join(sub, b.desc.Digest.Hex), b); err != nil {
			return err
		}
	}
	if err := atomicfile.SyncDir(sub); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	in := dirFiles{root}
	defer in.Close()
	descs, err := layoutIndex(in)
	if err != nil {
		return err
	}
	name := desc.Annotations[ispec.AnnotationRefName]
	descs = slices.DeleteFunc(descs, func(d v1.Descriptor) bool { return d.Annotations[ispec.AnnotationRefName] == name })
	index, err := indexText(append(descs, desc))
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, ispec.ImageIndexFile), 0o644, func(f *os.File) error { _, err := f.Write(index); return err })
}

// addBlob writes a blob unless it is there with its size. The temporary file lies outside of blobs, where only digests belong.
func (p *parts) addBlob(ctx context.Context, dir, name string, b blob) error {
	if err := manifest.CheckDigest(b.desc.Digest); err != nil {
		return err
	}
	if info, err := os.Stat(name); err == nil && info.Size() == b.desc.Size {
		return nil
	}
	f, err := os.CreateTemp(dir, ".imgbuild-")
	if err != nil {
		return err
	}
	defer f.Close()
	err = p.copy(ctx, f, b)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// lockDir waits for the exclusive flock(2) of a directory.
func lockDir(ctx context.Context, dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err := lockeddir.TryLock(f)
		if err == nil {
			return f, nil
		}
		if err != unix.EWOULDBLOCK {
			f.Close()
			return nil, &fs.PathError{Op: "flock", Path: dir, Err: err}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
