// Package archive builds the image type tbz: the root tree as a tar archive, compressed by xz.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
)

// Builder builds root archives. It implements [image.Builder].
type Builder struct{}

// extension is that of the result.
const extension = ".tar.xz"

// Check refuses a machine without xz.
func (Builder) Check(context.Context, *image.Request) error {
	_, err := command.Find("xz")
	return err
}

// Plan says how large the archive is before compression.
func (Builder) Plan(_ context.Context, r *image.Request) (string, error) {
	r, err := r.Filled()
	if err != nil {
		return "", err
	}
	stats := r.Tree.Stats()
	return fmt.Sprintf("archive: %s%s, %d entries, %s before compression\n", r.BaseName, extension, stats.Entries, progress.FormatBytes(stats.Data)), nil
}

// Build writes BaseName.tar.xz. The same tree gives the same tar, and with the same version of xz the same file.
func (Builder) Build(ctx context.Context, r *image.Request) ([]image.Artifact, error) {
	r, err := r.Filled()
	if err != nil {
		return nil, err
	}
	tree, err := image.WithoutBuildFiles(r.Tree)
	if err != nil {
		return nil, err
	}
	name := r.BaseName + extension
	f, err := os.OpenFile(filepath.Join(r.Dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("building an archive: %w", err)
	}
	task := r.Progress.Start("writing "+name, tree.Stats().Data, progress.Bytes)
	err = compress(ctx, f, tree, task)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	task.Done(err)
	if err != nil {
		return nil, fmt.Errorf("building an archive: %w", err)
	}
	return []image.Artifact{{Key: image.KeyRootArchive, File: name, UseForBundle: true}}, nil
}

// compress runs xz with the tree's tar as its input. With two threads or more xz cuts its input into blocks of a fixed size, so that the
// number of processors does not change the bytes.
func compress(ctx context.Context, out *os.File, tree *layers.Tree, task progress.Task) error {
	r, w := io.Pipe()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := layers.WriteTar(ctx, w, tree, layers.TarOptions{Sparse: true, Progress: task.Add})
		w.CloseWithError(err)
		if errors.Is(err, io.ErrClosedPipe) {
			return nil // xz has gone and says why
		}
		return err
	})
	group.Go(func() error {
		err := command.Run(ctx, command.Cmd{Name: "xz", Args: []string{"--threads=" + strconv.Itoa(max(runtime.NumCPU(), 2)), "--stdout"}, Stdin: r, Stdout: out})
		r.CloseWithError(io.ErrClosedPipe)
		return err
	})
	return group.Wait()
}
