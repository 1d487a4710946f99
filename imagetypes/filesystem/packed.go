package filesystem

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/layers"
)

// squashfs, erofs and cramfs are as large as their compressed content: they are made in a file of their own first, and copied to their place.

// maker makes a file system in a file without a name, and returns its size in bytes.
type maker func(ctx context.Context, env Env, tree *layers.Tree, spec Spec) (*os.File, int64, error)

// packed is a format whose file systems are made that way.
func packed(name string, tools []string, check func(Spec) error, making maker) format {
	return format{
		types: []string{name}, tools: tools, check: check,
		size: func(ctx context.Context, env Env, tree *layers.Tree, spec Spec) (int64, error) {
			return sizePacked(ctx, env, tree, spec, making)
		},
		write: func(ctx context.Context, env Env, f *os.File, offset, size int64, tree *layers.Tree, spec Spec) error {
			return writePacked(ctx, env, f, offset, size, tree, spec, making)
		},
	}
}

// Cache keeps a file system that [Size] has made to find out how large it is, so that [Write] need not make it again. It must be closed.
type Cache struct {
	mu   sync.Mutex
	tree *layers.Tree
	spec string
	file *os.File
	size int64
}

// Close drops what is kept.
func (c *Cache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file == nil {
		return nil
	}
	err := c.file.Close()
	c.file = nil
	return err
}

// made returns the finished file system, which lies in a file without a name, and its size.
func (c *Cache) made(ctx context.Context, env Env, tree *layers.Tree, spec Spec, making maker) (*os.File, int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := fmt.Sprintf("%q", []any{spec.Type, spec.Label, spec.UUID, spec.MkfsOptions, spec.Compression, env.Repro.Epoch})
	if c.file != nil && c.tree == tree && c.spec == key {
		return c.file, c.size, nil
	}
	f, size, err := making(ctx, env, tree, spec)
	if err != nil {
		return nil, 0, err
	}
	if c.file != nil {
		if err := c.file.Close(); err != nil {
			return nil, 0, err
		}
	}
	c.tree, c.spec, c.file, c.size = tree, key, f, size
	return f, size, nil
}

func sizePacked(ctx context.Context, env Env, tree *layers.Tree, spec Spec, making maker) (int64, error) {
	if env.Cache == nil {
		own := &Cache{}
		defer own.Close()
		env.Cache = own
	}
	_, size, err := env.Cache.made(ctx, env, tree, spec, making)
	return size, err
}

func writePacked(ctx context.Context, env Env, f *os.File, offset, size int64, tree *layers.Tree, spec Spec, making maker) error {
	if env.Cache == nil {
		own := &Cache{}
		defer own.Close()
		env.Cache = own
	}
	made, need, err := env.Cache.made(ctx, env, tree, spec, making)
	if err != nil {
		return err
	}
	if need > size {
		return fmt.Errorf("it needs %d MiB, %d MiB more than it may have", need>>20, (need-size+1<<20-1)>>20)
	}
	return copyRange(f, offset, made, need)
}

// copyRange copies the first n bytes of a file to an offset of another one, inside the kernel where the files' file systems allow it.
func copyRange(to *os.File, offset int64, from *os.File, n int64) error {
	at, kernel := int64(0), true
	for at < n && kernel {
		in, out := at, offset+at
		done, err := unix.CopyFileRange(int(from.Fd()), &in, int(to.Fd()), &out, int(min(n-at, 1<<30)), 0)
		if done > 0 {
			at += int64(done)
		}
		kernel = err == nil && done > 0
	}
	_, err := io.CopyBuffer(io.NewOffsetWriter(to, offset+at), struct{ io.Reader }{io.NewSectionReader(from, at, n-at)}, make([]byte, 1<<20))
	return err
}
