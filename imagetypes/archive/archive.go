// Package archive builds the image types that are the root tree in one archive: tar, compressed or not, and cpio.
package archive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/xz"
	"github.com/imgbuild/imgbuild/layers"
)

// Builder builds root archives. It implements [image.Builder].
type Builder struct{}

// form is one kind of archive.
type form struct {
	extension string
	// check refuses a tree that the form can't hold, and a machine that lacks what the form needs. The tree may be nil.
	check func(*layers.Tree) error
	write func(ctx context.Context, out io.Writer, tree *layers.Tree, task progress.Task) error
	// loses tells what of a tree has no place in the archive; nil where all of it has.
	loses func(*layers.Tree) []layers.Note
}

// formOf returns the form of an image type.
func formOf(r *image.Request) (form, error) {
	switch kind := r.Description.Type.Image; kind {
	case "tbz":
		return form{".tar.xz", func(*layers.Tree) error { return CheckXZ(r.XZ) }, xzTar(r.XZ), nil}, nil
	case "tar":
		return form{".tar", anyTree, tar, nil}, nil
	case "tar.gz":
		return form{".tar.gz", anyTree, compressedTar(layers.Compression{Algorithm: layers.Gzip}), nil}, nil
	case "tar.zst":
		return form{".tar.zst", anyTree, compressedTar(layers.DefaultCompression()), nil}, nil
	case "cpio":
		return form{".cpio", func(tree *layers.Tree) error { return checkCPIO(&r.Description.Type, tree) }, writeCPIO, lostInCPIO}, nil
	default:
		return form{}, fmt.Errorf("building an archive: %q is no kind of archive", kind)
	}
}

func anyTree(*layers.Tree) error { return nil }

// CheckXZ refuses a machine that lacks what [XZ] needs.
func CheckXZ(options []string) error {
	if len(options) == 0 {
		return nil
	}
	_, err := command.Find("xz")
	return err
}

// Check refuses what the kind of archive can't hold, and a machine without the program that it needs.
func (Builder) Check(_ context.Context, r *image.Request) error {
	f, err := formOf(r)
	if err != nil {
		return err
	}
	return f.check(r.Tree)
}

// Plan says how large the archive is before compression.
func (Builder) Plan(_ context.Context, r *image.Request) (string, error) {
	r, err := r.Filled()
	if err != nil {
		return "", err
	}
	f, err := formOf(r)
	if err != nil {
		return "", err
	}
	stats := r.Tree.Stats()
	return fmt.Sprintf("archive: %s%s, %d entries, %s before compression\n", r.BaseName, f.extension, stats.Entries, progress.FormatBytes(stats.Data)), nil
}

// Build writes BaseName.tar.xz, or what else the type says. The same tree gives the same file.
func (Builder) Build(ctx context.Context, r *image.Request) ([]image.Artifact, error) {
	r, err := r.Filled()
	if err != nil {
		return nil, err
	}
	f, err := formOf(r)
	if err != nil {
		return nil, err
	}
	tree, err := image.WithoutBuildFiles(r.Tree)
	if err != nil {
		return nil, err
	}
	name := r.BaseName + f.extension
	if f.loses != nil {
		report(ctx, r.Log, name, f.loses(tree))
	}
	task := r.Progress.Start("writing "+name, tree.Stats().Data, progress.Bytes)
	err = writeFile(filepath.Join(r.Dir, name), func(out *os.File) error { return f.write(ctx, out, tree, task) })
	task.Done(err)
	if err != nil {
		return nil, fmt.Errorf("building an archive: %w", err)
	}
	plain := f.extension == ".tar" || f.extension == ".cpio"
	return []image.Artifact{{Key: image.KeyRootArchive, File: name, Compress: plain && r.Compress(true), UseForBundle: true}}, nil
}

// report warns of what an archive loses: of the first by their names, of the others by their number, with the names for the log.
func report(ctx context.Context, log *slog.Logger, archive string, lost []layers.Note) {
	const shown = 20
	for i, n := range lost {
		level := slog.LevelWarn
		if i >= shown {
			level = slog.LevelInfo
		}
		log.Log(ctx, level, "the archive can't hold all of it", "archive", archive, "path", n.Path, "what", n.Text)
	}
	if len(lost) > shown {
		log.Warn("the archive can't hold all of others too; --logfile keeps their names", "archive", archive, "others", len(lost)-shown)
	}
}

func writeFile(name string, write func(*os.File) error) error {
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(write(out), out.Close())
}

func tar(ctx context.Context, out io.Writer, tree *layers.Tree, task progress.Task) error {
	return layers.WriteTar(ctx, out, tree, layers.TarOptions{Sparse: true, Progress: task.Add})
}

// compressedTar compresses in pieces, several at a time, which every reader takes for one stream.
func compressedTar(c layers.Compression) func(context.Context, io.Writer, *layers.Tree, progress.Task) error {
	return func(ctx context.Context, out io.Writer, tree *layers.Tree, task progress.Task) error {
		buffered := bufio.NewWriterSize(out, 1<<20)
		_, err := layers.Compress(ctx, buffered, layers.PackOptions{Compression: c}, func(w io.Writer) error { return tar(ctx, w, tree, task) })
		return errors.Join(err, buffered.Flush())
	}
}

func xzTar(options []string) func(context.Context, io.Writer, *layers.Tree, progress.Task) error {
	return func(ctx context.Context, out io.Writer, tree *layers.Tree, task progress.Task) error {
		return XZ(ctx, out, options, func(w io.Writer) error { return tar(ctx, w, tree, task) })
	}
}

// XZ writes what fill writes to out, compressed into the format .xz: by package xz or, where a user asks for options of the program xz, by that. The bytes
// do not depend on the number of processors.
func XZ(ctx context.Context, out io.Writer, options []string, fill func(io.Writer) error) error {
	if len(options) > 0 {
		return xzProgram(ctx, out, options, fill)
	}
	buffered := bufio.NewWriterSize(out, 1<<20)
	err := xz.Compress(ctx, buffered, func(w io.Writer) error {
		toBlocks := bufio.NewWriterSize(w, 1<<18) // headers of a tar are small
		return errors.Join(fill(toBlocks), toBlocks.Flush())
	})
	if err != nil {
		return err
	}
	return buffered.Flush()
}

// xzProgram runs xz. With two threads or more it cuts its input into blocks of a fixed size.
func xzProgram(ctx context.Context, out io.Writer, options []string, fill func(io.Writer) error) error {
	r, w := io.Pipe()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := fill(w)
		w.CloseWithError(err)
		if errors.Is(err, io.ErrClosedPipe) {
			return nil // xz has gone and says why
		}
		return err
	})
	group.Go(func() error {
		args := append([]string{"--threads=" + strconv.Itoa(max(runtime.NumCPU(), 2))}, options...)
		err := command.Run(ctx, command.Cmd{Name: "xz", Args: append(args, "--stdout"), Stdin: r, Stdout: out})
		r.CloseWithError(io.ErrClosedPipe)
		return err
	})
	return group.Wait()
}
