// Package archive reads and writes the forms in which containers are carried as files: an OCI image layout in a directory (oci:) or a tar file
// (oci-archive:), the tar file of docker save in its old and its new form (docker-archive:), and skopeo's directory (dir:).
//
// Nothing is unpacked for reading: blobs are read where they lie. Only an archive that is compressed as a whole is decompressed into a file without
// a name first. Everything that is written appears under its name when it is complete, and the same container gives the same bytes.
//
// Formats: OCI image-spec v1.1 image-layout.md; Docker image specification v1.2, "Combined image JSON + filesystem changeset format";
// containers-transports(5) for dir.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/reference"
)

// ErrNotFound says that an archive has no container of the name asked for. It is [fs.ErrNotExist] too.
var ErrNotFound error = notFoundError{}

type notFoundError struct{}

func (notFoundError) Error() string        { return "not in the archive" }
func (notFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// Options says how archives are read.
type Options struct {
	Platform string // OS/ARCH[/VARIANT] to take out of an index of several; empty for this machine's
	TempDir  string // where a compressed archive is decompressed; empty for [os.TempDir]
}

// Archive is one container in an archive. It is a [v1.Image] until it is closed. Its layers are [manifest.BlobLayer]s; their digests are not
// checked by reading them.
type Archive struct {
	v1.Image
	Name string // that the archive gives the container, NAME:TAG as a rule; may be empty
	in   files
}

// Close closes the archive.
func (a *Archive) Close() error { return a.in.Close() }

// Open opens the container that a reference with the transport oci, oci-archive, docker-archive or dir names. Without a REF in it the archive must have
// exactly one container. Errors about what the archive holds are [manifest.ErrInvalid] or [ErrNotFound].
func Open(ctx context.Context, ref reference.Reference, opts Options) (*Archive, error) {
	in, err := openFiles(ctx, ref, opts)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", ref, err)
	}
	a := &Archive{in: in}
	switch ref.Transport {
	case reference.OCI, reference.OCIArchive:
		err = a.openLayout(ref, opts)
	case reference.DockerArchive:
		err = a.openDocker(ref)
	case reference.Dir:
		err = a.openDir()
	}
	if err != nil {
		in.Close()
		return nil, fmt.Errorf("opening %s: %w", ref, err)
	}
	return a, nil
}

// Names returns the names of the containers in an archive, in its order; those without a name are left out.
func Names(ctx context.Context, ref reference.Reference, opts Options) ([]string, error) {
	in, err := openFiles(ctx, ref, opts)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", ref, err)
	}
	defer in.Close()
	var names []string
	switch ref.Transport {
	case reference.OCI, reference.OCIArchive:
		names, err = layoutNames(in)
	case reference.DockerArchive:
		names, err = dockerNames(in)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the names in %s: %w", ref, err)
	}
	return names, nil
}

// files is what an archive holds, by slash-separated paths without a leading "./".
type files interface {
	open(name string) (manifest.Blob, error) // [fs.ErrNotExist] if there is no such file
	io.Closer
}

func openFiles(ctx context.Context, ref reference.Reference, opts Options) (files, error) {
	switch ref.Transport {
	case reference.OCI, reference.Dir:
		root, err := os.OpenRoot(ref.Path)
		if err != nil {
			return nil, err
		}
		return dirFiles{root}, nil
	case reference.OCIArchive, reference.DockerArchive:
		return openTar(ctx, ref.Path, opts)
	}
	return nil, fmt.Errorf("%q is not the transport of an archive", ref.Transport)
}

// dirFiles is a directory. No path or symbolic link leads out of it.
type dirFiles struct{ root *os.Root }

func (d dirFiles) open(name string) (manifest.Blob, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("opening %s: %w: it is no regular file", name, manifest.ErrInvalid)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &fileBlob{f, info.Size()}, nil
}

func (d dirFiles) Close() error { return d.root.Close() }

type fileBlob struct {
	*os.File
	size int64
}

func (b *fileBlob) Size() int64 { return b.size }

// readSmall reads a file of metadata with a bound on its size in bytes.
func readSmall(in files, name string, limit int64) ([]byte, error) {
	blob, err := in.open(name)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	if blob.Size() > limit {
		return nil, fmt.Errorf("reading %s: %w: it has %d bytes, more than the %d allowed", name, manifest.ErrInvalid, blob.Size(), limit)
	}
	data := make([]byte, blob.Size())
	if _, err := io.ReadFull(io.NewSectionReader(blob, 0, blob.Size()), data); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return data, nil
}

// missing makes the error for a file that the format demands.
func missing(err error, name, what string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: it has no file %s, so it is no %s", manifest.ErrInvalid, name, what)
	}
	return err
}

// platformOf reads the platform that is wanted.
func platformOf(opts Options) (v1.Platform, error) {
	if opts.Platform == "" {
		return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
	}
	p, err := v1.ParsePlatform(opts.Platform)
	if err != nil {
		return v1.Platform{}, fmt.Errorf("reading the platform %q: %w; write OS/ARCH, as linux/arm64", opts.Platform, err)
	}
	return *p, nil
}

// pick chooses by name among the containers of an archive.
func pick[T any](all []T, name string, is func(T) bool, names []string) (T, error) {
	var zero T
	if name == "" {
		switch len(all) {
		case 0:
			return zero, fmt.Errorf("%w: it is empty", ErrNotFound)
		case 1:
			return all[0], nil
		}
		return zero, fmt.Errorf("%w: it holds %d containers; add one of %s after a colon", ErrNotFound, len(all), strings.Join(names, ", "))
	}
	for _, one := range all {
		if is(one) {
			return one, nil
		}
	}
	if len(names) == 0 {
		return zero, fmt.Errorf("%w: %s, and nothing in it has a name", ErrNotFound, name)
	}
	return zero, fmt.Errorf("%w: %s; it holds %s", ErrNotFound, name, strings.Join(names, ", "))
}

// clean brings a path of an archive into the form of files.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }
