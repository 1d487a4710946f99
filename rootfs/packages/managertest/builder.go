package managertest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/toolbox"
)

// Builder is a root tree that lends its programs to sessions outside of a tree, as a builder container does for a machine that has none of them.
type Builder struct {
	// Dir is where it is unpacked.
	Dir string
	box *toolbox.Toolbox
	top string
}

// BuilderOf opens the root tree in the tar file that an environment variable names. It is nil where there is none: then this machine lends its programs.
func BuilderOf(variable string) (*Builder, error) {
	if name := os.Getenv(variable); name != "" {
		return OpenBuilder(context.Background(), name)
	}
	return nil, nil //nolint:nilnil // none is fine
}

// OpenBuilder opens the root tree in a tar file. Close removes what it needed.
func OpenBuilder(ctx context.Context, archive string) (b *Builder, err error) {
	file, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	top, err := os.MkdirTemp("", "builder-")
	if err != nil {
		return nil, err
	}
	b = &Builder{Dir: filepath.Join(top, "root"), top: top}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	layer, err := layers.ReadLayer(ctx, blob{file, info.Size()}, layers.ReadOptions{})
	if err != nil {
		return nil, err
	}
	packed, err := layers.Apply(nil, layer)
	if err != nil {
		return nil, err
	}
	if _, err := layers.WriteDir(ctx, b.Dir, packed, layers.DirOptions{}); err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chmod(top, 0o755), os.Chmod(b.Dir, 0o755)); err != nil {
		return nil, err
	}
	tree, _, err := layers.ScanDir(ctx, b.Dir, layers.ScanOptions{})
	if err != nil {
		return nil, err
	}
	b.box = toolbox.Open(toolbox.Options{
		Workdir: top, Builder: func(context.Context) (*layers.Tree, error) { return tree, nil },
		Find: func(name string) (string, error) { return "", &command.MissingError{Program: name} },
	})
	return b, nil
}

// Close removes what the builder is unpacked into.
func (b *Builder) Close() error {
	if b == nil {
		return nil
	}
	var err error
	if b.box != nil {
		err = b.box.Close()
	}
	return errors.Join(err, os.RemoveAll(b.top))
}

// toolbox is the builder's, or one of this machine that lasts as long as the test.
func (w *World) toolbox(t *testing.T) *toolbox.Toolbox {
	t.Helper()
	if w.Builder != nil {
		return w.Builder.box
	}
	box := toolbox.Open(toolbox.Options{Workdir: w.Work})
	t.Cleanup(func() { Must(t, box.Close()) })
	return box
}

// Change runs the customize scripts of repositories with this machine's programs.
func Change(t *testing.T, source files.Source) repositories.Change {
	t.Helper()
	work := t.TempDir()
	box := toolbox.Open(toolbox.Options{Workdir: work})
	t.Cleanup(func() { Must(t, box.Close()) })
	return func(r repositories.Repository, name string, data []byte) ([]byte, error) {
		return r.Customize(t.Context(), repositories.CustomizeOptions{Files: source, Run: box.Run, Workdir: work, Name: name, Data: data})
	}
}

type blob struct {
	*os.File
	size int64
}

func (b blob) Size() int64 { return b.size }
