// Package ctxio lets long copies end with their context.
package ctxio

import (
	"context"
	"io"
)

// Reader returns a reader of r that fails with the cause of ctx once that has ended.
func Reader(ctx context.Context, r io.Reader) io.Reader { return reader{ctx, r} }

type reader struct {
	ctx context.Context
	r   io.Reader
}

func (c reader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
